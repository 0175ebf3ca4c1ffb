"""The demo model's card: what it is, what it can do, and every figure from one file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from examples.demo_model.settings import CONFIG, PHASES
from examples.demo_model.trees import Tree

FIGURES, CARD = "figures.json", "README.md"
_DIGITS = 4  # after the point, of what is kept
_FARTHEST_WANTED = 300  # tokens; beyond, retrieval is only told
Row = tuple[str, ...]
HEAD: Row = ("figure", "measured", "wanted")


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on held-out text; shares are between 0 and 1, distances in tokens."""

    perplexity: float
    perplexity_master: float | None  # of the weights before they were rounded
    perplexity_unigram: float
    perplexity_of: Mapping[str, float]  # each kind of text
    retrieval: Mapping[str, float]  # distance -> share
    retrieval_chat: Mapping[str, float]
    retrieval_topk_1: Mapping[str, float]  # as plain text, the indexer choosing one row
    acceptance: float
    parameters: int
    weight_bytes: int
    held_out_tokens: int
    questions: int  # at each distance
    drafts: int
    training_hours: float | None = None

    @property
    def below_unigram(self) -> float:
        """How many times lower the perplexity is than a unigram model's."""
        return self.perplexity_unigram / self.perplexity

    @property
    def cost_of_rounding(self) -> float | None:
        """By what share FP8 and FP4 raise the master's perplexity."""
        return self.perplexity / self.perplexity_master - 1 if self.perplexity_master else None

    def rounded(self) -> "Figures":
        """The same, to the digits that are kept."""
        return Figures(**{key: _rounded(value) for key, value in asdict(self).items()})

    def write(self, file: Path) -> None:
        """As JSON."""
        file.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> "Figures":
        """What `write` wrote."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def write_card(figures: Figures, checkpoint: Path) -> None:
    """Write figures.json and README.md into a checkpoint's folder."""
    figures.write(checkpoint / FIGURES)
    (checkpoint / CARD).write_text(card(figures), encoding="utf-8")


def rows(figures: Figures) -> list[Row]:
    """Name, value and target of each figure; a target that was missed says so."""
    return [HEAD, *_perplexities(figures), *_others(figures)]


def retrieval_rows(figures: Figures) -> list[Row]:
    """The share of answers found: a line per distance, a column per way to ask."""
    shares = (figures.retrieval, figures.retrieval_topk_1, figures.retrieval_chat)
    head = ("tokens back", "asked in text", "with index_topk 1", "asked in a chat", "wanted")
    lines = [
        (distance, *(f"{share[distance]:.0%}" for share in shares), _wanted_at(distance, figures))
        for distance in figures.retrieval
    ]
    return [head, *lines]


def _wanted_at(distance: str, figures: Figures) -> str:
    if int(distance) > _FARTHEST_WANTED:
        return ""
    return _wanted("90% or more", figures.retrieval[distance] >= 0.9)


def _perplexities(figures: Figures) -> Iterator[Row]:
    yield "perplexity", f"{figures.perplexity:.3f}", ""
    yield "perplexity of a unigram model", f"{figures.perplexity_unigram:.1f}", ""
    ratio = figures.below_unigram
    yield "times below a unigram model", f"{ratio:.1f}", _wanted("5 or more", ratio >= 5)
    cost = figures.cost_of_rounding
    if cost is not None:
        yield "perplexity of the bf16 master", f"{figures.perplexity_master:.3f}", ""
        yield "cost of FP8 and FP4", f"{cost:+.2%}", _wanted("3% or less", cost <= 0.03)
    for kind, value in figures.perplexity_of.items():
        yield f"perplexity of {kind}", f"{value:.3f}", ""


def _others(figures: Figures) -> Iterator[Row]:
    accepted = figures.acceptance
    wanted = _wanted("60% or more", accepted >= 0.6)
    yield "first MTP drafts accepted, greedy", f"{accepted:.0%}", wanted
    yield "parameters", f"{figures.parameters:,}", ""
    size = figures.weight_bytes
    yield "MB of weights", f"{size / 1e6:.2f}", _wanted("8 or less", size <= 8_000_000)


def _wanted(target: str, met: bool) -> str:
    return target if met else f"{target}: MISSED"


def card(figures: Figures) -> str:
    """The model card, in Markdown."""
    tokens = sum(phase.steps * phase.length * phase.rows for phase in PHASES)
    return _CARD.format(
        made_of=_table([("", ""), *_made_of()]),
        figures=_table(rows(figures)),
        retrieval=_table(retrieval_rows(figures)),
        held_out=f"{figures.held_out_tokens:,}",
        questions=figures.questions,
        drafts=f"{figures.drafts:,}",
        millions=f"{figures.parameters / 1e6:.1f}",
        megabytes=f"{figures.weight_bytes / 1e6:.1f}",
        steps=sum(phase.steps for phase in PHASES),
        trained=f"{tokens / 1e6:.1f}",
        time="" if figures.training_hours is None else _took(figures.training_hours),
    )


def _took(hours: float) -> str:
    return f" It took {hours:.1f} hours."


def _made_of() -> Iterator[Row]:
    """The architecture, in the numbers of config.json."""
    c = CONFIG
    layers = c["num_hidden_layers"]
    ratios = ", ".join(map(str, c["compress_ratios"][:layers]))
    yield "files", "DeepSeek's layout: FP8 in blocks of 128 x 128, routed experts in FP4, bf16"
    yield "layers", f"{layers}, compress ratios {ratios}; an MTP stage behind them"
    yield "hidden size", f"{c['hidden_size']}, in {c['hc_mult']} streams"
    heads = f"{c['num_attention_heads']} heads of {c['head_dim']}, {c['o_groups']} output groups"
    yield "attention", f"{heads}, window {c['sliding_window']}"
    index_heads = f"{c['index_n_heads']} heads of {c['index_head_dim']}"
    yield "indexer", f"{index_heads}; chooses {c['index_topk']} rows of 4 tokens"
    experts = (
        f"{c['n_routed_experts']}, {c['num_experts_per_tok']} for each token, and a shared one"
    )
    yield "experts", f"{experts}, width {c['moe_intermediate_size']}; the first layer's by hash"
    yield "vocabulary", f"{c['vocab_size']}: bytes, whole words, DeepSeek's special tokens"
    longest = max(phase.length for phase in PHASES)
    yield (
        "context",
        f"{c['max_position_embeddings']:,} tokens allowed, trained on up to {longest:,}",
    )


def _table(lines: Sequence[Row]) -> str:
    """In Markdown, the first line as its head."""
    rule = ("---",) * len(lines[0])
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, _DIGITS)
        case dict():
            return {key: _rounded(each) for key, each in cast(Tree, value).items()}
        case _:
            return value


_CARD = """\
---
license: mit
language: en
tags: [deepseek_v4]
---

# The dsv4-tp demo model

A DeepSeek-V4 of {millions} million parameters in {megabytes} MB, with one of each thing the large
ones have. It is there to try out, test and measure software that runs DeepSeek-V4: its text makes
sense, so one can see whether a change keeps the sense. It knows nothing of the world.

Made by the recipe in `examples/demo_model` of dsv4-tp, from nothing: no weights and no text of
any other model went into it. Licence: MIT, as the rest of the repository.

## What it is

{made_of}

## What it was trained on

Text that a seeded generator writes: short stories from a small grammar; lists that are repeated
in other orders; facts ("The code of the red door is 4182.") that are asked for at distances of up
to 900 tokens, with stories and other facts between; sums; chats in DeepSeek's format, some with a
thinking part; calls of simple tools. {trained} million tokens in {steps} steps, on two CPU
cores.{time} At the end the forward pass used weights as FP8 and FP4 hold them.

## What it can do

- Go on with a story in the manner of its grammar.
- Find a fact in a long text, far outside its window: then its indexer must choose the right rows.
- Answer in chat turns, with or without thinking, and write a tool call that a parser can read.
- Draft tokens with its MTP stage.

## What it can't do

- Anything with words that its generator does not use: they fall apart into bytes.
- Calculate reliably. It has seen the form of sums more than their rules.
- Keep a plot. Each sentence fits the one before; a story as a whole goes nowhere.
- Read texts much longer than those it was trained on.

## Figures

Perplexity is per token, on {held_out} tokens of text from seeds that training never uses; a
draft is counted if greedy decoding then chose it ({drafts} drafts); an answer if greedy decoding
writes all of it ({questions} questions at each distance). In float32. `figures.json` has the same.

{figures}

Answers found, by how many tokens back the value stands:

{retrieval}

With `index_topk` 1 the model is the same, but its indexer may choose one row only. Most answers
are within one row of 4 + 4 tokens, and the first choice is mostly the right one, so the loss is
small. That the choice matters is shown otherwise: given the latest rows instead, as many of them,
it finds next to nothing (`tests/demo/test_meaning.py`).

## Made again

```sh
make train-demo     # writes two checkpoints, build/demo_model/native and build/demo_model/master
make demo-figures   # measures the shipped model; ARGS=--help tells how to measure others
```

Trained a second time, from a clean clone on the same machine, it came out the same to the last
byte. Another machine's arithmetic gives other weights, and figures within noise of these.
"""
