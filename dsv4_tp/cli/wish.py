"""What is to be planned: a model, shares of it, and how they are cut, from the options."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4_tp.cli.inputs import Running, cluster, default_file
from dsv4_tp.config import BATCH, LOCALHOST, ClusterConfig, parse_weights
from dsv4_tp.core import AttentionSplit, CacheRows, DType, ExpertSplit
from dsv4_tp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be planned."""

    model: str
    weights: tuple[int, ...]
    experts: ExpertSplit = ExpertSplit.WIDTH
    attention: AttentionSplit = AttentionSplit.SPLIT
    dtype: DType | None = None  # None: as stored
    context: int | None = None  # None: what the model was made for
    chunk: int | None = None  # None: as memory allows
    cache_rows: CacheRows = CacheRows.EXACT
    batch: int = BATCH  # most requests at a time
    mtp: int = 0  # most tokens drafted ahead
    prefix_bytes: int | None = None  # for snapshots of prompts; None: the planner's choice
    hosts: tuple[tuple[str, tuple[int, ...]], ...] = ()  # names, and which ranks they share


def wish(
    *,
    model: str | None,
    ranks: int | None,
    split: str | None,
    hosts: str | None,
    file: Path | None,
    **running: Any,
) -> Wish:
    """What the options ask for; what they leave open comes from ./cluster.yaml.

    Raises:
        ConfigError: they contradict each other, or something is missing.
    """
    weights = _weights(ranks=ranks, split=split, hosts=hosts, file=file)
    if model is not None and weights is not None:
        # Where the ranks would run does not matter.
        config = cluster(hosts=LOCALHOST, file=None, model=model, running=Running(**running))
        return _of_cluster(config, weights)
    file = default_file(file, hosts)
    if file is None and hosts is None:
        missing = "--model PATH" if weights else "--ranks N, --split 3:5, --hosts A,B or -f FILE"
        raise ConfigError(f"there is no ./cluster.yaml; give {missing}")
    config = cluster(hosts=hosts, file=file, model=model, running=Running(**running))
    return _of_cluster(config, weights)


def _of_cluster(config: ClusterConfig, weights: tuple[int, ...] | None) -> Wish:
    return Wish(
        config.model.path,
        weights or config.weights,
        config.experts,
        config.attention,
        config.model.dtype,
        config.context,
        config.prefill_chunk,
        config.cache_rows,
        config.batch,
        config.mtp,
        config.prefix_cache.nbytes,
        hosts=() if weights else tuple((h.name, config.ranks_on(h)) for h in config.hosts),
    )


def _weights(
    *, ranks: int | None, split: str | None, hosts: str | None, file: Path | None
) -> tuple[int, ...] | None:
    """The ranks' weights the options state; None: the cluster does."""
    ways = {"--ranks": ranks, "--split": split, "--hosts": hosts, "-f": file}
    given = [way for way, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)} all say how many ranks; give one of them")
    if ranks is not None:
        return (1,) * ranks
    return None if split is None else parse_weights(split)
