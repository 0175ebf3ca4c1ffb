"""The page in a real browser, where a real cluster cannot show it quickly."""

from collections.abc import Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from anyio.from_thread import start_blocking_portal
from playwright.sync_api import Browser, Page, expect

from dsv4_tp.asks import Piece
from dsv4_tp.config import Http
from dsv4_tp.coordinator.chronicle import Note
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import NotReadyError, RankFailure
from dsv4_tp.serving.app import App
from dsv4_tp.serving.door import listen, url
from dsv4_tp.serving.keys import Keys
from dsv4_tp.serving.server import serving
from tests import chromium
from tests.serving.test_app import END
from tests.serving.test_entrance import KEY, read_one
from tests.serving.test_page import Pictured

pytestmark = chromium.needed

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
THOUGHT = Piece((1,), "<b>hm</b></think>", None)
SAID = Piece((2,), "<img src=x> is ", None)
FELL = RankFailure("rank 1 on b: killed by SIGKILL")
BACK = NotReadyError("the cluster is recovering; try again in a while")


@pytest.fixture(scope="module")
def browser() -> Generator[Browser]:
    with chromium.browser() as found:
        yield found


@contextmanager
def place(it: Pictured, keys: Keys | None = None) -> Generator[str]:
    """The address of the page, in a loop of its own."""

    @asynccontextmanager
    async def served():
        app = App(cast(Coordinator, it), cast(Texts, it)).asgi(Http(), keys)
        with listen("127.0.0.1", 0) as door:
            async with serving(app, door):
                try:
                    yield url(door).removesuffix("v1")
                finally:
                    it.witness.close()  # the streams end

    with start_blocking_portal() as portal, portal.wrap_async_context_manager(served()) as address:
        yield address


@pytest.fixture
def page(browser: Browser) -> Generator[Page]:
    found = browser.new_page(viewport=DESKTOP)
    found.set_default_timeout(chromium.WITHIN_MS)
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda word: faults.append(word.text) if "policy" in word.text else None)
    yield found
    found.close()
    assert faults == []


# All at once: whatever is news draws the bars anew.
WIDTHS = """["held", "planned", "peak"]
    .map(name => document.querySelector(`.${name}`).getBoundingClientRect().width)"""


def ask(page: Page, words: str = "Hello") -> None:
    page.get_by_label("Message").fill(words)
    page.get_by_label("Message").press("Enter")


def test_the_cluster_is_pictured(page: Page, tmp_path: Path):
    it = Pictured(tmp_path)
    it.witness.tell(Note("link-lost", "the link between a and b"), epoch=2)
    with place(it) as address:
        page.goto(address)
        expect(page.locator("#phase")).to_have_text("ready, epoch 2")
        expect(page.locator(".host h3")).to_have_text(["a", "b"])
        expect(page.locator("#links li")).to_have_text(["a ⇄ bnothing comes through"])
        first = page.get_by_role("meter", name="memory of rank 0")
        words = "5.0 GB held, weights 4.0 GB of 6.0 GB planned, peak 8.0 GB"
        expect(first).to_have_attribute("aria-valuetext", words)
        held, planned, peak = page.evaluate(WIDTHS)
        assert (held / peak, planned / peak) == pytest.approx((5 / 8, 6 / 8), abs=0.01)
        expect(page.locator("#events .kind")).to_have_text(["link-lost"])
        it.state = replace(it.state, epoch=3)
        expect(page.locator("#phase")).to_have_text("ready, epoch 3")


def test_what_is_written_is_text_and_thinking_is_apart(page: Page, tmp_path: Path):
    it = Pictured(tmp_path, THOUGHT, SAID, END)
    with place(it) as address:
        page.goto(address)
        ask(page)
        answer = page.locator("article.answer")
        expect(answer.locator("> .text")).to_have_text("<img src=x> is c")
        expect(answer.locator("summary")).to_contain_text("Thought for")
        expect(answer.locator("details .text")).to_be_hidden()
        answer.locator("summary").press("Enter")
        expect(answer.locator("details .text")).to_have_text("<b>hm</b>")
        expect(answer.locator(".about")).to_contain_text("ended by length")
        page.get_by_label("Think first").uncheck()
        ask(page, "And now?")
        expect(answer).to_have_count(2)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        asked = it.asked[-1].prompt
        assert [(each.role, each.content) for each in asked.messages][-3:] == [
            ("user", "Hello"),
            ("assistant", "<img src=x> is c"),
            ("user", "And now?"),
        ]
        assert asked.effort == "none"


def test_what_breaks_off_stays_and_can_be_asked_again(page: Page, tmp_path: Path):
    it = Pictured(tmp_path, THOUGHT, SAID, FELL)
    with place(it) as address:
        page.goto(address)
        ask(page)
        about = page.locator("article.answer .about")
        expect(about).to_have_text("It broke off: rank 1 on b: killed by SIGKILL.")
        it.script = (THOUGHT, SAID, END)
        page.get_by_role("button", name="Try again").press("Enter")
        texts = page.locator("article.answer > .text")
        expect(texts).to_have_text(["<img src=x> is", "<img src=x> is c"])
        assert [each.content for each in it.asked[-1].prompt.messages] == ["Hello"]
        expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_it_waits_for_a_cluster_that_comes_back(page: Page, tmp_path: Path):
    it = Pictured(tmp_path, BACK)
    with place(it) as address:
        page.clock.install()
        page.goto(address)
        ask(page)
        about = page.locator("article.answer .about")
        expect(about).to_contain_text("The cluster is not ready: the cluster is recovering")
        expect(about).to_contain_text("Asking again in 5 s.")
        it.script = (THOUGHT, END)
        page.clock.run_for(6000)
        expect(page.locator("article.answer > .text")).to_have_text("c")
        it.script = (BACK,)
        ask(page, "Once more")
        expect(about.last).to_contain_text("Asking again")
        page.keyboard.press("Escape")
        expect(about.last).to_have_text("Stopped.")


def test_it_asks_for_a_key_and_keeps_it_in_its_tab(page: Page, tmp_path: Path):
    it = Pictured(tmp_path / "past", THOUGHT, END)
    with place(it, read_one(tmp_path)) as address:
        page.goto(address)
        page.get_by_label("Key", exact=True).fill("sk-a-key-that-is-not-known")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_have_text("That key is not known here.")
        page.get_by_label("Key", exact=True).fill(KEY)
        page.keyboard.press("Enter")
        expect(page.locator("#phase")).to_have_text("ready, epoch 2")
        ask(page)
        expect(page.locator("article.answer > .text")).to_have_text("c")
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.reload()
        expect(page.locator("#phase")).to_have_text("ready, epoch 2")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_by_keyboard(page: Page, tmp_path: Path, scheme: str):
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=scheme)
    with place(Pictured(tmp_path)) as address:
        page.goto(address)
        expect(page.locator("#phase")).to_have_text("ready, epoch 2")
        expect(page.get_by_label("Message")).to_be_visible()
        expect(page.locator("#hosts")).to_be_hidden()
        assert is_narrow(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#hosts")).to_be_visible()
        expect(page.get_by_label("Message")).to_be_hidden()
        assert is_narrow(page)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = sum(int(word) for word in ground[4:-1].split(",")) < 3 * 128
        assert dark is (scheme == "dark")


def is_narrow(page: Page) -> bool:
    """Nothing has to be scrolled sideways."""
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


FIGURES = """async () => {
  const it = await import("/page/figures.js");
  const look = (now_s, steps) => ({now_s, steps});
  const quiet = (host, quiet_s) => ({host, quiet_s, silent: false});
  const hosts = [
    {name: "a", links: [quiet("b", 0.2), quiet("c", null)]},
    {name: "b", links: [quiet("a", 0.4), {host: "c", quiet_s: 9, silent: true}]},
    {name: "c", links: [quiet("b", 0.1), quiet("a", null)]},
  ];
  const of = (each) => each.steps;
  return {
    bytes: [0, 999, 5_345_678, 141_000_000_000].map(it.bytes),
    rates: [[look(0, 0)], [look(0, 0), look(1, 3), look(3, 20)], [look(0, 9), look(4, 1)]]
      .map((looks) => it.rate(looks, of)),
    ways: it.ring(hosts).map((way) => `${way.from}${way.to} ${way.state} ${way.text}`),
    few: [it.ring(hosts.slice(0, 1)).length, it.ring(hosts.slice(0, 2)).length],
  };
}"""


def test_figures(page: Page, tmp_path: Path):
    with place(Pictured(tmp_path)) as address:
        page.goto(address)
        found = page.evaluate(FIGURES)
    assert found["bytes"] == ["0 B", "999 B", "5.3 MB", "141.0 GB"]
    assert found["rates"] == [0, 8.5, 0]
    assert found["ways"] == [
        "ab up heard 0.40 s ago",
        "bc silent nothing comes through",
        "ca unwatched not watched",
    ]
    assert found["few"] == [0, 1]
