"""`dsv4-tp push`: to each host the weights of its own ranks. Never imports MLX."""

import json
from dataclasses import asdict
from pathlib import Path

from dsv4_tp import demo
from dsv4_tp.cli.bars import Bars, Lines, somebody_looks
from dsv4_tp.cli.inputs import Running, cluster, default_file
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.errors import CheckpointError
from dsv4_tp.launcher.cargo import Cargo, cargo_of
from dsv4_tp.launcher.push import Sent, push
from dsv4_tp.prepared import start_set


def run(
    *,
    model: str | None,
    out: Path,
    hosts: str | None,
    file: Path | None,
    attention: str | None,
    as_json: bool,
) -> None:
    """Send what the options ask for, and print what was sent."""
    running = Running(attention=attention)
    config = cluster(hosts=hosts, file=default_file(file, hosts), model=model, running=running)
    shares = (config.weights, config.experts, config.attention)
    cargo = cargo_of(demo.model_dir(config.model.path), *shares)
    out = out.absolute()
    with Bars() as bars:
        sent = push(config, cargo, out, (bars if somebody_looks() else Lines()).show)
    if not any(host.is_local for host in config.hosts):
        _lay_out_here(out, cargo)
    if as_json:
        hosts_sent = [{"host": host} | asdict(one) for host, one in sent.items()]
        print(json.dumps({"out": str(out), "hosts": hosts_sent}))
        return
    print(table(["host", "ranks", "GB held", "GB sent", "s", "GB/s"], _rows(sent)))
    note(f"for {cargo.manifest.purpose}; launch it with --model {out}")


def _lay_out_here(out: Path, cargo: Cargo) -> None:
    """What a launch from this machine reads of the set, which has no weights here."""
    try:
        start_set(out, cargo.manifest, cargo.small_files)
    except CheckpointError as error:
        note(f"to launch it from here, copy its small files from a host: {error}")


def _rows(sent: dict[str, Sent]) -> list[list[str]]:
    return [
        [
            host,
            ",".join(map(str, one.ranks)),
            gigabytes(one.held_bytes),
            gigabytes(one.sent_bytes),
            f"{one.seconds:.1f}",
            gigabytes(round(one.sent_bytes / one.seconds)),
        ]
        for host, one in sent.items()
    ]
