"""`dsv4-tp launch`: a cluster that serves, or that generates what it is asked and leaves."""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import click

from dsv4_tp.cli.http_options import Door
from dsv4_tp.cli.inputs import Checkpoint, Running, cluster, default_file, read_checkpoint
from dsv4_tp.cli.launched import launched
from dsv4_tp.cli.speak import asks_for, speak
from dsv4_tp.client import Ask
from dsv4_tp.config import check_name
from dsv4_tp.errors import ConfigError, RequestError
from dsv4_tp.guides import check_form
from dsv4_tp.text import Text


def run(
    *,
    model: str | None,
    hosts: str | None,
    file: Path | None,
    dtype: str | None,
    name: str | None,
    prompt: tuple[str, ...],
    as_json: bool,
    **wishes: Any,
) -> None:
    """Launch what the options describe; see `launcher` for how it ends."""
    running = Running(**{field.name: wishes.pop(field.name) for field in fields(Running)})
    door = Door(**{field.name: wishes.pop(field.name) for field in fields(Door)})
    if not prompt:
        _refuse_idle(wishes, as_json)
    elif door.given:
        given = door.given[0]
        raise ConfigError(f"{given} and --prompt: it generates and leaves; leave one of them out")
    asks = asks_for(prompt, wishes, as_json=as_json)
    file = default_file(file, hosts)
    config = cluster(hosts=hosts, file=file, model=model, dtype=dtype, running=running)
    if name is not None:
        config = replace(config, name=check_name(name))
    config = replace(config, http=door.applied(config.http))
    checkpoint = read_checkpoint(config.model.path, mtp=config.mtp > 0)
    _check_prompts(asks, checkpoint, config.context)
    job = partial(speak, asks=asks, as_json=as_json, patient=True) if asks else None
    launched(config, checkpoint, job)


def _refuse_idle(wishes: dict[str, Any], as_json: bool) -> None:
    """Without a prompt nothing may be said about one."""
    given = {name for name, value in wishes.items() if value not in (None, False, ())}
    if as_json:
        given.add("as_json")
    options = click.get_current_context().command.params
    idle = next((option for option in options if option.name in given), None)
    if idle:
        raise ConfigError(f"{idle.opts[0]} needs --prompt")


def _check_prompts(asks: Sequence[Ask], checkpoint: Checkpoint, wanted: int | None) -> None:
    """Refuse what the cluster would refuse, before one is started."""
    if not asks:
        return
    text = Text.load(checkpoint.path)
    context = wanted or checkpoint.spec.max_position_embeddings
    whose = "cluster" if wanted else "model"
    for ask in asks:
        prompt = str(ask.prompt)
        if ask.json_schema is not None:
            check_form(ask.json_schema)
        ids = text.chat_ids(prompt) if ask.chat else text.prompt_ids(prompt)
        if len(ids) >= context:
            raise RequestError(
                f"the prompt has {len(ids)} tokens, the {whose}'s context is {context}"
            )
