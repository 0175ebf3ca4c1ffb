"""What is run on a Mac to ask it, and nothing else."""

import pytest

from dsv4_tp.macs import tools
from dsv4_tp.macs.tools import run_tool, run_tools


def test_only_named_tools_of_the_system_are_run(tmp_path, monkeypatch):
    tool = tmp_path / "pmset"
    tool.write_text("#!/bin/sh\necho asked: $*\n")
    tool.chmod(0o755)
    assert run_tool("pmset") is None  # this is no Mac
    monkeypatch.setattr(tools.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(tools, "TOOLS", str(tmp_path))
    assert run_tool("pmset") == "asked: -g\n"
    assert run_tools(["pmset", "vm_stat"]) == {"pmset": "asked: -g\n"}
    with pytest.raises(KeyError):
        run_tool("reboot")
