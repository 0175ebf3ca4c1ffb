"""What the documents show works: links lead somewhere, samples parse, targets exist."""

import re
from pathlib import Path

import pytest

from dsv4_tp.config import read_cluster

ROOT = Path(__file__).parents[2]
FOLDERS = (
    *(".", "docs", "docs/adr", "launch", "benchmarks", "tests/golden"),
    *("examples/demo_model", "dsv4_tp/demo/checkpoint"),
)
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if not target.startswith("http")]
    assert [target for target in local if not (page.parent / target).exists()] == []


def anchors(page: Path) -> set[str]:
    """What links call the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", head.lower()) for head in heads)
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings(page: Path):
    links = re.findall(r"\]\(([^)#\s]*)#([^)]+)\)", page.read_text(encoding="utf-8"))
    local = [(page.parent / to if to else page, at) for to, at in links if "://" not in to]
    assert [(str(to), at) for to, at in local if at not in anchors(to)] == []


def test_every_decision_is_listed():
    folder = ROOT / "docs/adr"
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == sorted(page.name for page in folder.glob("[0-9]*.md"))


def test_the_readmes_cluster_file_is_one(tmp_path: Path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (sample,) = re.findall(r"```yaml\n(.*?)```", readme, flags=re.DOTALL)
    file = tmp_path / "cluster.yaml"
    file.write_text(sample)
    assert len(read_cluster(file).ranks) == 3


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_exist(page: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    text = (ROOT / page).read_text(encoding="utf-8")
    commands = re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.MULTILINE)
    assert commands
    assert set(commands) <= targets


def test_the_layers_in_the_decision_are_those_that_are_enforced():
    page = (ROOT / "docs/adr/0006-layers.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```\n(.*?)```", page, flags=re.DOTALL)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (layers,) = re.findall(r"\nlayers = \[\n(.*?)\n\]", settings, flags=re.DOTALL)
    enforced = re.findall(r'"([^"]+)"', layers)
    assert ["__main__", *block.splitlines()] == enforced
