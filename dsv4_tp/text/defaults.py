"""generation_config.json: what a checkpoint's makers recommend, where a request says nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from dsv4_tp.errors import ModelError
from dsv4_tp.modelspec.fields import Fields

_FILE = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Defaults:
    """Sampling settings in the words of `core.Sampling`, and the ids that end a text.

    A checkpoint without the file samples from the plain distribution, as DeepSeek's do, and
    `eos_ids` is empty: config.json then names them.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    eos_ids: tuple[int, ...] = ()


def read_defaults(model_dir: Path) -> Defaults:
    """The defaults of the checkpoint in `model_dir`.

    Raises:
        ModelError: a value is wrong; names file, key and value.
    """
    fields = _read(model_dir / _FILE)
    greedy = "do_sample" in fields and not fields.flag("do_sample")
    temperature = fields.number("temperature") if "temperature" in fields else 1.0
    top_p = fields.number("top_p") if "top_p" in fields else 1.0
    if not 0 < top_p <= 1:
        raise fields.wrong("top_p", "a number above 0, at most 1")
    min_p = fields.number("min_p") if "min_p" in fields else 0.0
    if not 0 <= min_p <= 1:
        raise fields.wrong("min_p", "a number from 0 to 1")
    repetition = fields.number("repetition_penalty") if "repetition_penalty" in fields else 1.0
    if repetition == 0:
        raise fields.wrong("repetition_penalty", "a number above 0")
    return Defaults(
        temperature=0.0 if greedy else temperature,
        top_p=top_p,
        top_k=fields.integer("top_k", least=0) if "top_k" in fields else 0,
        min_p=min_p,
        repetition_penalty=repetition,
        eos_ids=_eos_ids(fields),
    )


def _read(file: Path) -> Fields:
    if not file.exists():
        return Fields({}, str(file))
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{file}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file}: expected a JSON object, found {type(data).__name__}")
    return Fields(cast(dict[str, object], data), str(file))


def _eos_ids(fields: Fields) -> tuple[int, ...]:
    if "eos_token_id" not in fields:
        return ()
    if isinstance(fields.data["eos_token_id"], list):
        return fields.integers("eos_token_id")
    return (fields.integer("eos_token_id", least=0),)
