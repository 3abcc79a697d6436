"""How the captures of this folder were made from the full set: what no test reads is left out, and nothing is rounded.

Positions are stored as I16 instead of int32. The weights of tiny-llama-bf16 are those of tiny-llama, rounded: tests
round them themselves (tests/support/golden.h). Of the models with scaled RoPE the longer prompt is here, and of their
runs what an end-to-end test compares, with logits of the first 16 tokens.

usage: trim.py FULL_SET OUT    (README.md describes the full set)
"""
import json, math, pathlib, shutil, struct, sys

MODELS = ["tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama-bf16"]
SCALED_ROPE = {"tiny-llama31": "p300", "tiny-llama-linear": "p300", "tiny-qwen2-yarn": "p200"}
SMOLLM2 = ["p2000_full", "p2000_prefill", "p2000_c128_casc_posorder", "p2000_c512_casc_posorder"]
UNREAD = {"decode_gap", "decode_order_gap", "prefill_order_gap", "prefill_gap", "topk_ids", "topk_logits", "hidden_last",
          "logits_step1", "margin_top2", "stage_raw_budget", "step_len"}
KERNELS = {"q_window", "k", "attn_window_past"}  # of the longer prompts
UNREAD_OF = {"smollm2": {"evict_score", "logits_prefill", "evicted", "final_positions", "final_len"},
             "tiny-llama31": KERNELS | {"evict_score", "decode_attn", "decode_attn_first", "decode_score_first", "evicted",
                                        "step_positions"}}
LOGIT_ROWS = 16
POSITIONS = {"prefill_positions", "final_positions", "step_positions", "evicted"}


def unread(model, file, name):
    if name in UNREAD or name in UNREAD_OF.get(model, ()):
        return True
    return name in KERNELS and file.startswith("p120") or name == "logits" and "_c" in file


def narrow(data):
    values = struct.unpack(f"<{len(data) // 4}i", data)
    return struct.pack(f"<{len(values)}h", *values)


def trim(model, source, target):
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    kept, body = {}, b""
    for name, t in header.items():
        if unread(model, source.name, name):
            continue
        part = data[8 + length + t["data_offsets"][0] : 8 + length + t["data_offsets"][1]]
        dtype, shape = t["dtype"], t["shape"]
        if name == "logits" and model in SCALED_ROPE:
            shape = [LOGIT_ROWS] + shape[1:]
            part = part[: 4 * math.prod(shape)]
        if name in POSITIONS and dtype == "I32":
            part, dtype = narrow(part), "I16"
        kept[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(part)]}
        body += part
    head = json.dumps(kept).encode()
    head += b" " * (-len(head) % 8)
    target.write_bytes(struct.pack("<Q", len(head)) + head + body)


def finite(x):
    """Python writes Infinity, which is not JSON: null."""
    if isinstance(x, dict):
        return {k: finite(v) for k, v in x.items()}
    if isinstance(x, list):
        return [finite(v) for v in x]
    return None if isinstance(x, float) and not math.isfinite(x) else x


def main(full, out):
    full, out = pathlib.Path(full), pathlib.Path(out)
    shutil.copyfile(full / "budgets.json", out / "budgets.json")
    shutil.copyfile(full / "README.md", out / "README.md")
    for name in MODELS + list(SCALED_ROPE) + ["smollm2"]:
        (out / name).mkdir(parents=True, exist_ok=True)
        index = json.loads((full / name / "index.json").read_text())
        files = sorted((full / name).glob("*.safetensors"))
        if name == "smollm2":
            files = [f for f in files if f.stem in SMOLLM2]
            index["prompts"] = {"p2000": index["prompts"]["p2000"]}
            index["runs"] = [r for r in index["runs"] if pathlib.Path(r["file"]).stem in SMOLLM2]
        else:
            rounded = shutil.ignore_patterns("model.safetensors") if name == "tiny-llama-bf16" else None
            shutil.copytree(full / name / "model", out / name / "model", dirs_exist_ok=True, ignore=rounded)
        if name in SCALED_ROPE:
            prompt = SCALED_ROPE[name]
            files = [f for f in files if f.stem.startswith(prompt)]
            index["prompts"] = {prompt: index["prompts"][prompt]}
        (out / name / "index.json").write_text(json.dumps(finite(index), allow_nan=False))
        for file in files:
            trim(name, file, out / name / file.name)


main(*sys.argv[1:])
