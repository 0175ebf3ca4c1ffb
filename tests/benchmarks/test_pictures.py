"""Pictures show what is published."""

from xml.etree import ElementTree

import pytest

from benchmarks import pictures, svg


@pytest.mark.parametrize("name", pictures.PICTURES)
def test_a_picture_is_what_the_figures_draw(name: str):
    """If not: `make bench-pictures`."""
    drawn = pictures.PICTURES[name]()
    assert (pictures.FOLDER / f"{name}.svg").read_text(encoding="utf-8") == drawn
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def test_no_picture_is_left_over():
    assert {file.stem for file in pictures.FOLDER.iterdir()} == pictures.PICTURES.keys()


def test_a_bar_is_as_long_as_its_value():
    drawn = ElementTree.fromstring(svg.bars("a", "b", {"g": {"x": 5, "y": 10}}, " <"))
    long = [float(bar.get("width", "0")) for bar in drawn.iterfind(".//{*}rect[@height='15']")]
    assert long == [pytest.approx(long[1] / 2), long[1]]
    assert "10 <" in [text.text for text in drawn.iterfind(".//{*}text")]


def test_a_curve_leaves_out_what_is_not_known():
    drawn = svg.lines("a", "b", ("1", "2", "3"), {"x": {"near": [None, 1.0, 2.0]}})
    (curve,) = ElementTree.fromstring(drawn).iterfind(".//{*}polyline")
    assert len(curve.get("points", "").split()) == 2
