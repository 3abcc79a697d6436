#!/usr/bin/env python3
"""Makes a Hugging Face folder with random weights: for tries of long prompts and of memory where no model is at hand.

usage: launch/random_model.py FOLDER [--layers 4] [--d-model 256] [--heads 4] [--kv-heads 2] [--d-ff 512]
                              [--vocab 1024] [--context 131072] [--seed 0]
Llama architecture, F32. Writes config.json, model.safetensors and prompt.json (as many random token ids as the context
holds, less 64), and needs nothing but Python.
"""
import argparse
import array
import json
import pathlib
import random
import struct

arguments = argparse.ArgumentParser(usage=__doc__.split("usage: ")[1])
arguments.add_argument("folder", type=pathlib.Path)
for name, default in dict(layers=4, d_model=256, heads=4, kv_heads=2, d_ff=512, vocab=1024, context=131072, seed=0).items():
    arguments.add_argument("--" + name.replace("_", "-"), type=int, default=default)
a = arguments.parse_args()
d_head = a.d_model // a.heads

shapes = {"model.embed_tokens.weight": [a.vocab, a.d_model], "model.norm.weight": [a.d_model], "lm_head.weight": [a.vocab, a.d_model]}
for l in range(a.layers):
    p = f"model.layers.{l}."
    for n, shape in {
        "input_layernorm": [a.d_model],
        "post_attention_layernorm": [a.d_model],
        "self_attn.q_proj": [a.heads * d_head, a.d_model],
        "self_attn.k_proj": [a.kv_heads * d_head, a.d_model],
        "self_attn.v_proj": [a.kv_heads * d_head, a.d_model],
        "self_attn.o_proj": [a.d_model, a.heads * d_head],
        "mlp.gate_proj": [a.d_ff, a.d_model],
        "mlp.up_proj": [a.d_ff, a.d_model],
        "mlp.down_proj": [a.d_model, a.d_ff],
    }.items():
        shapes[p + n + ".weight"] = shape

a.folder.mkdir(parents=True, exist_ok=True)
(a.folder / "config.json").write_text(json.dumps({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
    "hidden_size": a.d_model, "intermediate_size": a.d_ff, "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
    "num_key_value_heads": a.kv_heads, "vocab_size": a.vocab, "max_position_embeddings": a.context, "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0, "tie_word_embeddings": False}, indent=1))

source = random.Random(a.seed)
header, offset = {}, 0
for name, shape in shapes.items():
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + 4 * n]}
    offset += 4 * n
head = json.dumps(header).encode()
head += b" " * (-len(head) % 8)
with open(a.folder / "model.safetensors", "wb") as out:
    out.write(struct.pack("<Q", len(head)) + head)
    for name, shape in shapes.items():
        if len(shape) == 1:
            values = array.array("f", [1.0] * shape[0])
        else:  # queries and keys are larger, so that attention is not the same everywhere
            sigma = (3 if "q_proj" in name or "k_proj" in name else 1) / shape[1] ** 0.5
            values = array.array("f", (source.gauss(0, sigma) for _ in range(shape[0] * shape[1])))
        out.write(values.tobytes())
(a.folder / "prompt.json").write_text(json.dumps([source.randrange(a.vocab) for _ in range(a.context - 64)]))
print(a.folder)
