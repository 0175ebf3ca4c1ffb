"""Token ids -> text while they come, never half a character."""

import codecs
from collections.abc import Collection, Sequence

from tokenizers import Tokenizer


class Detokenizer:
    """One text in the making.

    The pieces it returns, joined, are what decoding all ids at once would give without special
    tokens; bytes that are no UTF-8 become U+FFFD. Costs the same for every token.
    """

    def __init__(self, tokenizer: Tokenizer, shown: Collection[str] = ()) -> None:
        """`shown`: special tokens that are text here."""
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        hidden = (token_id for token_id, token in added.items() if token.special)
        self._hidden = {token_id for token_id in hidden if added[token_id].content not in shown}
        self._bytes = _byte_alphabet()
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, ids: Sequence[int]) -> str:
        """The characters that are complete with these ids."""
        return self._utf8.decode(b"".join(map(self._spell, ids)))

    def finish(self) -> str:
        """What the last character's missing bytes leave: nothing, or U+FFFD."""
        return self._utf8.decode(b"", final=True)

    def _spell(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        # A vocabulary may be padded with ids that no token has.
        if token is None or token_id in self._hidden:
            return b""
        try:
            return bytes(self._bytes[character] for character in token)
        except KeyError:  # an added token: its content is plain text
            return token.encode()


def _byte_alphabet() -> dict[str, int]:
    """The byte behind each character of a byte-level vocabulary, as GPT-2 defined it.

    Printable Latin-1 stands for itself; the other bytes, in order, for U+0100 onwards.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    shifted = {chr(0x100 + place): byte for place, byte in enumerate(others)}
    return {chr(byte): byte for byte in printable} | shifted
