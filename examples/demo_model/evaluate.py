"""Measures the demo model on text that it was not trained on: `make demo-figures`.

Takes about ten minutes on one core with OpenBLAS preloaded; `--quick` one. In float32, packed
weights written out (see `measures.plain`). The same text for every model, so that figures of two
trainings can be compared.
"""

import sys
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import click

from dsv4_tp import demo
from dsv4_tp.cli.tables import table
from dsv4_tp.config.environment import restart_with_preloads
from dsv4_tp.core import DType
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from examples.demo_model import corpus, measures, tokenizer
from examples.demo_model.card import Figures, retrieval_rows, rows, write_card
from examples.demo_model.corpus.documents import KINDS
from examples.demo_model.curve import Curve
from examples.demo_model.trees import flat

DISTANCES = (50, 100, 300, 1000)
_KINDS = ("lists to repeat", "facts to recall", "stories", "sums", "chats", "tool calls")
_KIND_TOKENS = 512
_PROMPT_TOKENS = 64
_TRAINING_SEQUENCES = 200  # whose tokens the unigram model counts
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_CURVE = click.Path(path_type=Path, exists=True, dir_okay=False)
_CARD_HELP = (
    "Write figures.json and the model card into the checkpoint's folder. Takes the loss.csv of "
    "its training, and --master."
)


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured."""

    lengths: tuple[int, ...]  # of the sequences for perplexity
    documents: int  # of each kind
    questions: int  # at each distance
    prompts: int  # that MTP drafts are made for
    tokens: int  # greedy ones for each prompt


FULL = Amount((512,) * 64 + (1024,) * 8, documents=8, questions=100, prompts=20, tokens=128)
QUICK = Amount((512,) * 6 + (1024,), documents=1, questions=20, prompts=4, tokens=64)


@cache
def _words() -> tokenizer.Tokenizer:
    return tokenizer.load()


def ids(text: str) -> list[int]:
    """The ids of a text; special tokens are found in it."""
    return _words().encode(text, add_special_tokens=False).ids


def sequences(lengths: Iterable[int], *, split: str = "held-out") -> list[list[int]]:
    """Text as the model was trained on, a sequence of each length."""
    return [
        corpus.sequence(corpus.rng_for(split, number), ids, length=length)
        for number, length in enumerate(lengths)
    ]


def questions(count: int, distance: int, *, chat: bool = False) -> list[measures.Question]:
    """Held-out questions whose answers stand so many tokens back."""
    first = 1_000_000 * (1 + chat) + 100 * distance  # no number that other measures read
    return [_question(first + number, distance, chat) for number in range(count)]


def _question(number: int, distance: int, chat: bool) -> measures.Question:
    asked = corpus.lookup(corpus.rng_for("held-out", number), ids, distance=distance, chat=chat)
    prompt = ids(tokenizer.BOS + asked.prompt)
    answered = ids(tokenizer.BOS + asked.prompt + asked.answer)
    assert answered[: len(prompt)] == prompt, "the answer begins within a token of the prompt"
    return measures.Question(prompt, answered[len(prompt) :])


def prompts(count: int) -> list[list[int]]:
    """Beginnings of held-out texts, of the sequences behind those for perplexity."""
    numbers = range(3_000_000, 3_000_000 + count)
    texts = (corpus.sequence(corpus.rng_for("held-out", n), ids, length=512) for n in numbers)
    return [text[:_PROMPT_TOKENS] for text in texts]


def of_kinds(count: int) -> dict[str, list[list[int]]]:
    """Held-out documents by what they are, so many of each."""
    numbers = range(4_000_000, 4_000_000 + count)
    return {
        name: [
            ids(tokenizer.BOS + make(corpus.rng_for("held-out", n), _KIND_TOKENS))[:_KIND_TOKENS]
            for n in numbers
        ]
        for name, (make, _) in zip(_KINDS, KINDS, strict=True)
    }


def load(checkpoint: Path) -> Model:
    """A checkpoint's whole model, MTP too, its weights written out in float32."""
    return measures.plain(load_rank(checkpoint, None, dtype=DType.FLOAT32, mtp=True).model)


def figures(checkpoint: Path, master: Path | None, amount: Amount) -> Figures:
    """Everything that is measured, of the checkpoint and of the weights it was rounded from."""
    model, texts = load(checkpoint), sequences(amount.lengths)
    with _timed("perplexity"):
        native = measures.perplexity(model, texts)
        exact = measures.perplexity(load(master), texts) if master else None
        training = sequences([_KIND_TOKENS] * _TRAINING_SEQUENCES, split="train")
        unigram = measures.unigram_perplexity(training, texts, model.spec.vocab_size)
        documents = of_kinds(amount.documents)
        kinds = {name: measures.perplexity(model, some) for name, some in documents.items()}
    with _timed("MTP drafts"):
        accepted = measures.acceptance(model, prompts(amount.prompts), amount.tokens)
    return Figures(
        perplexity=native,
        perplexity_master=exact,
        perplexity_unigram=unigram,
        perplexity_of=kinds,
        retrieval=_retrieval(model, amount, "text"),
        retrieval_chat=_retrieval(model, amount, "chat", chat=True),
        retrieval_topk_1=_with_topk_1(model, amount),
        acceptance=accepted,
        parameters=_parameters(model),
        weight_bytes=sum(file.stat().st_size for file in checkpoint.glob("*.safetensors")),
        held_out_tokens=sum(amount.lengths),
        questions=amount.questions,
        drafts=amount.prompts * amount.tokens,
    ).rounded()


def _retrieval(
    model: Model, amount: Amount, name: str, *, chat: bool = False
) -> Mapping[str, float]:
    shares: dict[str, float] = {}
    for distance in DISTANCES:
        with _timed(f"retrieval, {name}, {distance} tokens"):
            asked = questions(amount.questions, distance, chat=chat)
            shares[str(distance)] = measures.retrieval(model, asked)
    return shares


def _with_topk_1(model: Model, amount: Amount) -> Mapping[str, float]:
    with measures.index_topk(model, 1):
        return _retrieval(model, amount, "text, index_topk 1")


def _parameters(model: Model) -> int:
    """Numbers that were trained, MTP's among them; the hash layer's table was not."""
    return sum(a.size for name, a in flat(model.parameters()).items() if "tid2eid" not in name)


@contextmanager
def _timed(section: str) -> Generator[None]:
    started_s = time.monotonic()
    yield
    click.echo(f"{section}: {time.monotonic() - started_s:.0f} s", err=True)


@click.command()
@click.option("--checkpoint", type=_FOLDER, default=demo.path, help="The shipped one if not said.")
@click.option("--master", type=_FOLDER, help="The same weights before they were rounded.")
@click.option("--quick", is_flag=True, help="Less text, for a first look.")
@click.option("--json", "json_file", type=_FILE, help="Write the figures here, too.")
@click.option("--card", "curve", type=_CURVE, metavar="LOSS.CSV", help=_CARD_HELP)
def main(
    checkpoint: Path, master: Path | None, quick: bool, json_file: Path | None, curve: Path | None
) -> None:
    """Measure the demo model on held-out text."""
    if curve and (quick or not master):
        raise click.UsageError("--card needs full figures: give --master, and no --quick")
    restart_with_preloads("examples.demo_model.evaluate")
    try:
        measured = figures(checkpoint, master, QUICK if quick else FULL)
    except Dsv4Error as error:
        raise click.ClickException(str(error)) from error
    for head, *lines in (rows(measured), retrieval_rows(measured)):
        click.echo(table(head, lines) + "\n")
    if curve:
        measured = replace(measured, training_hours=_hours(curve))
        write_card(measured, checkpoint)
    if json_file:
        measured.write(json_file)


def _hours(curve: Path) -> float:
    seconds = sum(row.seconds for row in Curve.load(curve, steps=sys.maxsize).rows)
    return round(seconds / 3600, 2)


if __name__ == "__main__":
    main()
