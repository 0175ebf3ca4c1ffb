"""`dsv4-tp launch`: a cluster that serves, or that generates once and leaves."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dsv4_tp import launcher
from dsv4_tp.cli.inputs import (
    Checkpoint,
    cluster,
    default_file,
    read_checkpoint,
    resolve_model,
    with_model,
)
from dsv4_tp.cli.speak import speak
from dsv4_tp.cli.tables import note
from dsv4_tp.client import Ask
from dsv4_tp.config import DEMO, check_name
from dsv4_tp.errors import ConfigError, RequestError
from dsv4_tp.text import Text

_RANDOM = "the demo model has random weights: it shows the machinery, not a language"


def run(
    *,
    model: str | None,
    hosts: str | None,
    file: Path | None,
    dtype: str | None,
    name: str | None,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Launch what the options describe; see `launcher` for how it ends."""
    ask = _ask(as_json, wishes)
    config = cluster(hosts=hosts, file=default_file(file, hosts), model=model, dtype=dtype)
    if name is not None:
        config = replace(config, name=check_name(name))
    checkpoint = read_checkpoint(resolve_model(config.model.path))
    if ask is not None:
        _check_prompt(ask, checkpoint)
    remark = _RANDOM if config.model.path == DEMO else ""
    job = partial(_once, ask=ask, as_json=as_json, remark=remark) if ask else None
    config = with_model(config, checkpoint)
    launcher.launch(config, checkpoint.spec, checkpoint.catalog, job=job, tell=note)


def _ask(as_json: bool, wishes: dict[str, Any]) -> Ask | None:
    """What to generate; None without a prompt, and then nothing may be said about one."""
    if wishes["prompt"] is not None:
        return Ask(**wishes)
    given = [name for name, value in wishes.items() if value not in (None, False)]
    idle = [*given, *(["json"] if as_json else [])]
    if idle:
        raise ConfigError(f"--{idle[0].replace('_', '-')} needs --prompt")
    return None


async def _once(address: str, *, ask: Ask, as_json: bool, remark: str) -> None:
    await speak(address, ask, as_json=as_json)
    if remark:
        note(remark)


def _check_prompt(ask: Ask, checkpoint: Checkpoint) -> None:
    """Refuse what the cluster would refuse, before one is started."""
    text = Text.load(checkpoint.path)
    ids = text.chat_ids(ask.prompt) if ask.chat else text.prompt_ids(ask.prompt)
    context = checkpoint.spec.max_position_embeddings
    if len(ids) >= context:
        raise RequestError(f"the prompt has {len(ids)} tokens, the model's context is {context}")
