"""Stands for the interpreter of a host: `-m dsv4_tp agent ...` becomes an agent of stand-ins.

What the tools of a Mac would print is `tools` in the stand-ins' script.
"""

import json
import os
import sys
from pathlib import Path

from dsv4_tp.agent import machine
from dsv4_tp.agent.main import run

_, _, command, *options = sys.argv[1:]
assert command == "agent", sys.argv
machine.run_tools = lambda _: json.loads(Path(os.environ["STANDIN"]).read_text())["tools"]
given = dict(option.split("=", 1) for option in options)
run(
    bind_host=given.get("--bind"),
    port=int(given["--port"]),
    state_dir=None,
    detach=False,
    worker_argv=(sys.executable, str(Path(__file__).with_name("standin.py"))),
)
