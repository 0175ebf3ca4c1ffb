"""The guides of a rank's requests, if all ranks make them of the same tokens."""

from pathlib import Path

from dsv4_tp.core import Request
from dsv4_tp.engine import Collectives
from dsv4_tp.engine.common import common
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.guides import Guide, Vocabulary, tokenizer_digest


class Guides:
    """Makes guides; the tokenizer is read for the first of them."""

    def __init__(self, model_dir: Path, rows: int, collectives: Collectives) -> None:
        """Meets the other ranks; `rows` are those of the model's head."""
        digest = tokenizer_digest(model_dir)
        self._alike = bool(common(collectives, [digest] if digest else []))
        self._model_dir = model_dir
        self._rows = rows
        self._vocabulary: Vocabulary | None = None

    def guide(self, request: Request) -> Guide:
        """The guide of a request that has a form.

        Raises:
            InputError, on every rank if on one: no text can be held to it here, or what the
                request was told is not.
        """
        if not self._alike:
            raise ModelError(
                f"{self._model_dir / 'tokenizer.json'} is missing on a host, or another one there, "
                "and texts are held to forms by it; copy it from where the checkpoint is whole"
            )
        if self._vocabulary is None:
            self._vocabulary = Vocabulary.load(self._model_dir, self._rows)
        guide = Guide(self._vocabulary, request.form, request.stop_ids, after=request.form_after)
        # Asked also where nothing was told: the library leaves some of its work until then.
        if guide.allowed(request.told) is None:
            raise RequestError("told: these tokens are against the request's form")
        return guide
