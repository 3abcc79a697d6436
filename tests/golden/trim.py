"""How the captures of this folder were made from the full set: tensors that no test reads are left out.

usage: trim.py FULL_SET OUT    (README.md describes the full set)
"""
import json, math, pathlib, shutil, struct, sys

MODELS = ["tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama-bf16"]
SMOLLM2 = ["p2000_full", "p2000_prefill", "p2000_c128_casc_posorder", "p2000_c512_casc_posorder"]
UNREAD = {"decode_gap", "decode_order_gap", "prefill_order_gap", "prefill_gap", "topk_ids", "topk_logits", "hidden_last"}


def unread(file, name):
    """Logits are compared on full-cache runs and one compressed run; queries and keys on the longer prompt."""
    if name in UNREAD or name == "logits_step1":
        return True
    if name in ("q_window", "k", "attn_window_past"):
        return file.startswith("p120")
    return name == "logits" and "_c" in file and "_c48_" not in file


def trim(source, target):
    data = source.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    kept, body = {}, b""
    for name, t in header.items():
        if unread(source.name, name):
            continue
        part = data[8 + length + t["data_offsets"][0] : 8 + length + t["data_offsets"][1]]
        kept[name] = {"dtype": t["dtype"], "shape": t["shape"], "data_offsets": [len(body), len(body) + len(part)]}
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
    for name in MODELS + ["smollm2"]:
        (out / name).mkdir(parents=True, exist_ok=True)
        index = json.loads((full / name / "index.json").read_text())
        files = sorted((full / name).glob("*.safetensors"))
        if name == "smollm2":
            files = [f for f in files if f.stem in SMOLLM2]
            index["prompts"] = {"p2000": index["prompts"]["p2000"]}
            index["runs"] = [r for r in index["runs"] if pathlib.Path(r["file"]).stem in SMOLLM2]
        else:
            shutil.copytree(full / name / "model", out / name / "model", dirs_exist_ok=True)
        (out / name / "index.json").write_text(json.dumps(finite(index), allow_nan=False))
        for file in files:
            trim(file, out / name / file.name)


main(*sys.argv[1:])
