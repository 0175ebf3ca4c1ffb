"""The demo model's tokenizer: one token per byte, and DeepSeek's special tokens by their names."""

from typing import Any

BOS = "<｜begin▁of▁sentence｜>"
EOS = "<｜end▁of▁sentence｜>"
FIRST_BYTE = 3  # byte b is token FIRST_BYTE + b's place in _byte_order
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


def tokenizer_json(vocab_size: int) -> dict[str, Any]:
    """tokenizer.json for exactly `vocab_size` tokens; ids without a meaning are placeholders."""
    words = [BOS, EOS, _PAD, *_byte_letters(), *_AFTER_BYTES]
    assert len(words) <= vocab_size, f"{len(words)} tokens do not fit a vocabulary of {vocab_size}"
    words += [f"<｜place▁holder▁no▁{number}｜>" for number in range(len(words), vocab_size)]
    ids = {word: number for number, word in enumerate(words)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added(ids[word], word) for word in (BOS, EOS, _PAD, *_AFTER_BYTES)],
        "normalizer": None,
        "pre_tokenizer": byte_level | {"use_regex": False},
        "post_processor": None,
        "decoder": byte_level | {"use_regex": False},
        "model": {"type": "BPE", "vocab": ids, "merges": []},
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


def printable_ids() -> list[int]:
    """The tokens of printable ASCII."""
    return [FIRST_BYTE + place for place, byte in enumerate(_byte_order()) if 0x20 <= byte < 0x7F]


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
