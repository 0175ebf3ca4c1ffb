"""A launch, and what a person sees of it."""

from functools import partial
from typing import TypeVar

from dsv4_tp import launcher
from dsv4_tp.cli.bars import Bars, somebody_looks
from dsv4_tp.cli.inputs import Checkpoint
from dsv4_tp.cli.unhurried import unhurried
from dsv4_tp.config import ClusterConfig
from dsv4_tp.launcher.serve import Job

_T = TypeVar("_T")


def launched(config: ClusterConfig, checkpoint: Checkpoint, job: Job[_T] | None) -> _T | None:
    """Run a cluster as `launcher` promises; each step of it is told on stderr."""
    with unhurried(), Bars() as bars:
        on_loaded = partial(bars.show, "loading") if somebody_looks() else None
        return launcher.launch(
            config,
            checkpoint.spec,
            checkpoint.catalog,
            job=job,
            tell=bars.note,
            on_loaded=on_loaded,
        )
