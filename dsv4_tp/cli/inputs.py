"""From options to what the libraries take: which cluster, which model."""

from dataclasses import dataclass, replace
from pathlib import Path

from dsv4_tp import demo
from dsv4_tp.cli.tables import GB
from dsv4_tp.config import (
    DEMO,
    ClusterConfig,
    DTypeChoice,
    ModelConfig,
    PrefixCache,
    RestartPolicy,
    cluster_of_hosts,
    model_path,
    read_cluster,
)
from dsv4_tp.core import AttentionSplit, Backend, CacheRows
from dsv4_tp.errors import ConfigError
from dsv4_tp.layouts import Catalog, native_catalog
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.prepared import read_catalog

DEFAULT_FILE = Path("cluster.yaml")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model as its files describe it; no weights were read."""

    path: Path
    spec: ModelSpec
    catalog: Catalog


@dataclass(frozen=True, slots=True)
class Running:
    """What options say of requests and caches; where they say nothing, the file does."""

    context: int | None = None
    batch: int | None = None
    mtp: int | None = None
    queue: int | None = None
    cache_rows: str | None = None
    prefix_cache_gb: float | None = None
    prefix_cache_on_disk: bool = False
    restart: str | None = None
    backend: str | None = None
    attention: str | None = None

    def over(self, config: ClusterConfig) -> ClusterConfig:
        """The cluster, changed to what the options say."""
        given, size_gb = config.prefix_cache, self.prefix_cache_gb
        return replace(
            config,
            context=self.context or config.context,
            batch=self.batch or config.batch,
            mtp=config.mtp if self.mtp is None else self.mtp,
            queue=config.queue if self.queue is None else self.queue,
            cache_rows=CacheRows(self.cache_rows or config.cache_rows),
            prefix_cache=PrefixCache(
                given.nbytes if size_gb is None else int(size_gb * GB),
                given.on_disk or self.prefix_cache_on_disk,
            ),
            backend=Backend(self.backend or config.backend),
            attention=AttentionSplit(self.attention or config.attention),
            restart=replace(
                config.restart, policy=RestartPolicy(self.restart or config.restart.policy)
            ),
        )


def cluster(
    *,
    hosts: str | None,
    file: Path | None,
    model: str | None,
    dtype: str | None = None,
    running: Running = Running(),
) -> ClusterConfig:
    """The cluster that the options ask for; what they say overrides the file.

    Raises:
        ConfigError: both or neither of `hosts` and `file`, or what they say is wrong.
    """
    if hosts is not None and file is not None:
        raise ConfigError("--hosts and -f both describe a cluster; give one of them")
    if hosts is not None:
        return running.over(cluster_of_hosts(hosts, model_config(model, dtype)))
    if file is None:
        raise ConfigError("which hosts? give --hosts A,B or -f FILE; there is no ./cluster.yaml")
    config = read_cluster(file)
    path = config.model.path if model is None else model_path(model, Path.cwd())
    chosen = config.model.dtype if dtype is None else DTypeChoice(dtype).dtype
    return running.over(replace(config, model=ModelConfig(path, chosen)))


def default_file(file: Path | None, hosts: str | None) -> Path | None:
    """`file`, or ./cluster.yaml if there is one and no hosts are given."""
    if file is None and hosts is None and DEFAULT_FILE.is_file():
        return DEFAULT_FILE
    return file


def model_config(model: str | None, dtype: str | None) -> ModelConfig:
    """The model of the options alone.

    Raises:
        ConfigError: none is given.
    """
    if model is None:
        raise ConfigError(f"which model? give --model: a checkpoint's directory, or {DEMO}")
    return ModelConfig(model_path(model, Path.cwd()), DTypeChoice(dtype or "auto").dtype)


def read_checkpoint(model: str, *, mtp: bool = False) -> Checkpoint:
    """The model at a path on this machine, or DEMO: a checkpoint, a set, or a bare config.json.

    With its MTP stages if `mtp` asks for them.

    Raises:
        ModelError, CheckpointError: the files are not those of one DeepSeek-V4 model.
    """
    path = demo.model_dir(model)
    spec = read_spec(path)
    if path.is_dir():
        return Checkpoint(path, spec, read_catalog(path, spec, mtp=mtp))
    return Checkpoint(path, spec, native_catalog(spec, mtp=mtp))
