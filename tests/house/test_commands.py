"""What programs rely on: every command has JSON, and the page that describes it has all of it."""

import ast
import re
from dataclasses import fields
from pathlib import Path

from dsv4_tp.cli.commands import cli
from dsv4_tp.cli.top import Pace, RankPace
from dsv4_tp.client import Downfall, HostDown
from dsv4_tp.history import Entry

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
WITHOUT = {"score", "hostfile"}  # the one prints nothing else, the other writes files


def test_every_command_prints_json_if_asked():
    shown = {name: command for name, command in cli.commands.items() if not command.hidden}
    mute = {
        name
        for name, command in shown.items()
        if not any(option.name == "as_json" for option in command.params)
    }
    assert mute == WITHOUT
    assert [name for name in shown.keys() - {"hostfile"} if f"`{name}" not in PAGE] == []


def test_every_field_is_described():
    told = (Entry, Pace, RankPace, Downfall, HostDown)
    names = {field.name for kind in told for field in fields(kind)}
    assert [name for name in sorted(names) if f"`{name}`" not in PAGE] == []


def test_every_kind_of_event_is_described():
    source = (ROOT / "dsv4_tp/coordinator/narrate.py").read_text(encoding="utf-8")
    words = {
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    kinds = {word for word in words if re.fullmatch(r"[a-z]+(-[a-z]+)+", word)}
    assert len(kinds) > 15
    assert [kind for kind in sorted(kinds | {"ready"}) if f"`{kind}`" not in PAGE] == []
