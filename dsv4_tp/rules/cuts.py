"""From a rule and a rank's part to the pieces of a tensor that the rank holds."""

from collections.abc import Iterator
from dataclasses import dataclass

from dsv4_tp.core import Part, Span
from dsv4_tp.modelspec import ModelSpec, Tensor
from dsv4_tp.rules.heads import head_runs, touched_groups
from dsv4_tp.rules.table import Split, rule_of


@dataclass(frozen=True, slots=True)
class Cut:
    """One parameter of a rank's model, and the piece of the whole tensor it holds.

    None stands for all, and no span is empty. Spans count logical values, however stored.
    """

    name: str
    experts: Span | None = None
    rows: Span | None = None
    columns: Span | None = None


def cuts(tensor: Tensor, part: Part, spec: ModelSpec) -> tuple[Cut, ...]:
    """The parameters that a rank with this part makes of a tensor; none where a span is empty.

    wo_a becomes a parameter `wo_a.<run>.weight` for each of `head_runs`; all others keep their
    name and are one parameter at most.
    """
    split = rule_of(tensor.name).split
    if split is Split.GROUP_BLOCKS:
        pieces = tuple(_group_blocks(tensor.name, part.heads, spec))
    else:
        pieces = (_piece(tensor.name, split, part, spec),)
    return tuple(_tidy(piece, tensor.shape) for piece in pieces if not _is_empty(piece))


def cut_shape(cut: Cut, whole: tuple[int, ...]) -> tuple[int, ...]:
    """The logical shape of the piece of a tensor of shape `whole`."""
    spans = {1: (cut.rows,), 2: (cut.rows, cut.columns), 3: (cut.experts, cut.rows, cut.columns)}
    return tuple(
        size if span is None else len(span)
        for span, size in zip(spans[len(whole)], whole, strict=True)
    )


def _piece(name: str, split: Split, part: Part, spec: ModelSpec) -> Cut:
    groups = touched_groups(part.heads, spec)
    spans: dict[Split, dict[str, Span]] = {
        Split.ALL: {},
        Split.HEAD_VALUES: {"rows": part.heads},
        Split.HEAD_ROWS: {"rows": _scaled(part.heads, spec.head_dim)},
        Split.GROUP_COLUMNS: {"columns": _scaled(groups, spec.o_lora_rank)},
        Split.EXPERT_ROWS: {"experts": part.experts, "rows": part.expert_width},
        Split.EXPERT_COLUMNS: {"experts": part.experts, "columns": part.expert_width},
        Split.SHARED_ROWS: {"rows": part.shared_width},
        Split.SHARED_COLUMNS: {"columns": part.shared_width},
        Split.VOCAB_ROWS: {"rows": part.vocab},
    }
    return Cut(name, **spans[split])


def _group_blocks(name: str, heads: Span, spec: ModelSpec) -> Iterator[Cut]:
    """wo_a's block of group g is `o_lora_rank` rows; its columns are the group's own heads."""
    base = name.removesuffix(".weight")
    at = heads.start
    for number, run in enumerate(head_runs(heads, spec)):
        group, first = divmod(at, spec.heads_per_group)
        yield Cut(
            f"{base}.{number}.weight",
            rows=_scaled(Span(group, group + run.groups), spec.o_lora_rank),
            columns=_scaled(Span(first, first + run.heads), spec.head_dim),
        )
        at += run.groups * run.heads


def _scaled(span: Span, width: int) -> Span:
    return Span(span.start * width, span.stop * width)


def _is_empty(cut: Cut) -> bool:
    return any(span is not None and not len(span) for span in (cut.experts, cut.rows, cut.columns))


def _tidy(cut: Cut, whole: tuple[int, ...]) -> Cut:
    """The same piece, with None for each span that leaves nothing out."""
    experts, rows = whole[0], whole[-2:][0]
    return Cut(
        cut.name,
        experts=_unless_all(cut.experts, experts),
        rows=_unless_all(cut.rows, rows),
        columns=_unless_all(cut.columns, whole[-1]),
    )


def _unless_all(span: Span | None, size: int) -> Span | None:
    return None if span == Span(0, size) else span
