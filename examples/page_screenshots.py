"""The pictures of the page in docs/: two ranks of the demo model, and a browser that asks them.

`python -m examples.page_screenshots [FOLDER]`; needs playwright and Chromium.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

_DOCS = Path(__file__).parents[1] / "docs"
_LAUNCH = ("launch", "--hosts", "localhost,localhost", "--model", "demo", "--http", "0")
_DESKTOP, _PHONE = (1280, 860), (390, 780)  # pixels
_WITHIN_MS = 60_000.0
_TO_SEE_MS = 1_500  # of work, before a picture is taken
_QUESTION = "The code of the red door is 4182. What is the code of the red door?"
_STORY = "Tell a story."


@contextmanager
def cluster() -> Generator[str]:
    """The page of a cluster of two ranks; they are gone at the end."""
    command = [sys.executable, "-m", "dsv4_tp", *_LAUNCH]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            told = (re.fullmatch(r"page: (\S+)\n", line) for line in process.stderr)
            yield next(found[1] for found in told if found)
        finally:
            process.terminate()
            process.communicate()


@contextmanager
def browser() -> Generator[Browser]:
    """Chromium as this machine has it; root has no sandbox."""
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        sys.exit("chromium: not found; apt install chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def open_page(found: Browser, address: str, size: tuple[int, int], scheme: str) -> Page:
    """The page with a question that is answered, and a story that is being told."""
    width, height = size
    dark = "dark" if scheme == "dark" else "light"
    page = found.new_page(viewport={"width": width, "height": height}, color_scheme=dark)
    page.route("**/v1/chat/completions", greedily)
    page.goto(address)
    expect(page.locator("#phase")).to_have_text("ready", timeout=_WITHIN_MS)
    ask(page, _QUESTION)
    expect(page.locator("article.answer .about")).not_to_be_empty(timeout=_WITHIN_MS)
    page.locator("details.thinking").first.click()
    ask(page, _STORY)
    story = page.locator("article.answer > .text").nth(1)
    expect(story).not_to_be_empty(timeout=_WITHIN_MS)
    page.wait_for_timeout(_TO_SEE_MS)
    return page


def greedily(route: Route) -> None:
    """Ask for the likeliest text, so that the pictures show the same one each time."""
    asked = json.loads(route.request.post_data or "{}")
    route.continue_(post_data=json.dumps({**asked, "temperature": 0}))


def ask(page: Page, question: str) -> None:
    """As people do."""
    page.get_by_label("Message").fill(question)
    page.get_by_label("Message").press("Enter")


def take(page: Page, file: Path) -> None:
    """A picture of the page as it is."""
    page.screenshot(path=file)
    print(f"{file}: {file.stat().st_size:,} bytes")


def main() -> None:
    """Write page-desktop.png, page-phone.png and page-phone-cluster.png."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else _DOCS
    with cluster() as address, browser() as found:
        page = open_page(found, address, _DESKTOP, "light")
        take(page, folder / "page-desktop.png")
        page.close()
        page = open_page(found, address, _PHONE, "dark")
        take(page, folder / "page-phone.png")
        page.get_by_role("link", name="Cluster").click()
        take(page, folder / "page-phone-cluster.png")
        page.close()


if __name__ == "__main__":
    main()
