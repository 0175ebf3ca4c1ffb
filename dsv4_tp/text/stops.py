"""Stop strings: what of a text may be shown while it comes, and where it ends."""

from collections.abc import Sequence


class Stops:
    """Looks for some strings in one text that comes in pieces; the first one that is whole ends it.

    What may be the beginning of one is held back until the next pieces decide. So the pieces it
    returns, joined, are the text up to that string, or all of it, however it was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops` are not empty."""
        self._stops = tuple(stops)
        self._held = ""
        self.which = ""  # the one that was found

    @property
    def found(self) -> bool:
        """Whether the text has ended."""
        return bool(self.which)

    def add(self, piece: str) -> str:
        """What can be shown now that the text goes on like this; nothing once it has ended."""
        if self.found:
            return ""
        text = self._held + piece
        spans = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if not spans:
            certain = len(text) - self._doubtful(text)
            self._held = text[certain:]
            return text[:certain]
        # Of two that are whole with the same character the longer one counts.
        end, at = min(spans)
        self._held, self.which = "", text[at:end]
        return text[:at]

    def finish(self) -> str:
        """The text is over: what was held back was no stop string."""
        held, self._held = self._held, ""
        return held

    def _doubtful(self, text: str) -> int:
        """How many characters at the end may begin a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        lengths = range(min(longest, len(text)), 0, -1)
        return next((n for n in lengths if any(s.startswith(text[-n:]) for s in self._stops)), 0)
