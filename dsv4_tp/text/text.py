"""Text: one checkpoint's tokenizer and prompt format."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tokenizers import Tokenizer, decoders

from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.text.defaults import Defaults, read_defaults
from dsv4_tp.text.detokenizer import Detokenizer

_BOS = "<｜begin▁of▁sentence｜>"
_USER = "<｜User｜>"
_ASSISTANT = "<｜Assistant｜>"
NO_THOUGHT = "</think>"  # chat mode: the answer starts with its thinking already closed
_FILE = "tokenizer.json"
TAGS = ("<think>", NO_THOUGHT, "｜DSML｜")


@dataclass(frozen=True, slots=True)
class Text:
    """Words to ids and back, and what the checkpoint recommends for sampling."""

    tokenizer: Tokenizer
    defaults: Defaults
    where: str  # the tokenizer's file, for errors

    @classmethod
    def load(cls, model_dir: Path) -> "Text":
        """The tokenizer and defaults of the checkpoint in `model_dir`.

        Raises:
            ModelError: tokenizer.json is missing, damaged or not of DeepSeek's kind.
        """
        file = model_dir / _FILE
        if not file.is_file():
            raise ModelError(f"{file}: no such file; text needs it, token ids do not")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises bare Exception
            raise ModelError(f"{file}: not a tokenizer: {error}") from error
        if not isinstance(tokenizer.decoder, decoders.ByteLevel):
            raise ModelError(f"{file}: the decoder is not ByteLevel; DeepSeek's is")
        for token in (_BOS, _USER, _ASSISTANT, NO_THOUGHT):
            if tokenizer.token_to_id(token) is None:
                raise ModelError(f"{file}: no token {token}; DeepSeek-V4's tokenizer has one")
        return cls(tokenizer, read_defaults(model_dir), str(file))

    def prompt_ids(self, raw: str) -> tuple[int, ...]:
        """BOS and the text as it is, [1 + T].

        Raises:
            RequestError: the text is empty.
        """
        return self._encode(_BOS, raw)

    def chat_ids(self, user: str) -> tuple[int, ...]:
        """One user turn, and the opening of an answer without thinking.

        Raises:
            RequestError: the turn is empty.
        """
        return self._encode(_BOS + _USER, user, _ASSISTANT + NO_THOUGHT)

    @property
    def special(self) -> tuple[str, ...]:
        """Tokens that a text may spell and must not be read as."""
        added = self.tokenizer.get_added_tokens_decoder().values()
        return tuple(token.content for token in added)

    def ids(self, parts: Iterable[str]) -> tuple[int, ...]:
        """The ids of a text that is cut where it spells a special token without being one."""
        encodings = self.tokenizer.encode_batch([*parts], add_special_tokens=False)
        return tuple(chain.from_iterable(each.ids for each in encodings))

    def id_of(self, token: str) -> int:
        """The id of a special token that every checkpoint has."""
        found = self.tokenizer.token_to_id(token)
        assert found is not None, token
        return found

    def stream(self, *, tags: bool = False) -> Detokenizer:
        """A detokenizer for one text; with `tags` it shows where thinking ends and tools begin."""
        return Detokenizer(self.tokenizer, shown=TAGS if tags else ())

    def _encode(self, before: str, words: str, after: str = "") -> tuple[int, ...]:
        if not words:
            raise RequestError("the prompt is empty; it needs at least one character")
        # One call: pieces encoded apart can differ where they meet.
        return tuple(self.tokenizer.encode(before + words + after, add_special_tokens=False).ids)
