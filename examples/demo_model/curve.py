"""The loss of a training as CSV, a line per step, and as a picture."""

import csv
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from examples.demo_model.gradient import Outcome

_WIDTH, _HEIGHT, _MARGIN = 720, 360, 40
_SMOOTHED_STEPS = 10
_COLOURS = {"loss": "#1f6feb", "mtp_loss": "#d29922", "index_loss": "#8b949e"}


@dataclass(frozen=True, slots=True)
class Row:
    """One step; losses in nats per token, index_loss per unit of attention."""

    step: int
    length: int
    loss: float
    mtp_loss: float
    index_loss: float
    seconds: float


class Curve:
    """All rows so far, kept in a file."""

    def __init__(self, file: Path, rows: list[Row]) -> None:
        self._file, self.rows = file, rows

    @classmethod
    def load(cls, file: Path, *, steps: int) -> "Curve":
        """The first `steps` rows of a file; what it has beyond them will be made anew."""
        rows: list[Row] = []
        if file.exists():
            with file.open(encoding="utf-8", newline="") as lines:
                rows = [_row(line) for line in csv.DictReader(lines)][:steps]
        return cls(file, rows)

    def add(self, step: int, length: int, outcome: Outcome, seconds: float) -> str:
        """Appends a row -> the same in words."""
        loss, mtp, index = (round(getattr(outcome, name), 4) for name in _COLOURS)
        row = Row(step, length, loss, mtp, index, round(seconds, 2))
        self.rows.append(row)
        return (
            f"step {step}  length {length}  loss {row.loss:.3f}  "
            f"mtp {row.mtp_loss:.3f}  index {row.index_loss:.3f}  {seconds:.1f} s"
        )

    def save(self) -> None:
        """Write the CSV, and the picture beside it."""
        with self._file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(field.name for field in fields(Row))
            writer.writerows(astuple(row) for row in self.rows)
        self._file.with_suffix(".svg").write_text(picture(self.rows), encoding="utf-8")


def picture(rows: list[Row]) -> str:
    """An SVG of the losses over the steps, each the mean of a few."""
    top = max(max(row.loss, row.mtp_loss, row.index_loss) for row in rows)
    right, bottom = _WIDTH - _MARGIN, _HEIGHT - _MARGIN
    lines = [_line([getattr(row, name) for row in rows], top, name) for name in _COLOURS]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            'font-family="sans-serif" font-size="12">',
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
            f'<path d="M{_MARGIN},{_MARGIN} V{bottom} H{right}" stroke="black" fill="none"/>',
            f'<text x="4" y="{_MARGIN}">{top:.1f}</text><text x="20" y="{bottom}">0</text>',
            f'<text x="{right}" y="{_HEIGHT - 20}" text-anchor="end">step {len(rows)}</text>',
            *lines,
            *_legend(),
            "</svg>\n",
        ]
    )


def _line(values: list[float], top: float, name: str) -> str:
    width, height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points: list[str] = []
    for end in range(1, len(values) + 1):
        part = values[max(0, end - _SMOOTHED_STEPS) : end]
        x = _MARGIN + width * end / len(values)
        y = _HEIGHT - _MARGIN - height * sum(part) / len(part) / top
        points.append(f"{x:.1f},{y:.1f}")
    return f'<polyline points="{" ".join(points)}" stroke="{_COLOURS[name]}" fill="none"/>'


def _legend() -> list[str]:
    return [
        f'<text x="{_WIDTH - 140}" y="{_MARGIN + 16 * place}" fill="{colour}">{name}</text>'
        for place, (name, colour) in enumerate(_COLOURS.items())
    ]


def _row(line: dict[str, str]) -> Row:
    loss, mtp, index = (float(line[name]) for name in _COLOURS)
    step, length = int(line["step"]), int(line["length"])
    return Row(step, length, loss, mtp, index, float(line["seconds"]))
