"""How layers share a cache, from reports: budgets and preferences. A panel for each model and policy."""
import json
from collections import defaultdict
from statistics import fmean

from plots.style import GREYS, left_out, log_scale, look, panels, plain, policy_label

MANY = 8     # prompts: more than these are a mean and a band
NAMED = 24   # prompts: more than these are numbered, not named


def groups(requests: list) -> dict:
    """{title: requests of one model under one policy}; where titles would be equal, the cells that differ are named."""
    sets = defaultdict(list)
    for request in requests:
        sets[request["model"], json.dumps(request["policy"], sort_keys=True)].append(request)
    policies = defaultdict(list)
    for some in sets.values():
        policies[short_title(some[0])].append(some[0]["policy"])
    return {title(some[0], policies[short_title(some[0])]): some for some in sets.values()}


def short_title(request: dict) -> str:
    policy = request["policy"]
    size = policy.get("cache_size")
    return f"{request['model']}\n" + policy_label(str(policy.get("name")), size if isinstance(size, int) else 0)


def title(request: dict, policies: list) -> str:
    mine = request["policy"]
    cells = [f", {key} {mine[key]}" for key in mine if any(other.get(key) != mine[key] for other in policies)]
    return short_title(request) + "".join(cells)


def evicted(requests: list, picture: str) -> list:
    """Requests of which something was cut: of the others budgets are only lengths of prompts."""
    found = [request for request in requests if request["layers"] and request["evicted"]]
    if 0 < len(found) < len(requests):
        left_out(picture, f"{len(requests) - len(found)} prompts that lost no token, or whose report has no layers")
    return found


def equal_depth(some: list, picture: str) -> list:
    found = [request for request in some if len(request["layers"]) == len(some[0]["layers"])]
    if len(found) < len(some):
        left_out(picture, f"{len(some) - len(found)} prompts whose number of layers is not that of the first")
    return found


def name_prompts(axis, some: list) -> None:
    if len(some) <= NAMED:
        axis.set_xticks(range(len(some)), [plain(request["id"], 16) for request in some], rotation=90, fontsize=7)
    axis.set_xlabel("prompt")


def budgets(plt, requests):
    sets = groups(evicted(requests, "budgets"))
    if not sets:
        return "it needs reports with layers (generate, batch --layers) of prompts that lost tokens"
    figure, axes = panels(plt, len(sets), 5, 4.5, columns=3)
    most = max(layer["budget"] for some in sets.values() for request in some for layer in request["layers"])
    for axis, (name, some) in zip(axes, sets.items()):
        some = equal_depth(some, "budgets")
        by_layer = [[request["layers"][i]["budget"] for request in some] for i in range(len(some[0]["layers"]))]
        image = axis.imshow(by_layer, aspect="auto", origin="lower", interpolation="nearest", cmap=GREYS, vmin=0,
                            vmax=most)
        name_prompts(axis, some)
        axis.set_ylabel("layer")
        axis.set_title(plain(name, 80), fontsize=9)
    figure.colorbar(image, ax=axes, label="budget, tokens (without the window)")
    return figure


def preference_by_layer(plt, requests):
    # A layer of preference 0 is on no logarithmic axis.
    found = [request for request in requests if any(layer.get("preference") for layer in request["layers"])]
    sets = groups(found)
    if not sets:
        return "it needs reports with layers (generate, batch --layers) of a policy with a window that observes"
    figure, axes = panels(plt, len(sets), 6, 4.5, columns=3)
    for axis, (name, some) in zip(axes, sets.items()):
        some = equal_depth(some, "preference_by_layer")
        rows = [[layer["preference"] or float("nan") for layer in request["layers"]] for request in some]
        layers = range(len(rows[0]))
        if len(some) > MANY:
            present = [[row[i] for row in rows if row[i] == row[i]] for i in layers]
            kept = [i for i in layers if present[i]]
            axis.fill_between(kept, [min(present[i]) for i in kept], [max(present[i]) for i in kept], color="0.8",
                              label="least and most")
            axis.plot(kept, [fmean(present[i]) for i in kept], label=f"mean of {len(some)} prompts", markersize=4,
                      **look(0))
        else:
            for i, (request, row) in enumerate(zip(some, rows)):
                axis.plot(layers, row, label=plain(request["id"], 24), markersize=4, **look(i))
        log_scale(axis, "y", [value for row in rows for value in row])
        axis.set_xlabel("layer")
        axis.set_ylabel("preference (no unit)")
        axis.set_title(plain(name, 80), fontsize=9)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    return figure


PICTURES = [budgets, preference_by_layer]
