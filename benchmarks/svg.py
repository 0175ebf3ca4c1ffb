"""Charts as SVG: bars, lines, and points beside one. The same data draw the same bytes.

A picture has a ground of its own and follows the reader's light or dark theme. Colours are told
apart by those who do not see all of them.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import count, takewhile

WIDTH, MARGIN, TOP = 720, 24, 84
_LEFT, _RIGHT = 196, 84  # room beside bars and points
_BAR, _ROW, _PLOT = 15, 22, 260
_STYLE = """<style>
text{fill:#1f2328}.soft{fill:#59636e}.ground{fill:#fff;stroke:#d1d9e0}.grid{stroke:#d1d9e0}
.c0{color:#0969da}.c1{color:#bc4c00}.c2{color:#59636e}
@media (prefers-color-scheme:dark){
text{fill:#f0f6fc}.soft{fill:#9198a1}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#3d444d}
.c0{color:#4493f8}.c1{color:#f0883e}.c2{color:#9198a1}}
</style>"""


def bars(title: str, note: str, groups: Mapping[str, Mapping[str, float]], unit: str) -> str:
    """A bar for each name of each group, from 0; groups have the same names."""
    names = list(next(iter(groups.values())))
    most = max(value for group in groups.values() for value in group.values())
    room = WIDTH - _LEFT - _RIGHT
    body, y = _legend(names), TOP
    for label, group in groups.items():
        middle = y + len(group) * (_BAR + 3) / 2
        body.append(_text(_LEFT - 12, middle + 4, label, "end"))
        for place, value in enumerate(group.values()):
            long = room * value / most
            body += [
                f'<rect class="c{place}" x="{_LEFT}" y="{y}" width="{long:.1f}" height="{_BAR}" '
                'rx="2" fill="currentColor"/>',
                _text(_LEFT + long + 6, y + 12, f"{value:,g}{unit}"),
            ]
            y += _BAR + 3
        y += 14
    return _picture(title, note, y, body)


def lines(
    title: str,
    note: str,
    places: Sequence[str],
    curves: Mapping[str, Mapping[str, Sequence[float | None]]],
) -> str:
    """A colour for each name; its first curve is drawn through, later ones are dashed."""
    known = [
        v for name in curves.values() for curve in name.values() for v in curve if v is not None
    ]
    steps = (round_ * 10**power for power in count() for round_ in (1, 2, 5))
    step = next(step for step in steps if max(known) / step <= 6)
    ticks = list(takewhile(lambda tick: tick < max(known) + step, count(0, step)))
    bottom, left = TOP + _PLOT, MARGIN + 32
    across = (WIDTH - MARGIN - left) / len(places)
    body = _legend(list(curves))
    for tick in ticks:
        y = bottom - _PLOT * tick / ticks[-1]
        body += [_line(left, y, WIDTH - MARGIN, y), _text(left - 8, y + 4, str(tick), "end")]
    at = [left + across * (place + 0.5) for place in range(len(places))]
    body += [_text(x, bottom + 20, name, "middle") for x, name in zip(at, places, strict=True)]
    for colour, name in enumerate(curves):
        for dashes, curve in enumerate(curves[name].values()):
            heights = [None if v is None else bottom - _PLOT * v / ticks[-1] for v in curve]
            body += _curve(at, heights, colour, dashed=dashes > 0)
    return _picture(title, note, bottom + 32, body)


def _curve(
    at: Sequence[float], heights: Sequence[float | None], colour: int, *, dashed: bool
) -> Iterator[str]:
    points = [(x, y) for x, y in zip(at, heights, strict=True) if y is not None]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    yield f'<g class="c{colour}" stroke="currentColor" fill="currentColor" stroke-width="2">'
    yield f'<polyline points="{path}" fill="none"{dash}/>'
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
    yield "</g>"


def points(
    title: str, note: str, rows: Sequence[tuple[str, str, float, str]], names: Sequence[str]
) -> str:
    """Rows of (label, name, ratio, words): how far from 1 the ratio lies; colours by name."""
    left, right = _LEFT + 110, WIDTH - _RIGHT - 30
    low, high = min(0.7, *(row[2] for row in rows)), max(1.3, *(row[2] for row in rows))

    def across(ratio: float) -> float:
        return left + (right - left) * (ratio - low) / (high - low)

    bottom = TOP + _ROW * len(rows)
    body = _legend(names)
    for percent in range(-100, 101, 20):
        if low <= (ratio := 1 + percent / 100) <= high:
            told = f"{percent:+} %" if percent else "0 %"
            body.append(_line(across(ratio), TOP - 6, across(ratio), bottom))
            body.append(_text(across(ratio), bottom + 16, told, "middle"))
    for place, (label, name, ratio, words) in enumerate(rows):
        y, colour = TOP + _ROW * (place + 0.5), names.index(name)
        body += [
            _text(MARGIN, y + 4, label),
            f'<g class="c{colour}" stroke="currentColor" fill="currentColor" stroke-width="2">'
            f'<path d="M{across(1):.1f},{y}H{across(ratio):.1f}"/>'
            f'<circle cx="{across(ratio):.1f}" cy="{y}" r="4"/></g>',
            _text(WIDTH - MARGIN, y + 4, words, "end"),
        ]
    return _picture(title, note, bottom + 28, body)


def _legend(names: Sequence[str]) -> list[str]:
    found, x = list[str](), MARGIN
    for place, name in enumerate(names):
        found.append(
            f'<rect class="c{place}" x="{x}" y="60" width="10" height="10" rx="2" '
            'fill="currentColor"/>' + _text(x + 16, 69, name)
        )
        x += 40 + 7 * len(name)
    return found


def _line(x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<path class="grid" d="M{x:.1f},{y:.1f}L{to_x:.1f},{to_y:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str = "start", more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{escape(words)}</text>'


def _picture(title: str, note: str, height: float, body: Sequence[str]) -> str:
    tall = height + MARGIN / 2
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {tall:.0f}" role="img" '
        'font-family="system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif" font-size="12">'
    )
    ground = f'x="0.5" y="0.5" width="{WIDTH - 1}" height="{tall - 1:.1f}" rx="6"'
    return "\n".join(
        [
            *(head, f"<title>{escape(title)}</title>", _STYLE, f'<rect class="ground" {ground}/>'),
            _text(MARGIN, 28, title, more=' font-size="15" font-weight="600"'),
            _text(MARGIN, 46, note, more=' class="soft"'),
            *body,
            "</svg>\n",
        ]
    )
