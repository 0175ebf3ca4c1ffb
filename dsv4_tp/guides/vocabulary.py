"""A checkpoint's tokens, sorted for the question which of them may come next."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llguidance import LLTokenizer

from dsv4_tp.errors import ModelError

_FILE = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the tokens of a model are as bytes; ids without one, and added ones, are never text."""

    tokens: LLTokenizer
    size: int  # rows of the model's head, which may have more than there are tokens
    marker: int  # a special token, which the library takes for the end of a text

    @classmethod
    def load(cls, model_dir: Path, size: int) -> "Vocabulary":
        """The vocabulary of the checkpoint in `model_dir`; takes a second for 129,280 tokens.

        Raises:
            ModelError: tokenizer.json is missing, unreadable or damaged, or has more tokens than
                `size`.
        """
        file = model_dir / _FILE
        if not file.is_file():
            raise ModelError(f"{file}: no such file; a JSON schema needs it")
        try:
            whole: Any = json.loads(file.read_text(encoding="utf-8", errors="replace"))
            for token in whole["added_tokens"]:
                token["special"] = True  # for <think> is a sign to the reader, not text
            marker: int = whole["added_tokens"][0]["id"]
            return cls(LLTokenizer(json.dumps(whole), size, marker), size, marker)
        except OSError as error:
            raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error
        except (ValueError, LookupError, TypeError) as error:
            raise ModelError(f"{file}: no vocabulary of {size} tokens: {error!r}") from error


def tokenizer_digest(model_dir: Path) -> str:
    """The sha256 of tokenizer.json; empty if there is none."""
    file = model_dir / _FILE
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
