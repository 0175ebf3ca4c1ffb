"""The example of the library: short, and true."""

import runpy
from pathlib import Path

import pytest

import dsv4_tp
from dsv4_tp import InputError, launch

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "generate.py"


@pytest.mark.cluster
def test_the_example_makes_the_same_text_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("DSV4TP_PRELOAD", "off")  # equal bits need the stock BLAS
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    here, there, cost = capsys.readouterr().out.splitlines()
    assert here == there
    assert here.startswith(" The wind was cold.")
    assert cost.startswith("60 tokens, ")
    assert cost.endswith("/s, length")
    assert [*tmp_path.glob("*.json"), *tmp_path.glob("*.pem")] == []  # nothing runs any more


def test_the_example_is_short_and_its_document_shows_it():
    text = EXAMPLE.read_text()
    assert text.count("\n") <= 25
    shown = (ROOT / "docs" / "python-api.md").read_text()
    assert all(line in shown for line in text.splitlines() if line.startswith("    with "))


def test_a_launch_that_is_refused_says_why():
    with (
        pytest.raises(InputError, match="Invalid value for '--batch'"),
        launch("demo", hosts=["localhost"], options=["--batch", "0"]),
    ):
        pass


def test_the_names_are_those_that_are_typed_and_told():
    names = [name for name in dsv4_tp.__all__ if name != "__version__"]
    typed = (ROOT / "dsv4_tp" / "__init__.pyi").read_text()
    told = (ROOT / "docs" / "python-api.md").read_text()
    for name in names:
        assert getattr(dsv4_tp, name).__doc__
        assert f" as {name}\n" in typed
        assert f"`{name}" in told
    assert typed.count(" as ") == len(names)
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        dsv4_tp.lod  # noqa: B018
