"""Looking at a cluster again and again: a page that is drawn anew, or lines where nobody looks."""

import asyncio
import sys
from collections.abc import AsyncIterator
from itertools import count

from dsv4_tp.client import AsyncClient, ClusterStatus

_HOME = "\x1b[H\x1b[J"  # of a terminal: to the upper left corner, and nothing below it


async def looks(
    client: AsyncClient, every_s: float, most: int | None = None
) -> AsyncIterator[ClusterStatus]:
    """The status as it is now, then after each pause."""
    for number in count(1):
        yield await client.status()
        if number == most:
            return
        await asyncio.sleep(every_s)


class Screen:
    """Where pages are shown: on a terminal each in place of the last one, elsewhere below it."""

    def __init__(self) -> None:
        self._last = ""
        self._redraws = sys.stdout.isatty()

    def show(self, page: str, *, always: bool = True) -> None:
        """The page as it is now; unless `always`, one that is as before is not repeated."""
        if page == self._last and not always:
            return
        self._last = page
        sys.stdout.write((_HOME if self._redraws else "") + page + "\n")
        sys.stdout.flush()
