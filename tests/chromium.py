"""The browser of this machine, for tests of the page; none is downloaded."""

import shutil
from collections.abc import Generator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

FOUND = shutil.which("chromium") or shutil.which("google-chrome")
WITHIN_MS = 60_000  # the machine may be busy
needed = pytest.mark.skipif(FOUND is None, reason="needs Chromium: apt install chromium")


@contextmanager
def browser() -> Generator[Browser]:
    """Root has no sandbox. No asyncio.run while this is open: playwright has a loop here."""
    expect.set_options(timeout=WITHIN_MS)
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield found
        found.close()
