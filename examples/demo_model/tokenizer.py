"""The demo model's tokenizer: every word of its corpus is one token, all other text is bytes.

A token is a special token, a byte, or a whole word with the space before it. There are no merges:
a piece of text that is no known word falls back to its bytes, so every text survives the round
trip.
"""

import json
from typing import Any

from tokenizers import Tokenizer

from examples.demo_model.corpus import words
from examples.demo_model.encoding_dsv4 import bos_token, eos_token

BOS = bos_token
EOS = eos_token
_PAD = "<｜▁pad▁｜>"
_AFTER_BYTES = (
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "｜DSML｜",
    "<｜latest_reminder｜>",
    "<｜action｜>",
    "<｜query｜>",
    "<｜authority｜>",
    "<｜domain｜>",
    "<｜title｜>",
    "<｜read_url｜>",
)
# In the release these are ordinary text to a decoder that skips special tokens.
_NOT_SPECIAL = frozenset({"<think>", "</think>", "｜DSML｜"})


def tokenizer_json(vocab_size: int = 640) -> dict[str, Any]:
    """tokenizer.json for exactly `vocab_size` tokens; ids without a meaning are placeholders."""
    vocabulary = [BOS, EOS, _PAD, *_byte_letters(), *_AFTER_BYTES, *map(_letters, words())]
    assert len(vocabulary) <= vocab_size, f"{len(vocabulary)} tokens, room for {vocab_size}"
    spare = range(len(vocabulary), vocab_size)
    vocabulary += [f"<｜place▁holder▁no▁{number}｜>" for number in spare]
    ids = {word: number for number, word in enumerate(vocabulary)}
    assert len(ids) == vocab_size, "a word is listed twice"
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pieces = [
        {"type": "Digits", "individual_digits": True},
        byte_level | {"use_regex": True},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(ids[word], word) for word in (BOS, EOS, _PAD, *_AFTER_BYTES)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": pieces},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": {"type": "BPE", "ignore_merges": True, "vocab": ids, "merges": []},
    }


def tokenizer_config(context: int) -> dict[str, Any]:
    """tokenizer_config.json; as in the release there is no chat template."""
    return {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def load() -> Tokenizer:
    """The tokenizer itself; encode with `add_special_tokens=False`."""
    return Tokenizer.from_str(json.dumps(tokenizer_json()))


def _added(number: int, word: str) -> dict[str, Any]:
    return {
        "id": number,
        "content": word,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": word not in _NOT_SPECIAL,
    }


def _letters(word: str) -> str:
    """The word in the letters of byte-level BPE; a word is ASCII, of which only the space hides."""
    return word.replace(" ", "Ġ")


def _byte_letters() -> list[str]:
    """Byte-level BPE's letter for every byte: itself if it shows, else one from U+0100 on."""
    shown = sum(map(_shows, range(256)))
    letters = [chr(byte) for byte in _byte_order()[:shown]]
    return letters + [chr(256 + place) for place in range(256 - shown)]


def _byte_order() -> list[int]:
    """The bytes by token id: those that show, then the others."""
    return sorted(range(256), key=lambda byte: (not _shows(byte), byte))


def _shows(byte: int) -> bool:
    return 0x21 <= byte <= 0x7E or (0xA1 <= byte <= 0xFF and byte != 0xAD)
