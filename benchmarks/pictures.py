"""Pictures of what was published, drawn from the files in results/.

    make bench-pictures

The same files draw the same pictures, byte for byte; a test draws them again.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import runs, svg
from benchmarks.peers import MLX_OPERATIONS, SHORT

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
GB = 1e9
HOSTS = ("1", "2", "3", "4", "8", "16")
NEAR, FAR = 8192, 1_048_576  # contexts


def operations() -> str:
    """Of a layer, ours and others'."""
    counted = runs.published()["counts"]
    groups = {
        label: {
            "ours, kernels: metal": counted["primitives_per_layer"][ratio],
            "ours, kernels: plain": counted["primitives_without_kernels"][ratio],
            "others on MLX": MLX_OPERATIONS[int(ratio)],
        }
        for ratio, label in {
            "0": "window alone",
            "4": "every 4 tokens pooled",
            "128": "every 128 tokens pooled",
        }.items()
    }
    return svg.bars(
        "Operations of a layer for one token",
        "Nodes of MLX's graph, by kind of layer. Less is better.",
        groups,
        "",
    )


def reads() -> str:
    """Of the busiest rank, beside what would be its part if nothing were read twice."""
    found = runs.published()["bytes"]
    groups = {
        name: {
            "the busiest rank": round(ledger["all"] / GB, 2),
            "an even share": round(ledger["even share"] / GB, 2),
        }
        for name, ledger in found.items()
    }
    return svg.bars(
        "Bytes that a rank reads of its memory for one token",
        "Counted by plan --ledger, at 131,072 tokens of context.",
        {f"{name.capitalize()} ranks": group for name, group in groups.items()},
        " GB",
    )


def cache() -> str:
    """Of whole models."""
    found = runs.published()["cache"]
    groups = {
        model.capitalize(): {
            "cache_rows: exact": round(found["exact"][model]),
            "cache_rows: trained": round(found["trained"][model]),
        }
        for model in found["exact"]
    }
    return svg.bars(
        "Bytes of cache for each token of context",
        "Of all layers, on every rank.",
        groups,
        " B",
    )


def forecast(model: str) -> str:
    """Over numbers of Macs on which it fits, at two contexts; more memory is not faster."""
    curves: dict[str, dict[str, list[float | None]]] = {}
    for cell in _results("simulate"):
        if cell["model"] == model and cell["context"] in (NEAR, FAR):
            count, chip, *_ = cell["macs"].split()
            by_context = curves.setdefault(
                _chip(chip), {str(at): [None] * len(HOSTS) for at in (NEAR, FAR)}
            )
            by_context[str(cell["context"])][HOSTS.index(count)] = cell["decode"]
    return svg.lines(
        f"{model.capitalize()}: forecast of tokens per second, by number of Macs",
        "Decoding one text at 8K tokens of context and, dashed, at 1M. Not measured.",
        HOSTS,
        curves,
    )


def peers() -> str:
    """How far it lies from what was published."""
    rows: list[tuple[str, str, float, str]] = []
    for line in _results("peers"):
        it = line["published"]
        what = "decode" if it["decode"] else "prefill"
        macs = " + ".join(map(_chip, it["chips"]))
        split = ":".join(map(str, it["split"]))
        context = "short" if it["context"] == SHORT else f"{it['context'] // 1000}K"
        label = ", ".join((it["program"], macs, split, it["link"].upper(), context))
        words = f"{it[what]:g} → {line['forecast']:.1f}"
        rows.append((label, what, 1 + line["error"], words))
    return svg.points(
        "The forecast beside published figures of pairs of Macs",
        "Program, Macs, split, link, context; tokens per second, published → forecast.",
        rows,
        ("decode", "prefill"),
    )


def _chip(name: str) -> str:
    """As Apple writes it."""
    return " ".join(word.capitalize() for word in name.split("-"))


def _results(name: str) -> list[Mapping[str, Any]]:
    return json.loads((runs.RESULTS / f"{name}.json").read_text())


PICTURES: Mapping[str, Callable[[], str]] = {
    "operations": operations,
    "reads": reads,
    "cache": cache,
    "forecast-flash": lambda: forecast("flash"),
    "forecast-pro": lambda: forecast("pro"),
    "peers": peers,
}


def main() -> None:
    """Draw all."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (FOLDER / f"{name}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
