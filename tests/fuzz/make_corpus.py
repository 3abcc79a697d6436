#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets: make_corpus.py FOLDER makes FOLDER/gguf, FOLDER/json, ..."""

import json
import pathlib
import struct
import sys


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(key, kind, data):
    return string(key) + struct.pack("<I", kind) + data


def array(key, kind, items):
    return value(key, 9, struct.pack("<IQ", kind, len(items)) + b"".join(items))


def gguf(version, metadata, tensors, alignment=32):
    """tensors: (name, dimensions with the innermost first, ggml type, data)"""
    table, data = b"", b""
    for name, dims, kind, content in tensors:
        table += string(name) + struct.pack("<I", len(dims))
        table += b"".join(struct.pack("<Q", d) for d in dims) + struct.pack("<IQ", kind, len(data))
        data += content + bytes(-len(content) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(metadata)) + b"".join(metadata) + table
    return head + bytes(-len(head) % alignment) + data


# Bytes of a block of every quantised type that is read, and its elements.
BLOCKS = {2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32), 12: (144, 256), 13: (176, 256),
          14: (210, 256)}


def gguf_seeds():
    llama = [value("general.architecture", 8, string("llama")),
             value("llama.attention.head_count", 4, struct.pack("<I", 2)),
             value("llama.attention.head_count_kv", 4, struct.pack("<I", 1))]
    yield gguf(3, llama, [("blk.0.attn_q.weight", [32, 8], 8, bytes(8 * 34)),
                          ("blk.0.attn_k.bias", [4], 0, bytes(16)),
                          ("output_norm.weight", [4], 0, bytes(16))])
    yield gguf(2, [], [(f"t{kind}", [n, 2], kind, bytes(2 * size)) for kind, (size, n) in BLOCKS.items()])
    yield gguf(3, [], [("f16", [4], 1, bytes(8)), ("bf16", [4, 1, 1], 30, bytes(8)), ("i64", [1], 27, bytes(8))])
    plain = ["<B", "<b", "<H", "<h", "<I", "<i", "<f", "<B", None, None, "<Q", "<q", "<d"]
    numbers = [value(f"v{i}", i, struct.pack(f, 1)) for i, f in enumerate(plain) if f]
    lists = [array(f"a{i}", i, [struct.pack(f, 1)] * 2) for i, f in enumerate(plain) if f]
    yield gguf(3, numbers + lists + [array("s", 8, [string("a"), string("")])], [])
    yield gguf(3, [value("general.alignment", 4, struct.pack("<I", 64))], [("t", [1], 0, bytes(4))], 64)
    yield gguf(3, [value("split.no", 2, struct.pack("<H", 0)), value("split.count", 2, struct.pack("<H", 1))], [])


def safetensors(header, data):
    text = header if isinstance(header, str) else json.dumps(header)
    return struct.pack("<Q", len(text)) + text.encode() + data


def safetensors_seeds():
    entry = lambda kind, shape, begin, end: {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    yield safetensors({}, b"")
    yield safetensors({"__metadata__": {"format": "pt"}, "a": entry("F32", [2, 1], 0, 8),
                       "b": entry("BF16", [2], 8, 12), "c": entry("F16", [], 12, 14)}, bytes(14))
    yield safetensors({"d": entry("I64", [1], 0, 8), "e": entry("F4", [4, 0], 8, 8)}, bytes(8))
    yield safetensors({"n\u00e9": entry("F8_E4M3", [1, 1, 1, 2], 0, 2)}, bytes(2))


def json_seeds():
    yield b'{"weight_map": {"x": "a"}, "metadata": {"total_size": 0}}'
    yield b'[1, -2.5e3, true, null, "\\u00e9\\n", {"a": [[[]]]}]'
    yield b'{"architectures": ["LlamaForCausalLM"], "rope_scaling": null, "rms_norm_eps": 1e-05}'


def jsonl_seeds():
    yield b'{"id": "a", "prompt": "x"}\r\n\n{"id": "b", "tokens": [1, 2], "max_new_tokens": 3, "stop": ["\\n"]}\n'
    yield b'{"id": "a", "prompt": "\xc3\xa9", "stop": ".", "seed": 7, "temperature": 0.5}\n{"id": "a"}\n[]'
    yield b'{"id": "line 2", "prompt": null, "promt": 1}\n{"id": "line 2", "tokens": null}\n{'


def config_seeds():
    """The first byte chooses, modulo 4: config.json, YAML, GGUF without its magic, a machine."""
    llama = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 128,
             "intermediate_size": 80, "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
             "rms_norm_eps": 1e-05, "rope_theta": 1e4, "max_position_embeddings": 2048, "torch_dtype": "float32",
             "tie_word_embeddings": False, "eos_token_id": [2]}
    yield b"\0" + json.dumps(llama).encode()
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": 64}
    yield b"\0" + json.dumps(llama | {"rope_scaling": scaling}).encode()
    yield b"\0" + json.dumps(llama | {"rope_scaling": {"type": "linear", "factor": 4.0}}).encode()
    numbers = {"block_count": 1, "embedding_length": 32, "feed_forward_length": 24, "context_length": 64,
               "attention.head_count": 4}
    metadata = [value("general.architecture", 8, string("llama"))]
    metadata += [value(f"llama.{key}", 4, struct.pack("<I", n)) for key, n in numbers.items()]
    yield b"\2" + gguf(3, metadata, [("token_embd.weight", [32, 10], 0, bytes(1280)),
                                     ("rope_freqs.weight", [4], 0, struct.pack("<4f", 1, 1, 2, 8))])[4:]
    metadata += [value("llama.rope.scaling.type", 8, string("yarn")),
                 value("llama.rope.scaling.factor", 6, struct.pack("<f", 4)),
                 value("llama.vocab_size", 4, struct.pack("<I", 10))]
    yield b"\2" + gguf(3, metadata, [])[4:]
    yield b"\1" + b"model:\n  path: /m\npolicy:\n  name: cake\n  cache_size: 512\n  window: 32\n"
    yield b"\3" + (b"name: m\ndevices_per_node: 8\nshared: true\nmemory_bytes: 1GiB\nread_gb_s: 1\ngemm_tflop_s: 1\n"
                   b"attention_tflop_s: 1\nlink_gb_s: 1\nlink_latency_us: 0\nnetwork_gb_s: 1\nnetwork_latency_us: 0\n"
                   b"backend: cpu\n")


def added(i, text, **flags):
    return {"id": i, "content": text, "special": True, "normalized": False} | flags


def tokenizer_seeds():
    """The tokenizers of tests/text/small_tokenizers.h, and the steps that real ones have beside them."""
    pre = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    byte_level = {"added_tokens": [added(7, "<end>")], "normalizer": None, "pre_tokenizer": pre,
                  "decoder": {"type": "ByteLevel"},
                  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "\u0120": 3, "\u0120ab": 4, "\u00c3": 5,
                                                     "\u00a9": 6}, "merges": ["a b", "\u0120 ab"]}}
    yield json.dumps(byte_level).encode()
    split = {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+"},
             "behavior": "Isolated", "invert": False}
    qwen2 = byte_level | {"normalizer": {"type": "NFC"}, "added_tokens": [added(7, "<s>", lstrip=True, rstrip=True)],
                          "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, pre | {"use_regex": False}]}}
    yield json.dumps(qwen2).encode()
    yield json.dumps(byte_level | {"model": byte_level["model"] | {"ignore_merges": True,
                                                                   "merges": [["a", "b"]]}}).encode()
    smollm2 = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, pre]}
    yield json.dumps(byte_level | {"pre_tokenizer": smollm2}).encode()

    replace = lambda a, b: {"type": "Replace", "pattern": {"String": a}, "content": b}
    vocab = {"<unk>": 0, "<s>": 1, "<0xC3>": 2, "<0xA9>": 3, "\u2581": 4, "a": 5, "\u2581a": 6, "<0x0A>": 7}
    sentencepiece = {
        "added_tokens": [added(0, "<unk>"), added(1, "<s>")],
        "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
        "post_processor": {"type": "TemplateProcessing",
                           "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                           "special_tokens": {"<s>": {"ids": [1]}}},
        "decoder": {"type": "Sequence", "decoders": [replace("\u2581", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                                                     {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "vocab": vocab,
                  "merges": [["\u2581", "a"]]}}
    yield json.dumps(sentencepiece).encode()
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, replace(" ", "\u2581")]}
    yield json.dumps(sentencepiece | {"normalizer": prepend, "pre_tokenizer": None}).encode()
    yield json.dumps(sentencepiece, ensure_ascii=False).encode()

    lists = lambda tokens, types: [array("tokenizer.ggml.tokens", 8, [string(t) for t in tokens]),
                                   array("tokenizer.ggml.token_type", 5, [struct.pack("<i", t) for t in types])]
    ends = [value(f"tokenizer.ggml.{key}_token_id", 4, struct.pack("<I", 1)) for key in ("bos", "eos")]
    yield gguf(3, [value("tokenizer.ggml.model", 8, string("llama"))]
               + lists(vocab, [2, 3, 6, 6, 1, 1, 1, 6]) + ends
               + [array("tokenizer.ggml.scores", 6, [struct.pack("<f", -i) for i in range(len(vocab))])], [])
    yield gguf(3, [value("tokenizer.ggml.model", 8, string("gpt2")), value("tokenizer.ggml.pre", 8, string("qwen2")),
                   array("tokenizer.ggml.merges", 8, [string("a b"), string("\u0120 ab")])]
               + lists(["a", "b", "ab", "\u0120", "\u0120ab", "\u00c3", "\u00a9", "<end>"], [1] * 7 + [3]) + ends, [])


SEEDS = {"gguf": gguf_seeds, "safetensors": safetensors_seeds, "json": json_seeds, "jsonl": jsonl_seeds,
         "config": config_seeds, "tokenizer": tokenizer_seeds}


def main():
    for kind, seeds in SEEDS.items():
        folder = pathlib.Path(sys.argv[1]) / kind
        folder.mkdir(parents=True, exist_ok=True)
        for i, seed in enumerate(seeds()):
            (folder / f"seed-{i}").write_bytes(seed)


if __name__ == "__main__":
    main()
