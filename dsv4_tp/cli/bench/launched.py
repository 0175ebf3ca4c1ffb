"""What is to be known of a cluster that is measured: from the record of its launch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4_tp import demo
from dsv4_tp.config.environment import state_dir
from dsv4_tp.core import CacheRows
from dsv4_tp.errors import ConfigError
from dsv4_tp.history import LAUNCH_FILE, launch_folder
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.text import read_defaults


@dataclass(frozen=True, slots=True)
class Launched:
    """A cluster as it was launched from this machine."""

    model: str
    spec: ModelSpec
    last_ids: tuple[int, ...]  # tokens that end a text
    batch: int
    context: int
    cache_rows: CacheRows
    kinds: tuple[Mapping[str, int], ...]  # by rank: bytes of its weights, by kind


def read_launched(launch: str) -> Launched:
    """The cluster of this launch.

    Raises:
        ConfigError: it was not launched from here.
        ModelError: its config.json is not there any more.
    """
    file = launch_folder(state_dir(), launch) / LAUNCH_FILE
    try:
        words = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{file}: {error.strerror}; bench wants to know what was launched: "
            "run it where that was done"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{file}: {error}; launch the cluster again") from error
    return _launched(words)


def _launched(words: Mapping[str, Any]) -> Launched:
    config, plan = words["config"], words["plan"]
    model = str(config["model"]["path"])
    folder: Path = demo.model_dir(model)
    spec = read_spec(folder)
    eos_ids = read_defaults(folder).eos_ids or spec.eos_token_ids
    return Launched(
        model,
        spec,
        tuple(token for token in eos_ids if token < spec.vocab_size),
        int(config["batch"]),
        int(plan["context"]),
        CacheRows(plan["cache_rows"]),
        tuple(dict(rank["kinds"]) for rank in plan["rank_bytes"]),
    )
