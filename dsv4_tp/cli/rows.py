"""What `score` is given: a file of token ids, checked."""

import json
from pathlib import Path
from typing import cast

from dsv4_tp.errors import RequestError
from dsv4_tp.modelspec import ModelSpec

Rows = tuple[tuple[int, ...], ...]


def read_rows(file: Path, spec: ModelSpec, context: int | None = None) -> Rows:
    """The rows [B, L] of a JSON list of equally long lists of token ids, all fit for `spec`.

    They have at most `context` ids (None: what the model was made for).

    Raises:
        RequestError: it is not such a list; names file, row, place and value.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise RequestError(f"{file}: not JSON: {error}") from error
    if not isinstance(data, list) or not data:
        raise RequestError(f"{file}: expected a list of lists of token ids")
    rows = tuple(
        _row(f"{file}: row {number}", row, spec, context or spec.max_position_embeddings)
        for number, row in enumerate(cast(list[object], data))
    )
    odd = next((number for number, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if odd is not None:
        lengths = f"row {odd} has {len(rows[odd])} ids, row 0 has {len(rows[0])}"
        raise RequestError(f"{file}: {lengths}; rows must be equally long")
    return rows


def _row(where: str, row: object, spec: ModelSpec, context: int) -> tuple[int, ...]:
    if not isinstance(row, list):
        raise RequestError(f"{where} is {row!r:.40}, expected a list of token ids")
    ids = cast(list[object], row)
    if len(ids) < 2:
        raise RequestError(f"{where} has {len(ids)} ids; the first is given, so 2 are the least")
    if len(ids) > context:
        raise RequestError(f"{where} has {len(ids)} ids, the context is {context}")
    for place, token in enumerate(ids):
        # Not isinstance: true is an int to Python.
        if type(token) is not int or not 0 <= token < spec.vocab_size:
            expected = f"a token id, 0 to {spec.vocab_size - 1}"
            raise RequestError(f"{where}, place {place}: {token!r:.40} is not {expected}")
    return tuple(cast(list[int], ids))
