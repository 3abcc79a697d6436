"""What a file is, told by its content: `read` gives its kind, and a list of what the pictures of that kind take.

  bench       cake bench: bench.jsonl             rows of measured cells, as they are
  report      --report of generate and batch      requests: {id, model, policy, evicted, layers}
  kept        --dump-kept                         requests: {id, source, layers}, positions of each layer and KV head
  fidelity, positions, layers                     rows of the CSV files of cake eval fidelity
  needle                                          rows of needle.csv of cake eval needle
  score       cake score: NAME/result.json        {name: NAME, tasks: {task: score}}

Whatever cannot be drawn ends the script with one message and exit status 2.
"""
import csv
import io
import json
import math
import os

from plots.style import give_up

# Columns that the pictures need: words, whole numbers, numbers.
TABLES = {
    "fidelity": (["text", "policy"], ["cache_size"], ["kept_percent", "kl_mean"]),
    "positions": (["text", "policy"], ["cache_size", "position"], ["kl"]),
    "layers": (["text", "policy"], ["cache_size", "layer"], ["attention_error"]),
    "needle": (["policy", "form"], ["cache_size", "length", "needles"], ["score"]),
}
# What tells one row from another.
KEYS = {
    "fidelity": ["text", "policy", "cache_size"],
    "positions": ["text", "policy", "cache_size", "position"],
    "layers": ["text", "policy", "cache_size", "layer"],
    "needle": ["policy", "cache_size", "form", "length", "depth", "needles"],
    "score": ["name"],
}
KNOWN = ("bench.jsonl, a report, what --dump-kept wrote, fidelity.csv, positions.csv, layers.csv, needle.csv or "
         "NAME/result.json")


def read(path: str) -> tuple:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        give_up(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
    try:
        value = parse(text)
    except ValueError:
        table = table_kind(text.partition("\n")[0])
        return (table, read_table(path, table, text)) if table else ("bench", read_cells(path, text))
    if isinstance(value, dict) and "requests" in value:
        return read_requests(path, value)
    if is_scores(value):
        return "score", [{"name": os.path.basename(os.path.dirname(os.path.abspath(path))), "tasks": value}]
    return "bench", read_cells(path, text)


def parse(text: str):
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


# ---- CSV -------------------------------------------------------------------------------------------------------------
def needed(kind: str) -> list:
    words, whole, numbers = TABLES[kind]
    return words + whole + numbers


def table_kind(header: str):
    """The table that has most of its columns in this line, and three at least; None where there is none."""
    columns = {name.strip() for name in header.split(",")}
    common = {kind: len(columns & set(needed(kind))) for kind in TABLES}
    best = max(common, key=lambda kind: (common[kind] / len(needed(kind)), common[kind]))
    return best if common[best] >= 3 else None


def read_table(path: str, kind: str, text: str) -> list:
    try:
        return table_rows(path, kind, csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        give_up(f"{path}: is no CSV: {error}")


def table_rows(path: str, kind: str, lines) -> list:
    columns = [name.strip() for name in next(lines)]
    for name in needed(kind):
        if name not in columns:
            give_up(f"{path}: no column {name}; it looks like {kind}.csv, of which {', '.join(needed(kind))} are drawn")
    rows = []
    for cells in lines:
        where = f"{path}:{lines.line_num}"
        if not cells:
            continue
        if len(cells) != len(columns):
            give_up(f"{where}: {len(cells)} of {len(columns)} columns; was the line cut short?")
        rows.append(typed(where, kind, dict(zip(columns, cells))))
    if not rows:
        give_up(f"{path}: has no rows")
    return rows


def typed(where: str, kind: str, row: dict) -> dict:
    words, whole, numbers = TABLES[kind]
    out = {name: row[name] for name in words}
    out.update({name: number(where, name, row[name], int) for name in whole})
    out.update({name: number(where, name, row[name], float) for name in numbers})
    if kind == "needle":  # a data file's rows have no depth
        out["depth"] = number(where, "depth", row["depth"], float) if row.get("depth") else None
    elif row.get("prompt_tokens"):  # a text may be cut at several lengths: each is drawn as a text of its own
        out["text"] += f" ({row['prompt_tokens']} tokens)"
    return out


def number(where: str, name: str, text: str, kind: type):
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        give_up(f"{where}: {name} is '{text}', which is no {'whole ' if kind is int else ''}number")
    return value


def refuse_repeated(kind: str, rows: list) -> None:
    """Two runs in one picture would be averaged, or overwritten, without a word."""
    seen = set()
    for row in rows:
        key = tuple(row[name] for name in KEYS.get(kind, []))
        if key and key in seen:
            what = ", ".join(f"{name} {value}" for name, value in zip(KEYS[kind], key))
            give_up(f"{kind}: two rows of {what}: draw the files of different runs one at a time")
        seen.add(key)


# ---- JSON ------------------------------------------------------------------------------------------------------------
def read_cells(path: str, text: str) -> list:
    """The rows of measured cells; what did not fit has no figures and is passed over."""
    cells = []
    measured = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = parse(line)
        except ValueError:
            give_up(f"{path}:{number}: this is not JSON, nor a table that is known; what can be drawn: {KNOWN}")
        if not isinstance(row, dict):
            give_up(f"{path}:{number}: this is no row of a benchmark; what can be drawn: {KNOWN}")
        if row.get("kind") == "cell":
            measured = True
            if row.get("fits", True):
                cells.append(row)
    if not measured:
        give_up(f"{path}: no row of kind \"cell\": this is no bench.jsonl; what can be drawn: {KNOWN}")
    return cells


def read_requests(path: str, value: dict) -> tuple:
    """A report names its schema; what --dump-kept wrote has none."""
    source = os.path.splitext(path)[0]
    requests = value["requests"]
    if not isinstance(requests, list) or not all(isinstance(request, dict) for request in requests):
        give_up(f"{path}: requests is no list of objects")
    if "schema" not in value:
        return "kept", [kept_request(path, source, request) for request in requests]
    config = value.get("config")
    policy = config.get("policy") if isinstance(config, dict) else None
    model = value.get("model")
    if not isinstance(policy, dict) or not isinstance(model, dict):
        give_up(f"{path}: config.policy or model is missing: this is no whole report")
    name = os.path.basename(str(model.get("path", "")).rstrip("/"))
    only = len(requests) == 1  # generate calls each of its requests 0
    return "report", [{"id": source if only else str(request.get("id")), "model": name, "policy": policy,
                       "evicted": request.get("evicted") is True, "layers": budget_layers(path, request)}
                      for request in requests]


def budget_layers(path: str, request: dict) -> list:
    layers = request.get("layers") or []  # batch writes them with --layers alone
    for layer in layers if isinstance(layers, list) else [None]:
        preference = layer.get("preference") if isinstance(layer, dict) else ""
        if not isinstance(preference, (int, float, type(None))) or not isinstance(layer.get("budget"), int):
            give_up(f"{path}: request {request.get('id')}: a layer without budget and preference")
    return layers


def kept_request(path: str, source: str, request: dict) -> dict:
    layers = request.get("layers")
    right = isinstance(layers, list) and layers and all(
        isinstance(heads, list) and heads and all(
            isinstance(head, list) and all(type(position) is int and 0 <= position < 1 << 31 for position in head)
            for head in heads) for heads in layers)
    if not right or not any(head for heads in layers for head in heads):
        give_up(f"{path}: request {request.get('id')}: no positions of layers and KV heads, as --dump-kept writes them")
    return {"id": str(request.get("id")), "source": source, "layers": layers}


def is_scores(value) -> bool:
    """{task: score}, of LongBench-E {task: {length: score}}."""
    if not isinstance(value, dict) or not value:
        return False
    return (all(type(score) in (int, float) and math.isfinite(score) for score in value.values())
            or all(isinstance(score, dict) and score.keys() == {"0-4k", "4-8k", "8k+"} for score in value.values()))
