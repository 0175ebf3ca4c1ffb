"""The page of a real cluster in a real browser: what it shows, and a chat that outlives a rank."""

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import chromium
from tests.cluster.clusters import Launch
from tests.cluster.conftest import endless, write_config

pytestmark = [pytest.mark.cluster, chromium.needed]

QUESTION = "The code of the red door is 4182. What is the code of the red door?"
THOUGHT = re.compile("The user asks")
ANSWER = re.compile("^The code of the red door is 4182.")


def test_the_page(start, tmp_path):
    config = write_config(tmp_path, greedy(tmp_path), {}, restart={"backoff_s": [0.1, 1]})
    cluster: Launch = start("-f", config, "--batch", 1)
    address = page_of(cluster)
    cluster.wait_ready(ranks=2)
    with chromium.browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(chromium.WITHIN_MS)
        page.goto(address)
        it_shows_the_ranks(page)
        it_thinks_then_answers(page)
        the_answer_outlives_a_rank(page, cluster)
        escape_stops_it(page)
        it_goes_on_with_the_conversation(page)
        browser.close()


def greedy(folder: Path) -> Path:
    """A model whose answers are always the same, and end when they are stopped."""
    model = endless(folder / "greedy")
    file = model / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_sample": False}))
    return model


def page_of(cluster: Launch) -> str:
    for line in iter(cluster.process.stderr.readline, ""):
        if said := re.fullmatch(r"page: (\S+)\n", line):
            return said[1]
    raise AssertionError(cluster.finish())


def it_shows_the_ranks(page: Page) -> None:
    expect(page.locator("#phase")).to_have_text("ready")
    expect(page.locator(".rank strong")).to_have_text(["rank 0", "rank 1"])
    expect(page.locator(".rank .doing")).to_have_text(["ready", "ready"])
    for number in range(2):
        bar = page.get_by_role("meter", name=f"memory of rank {number}")
        expect(bar).to_have_attribute("aria-valuetext", re.compile("weights 5.3 MB of 5.3 MB"))
    kinds = page.locator("#events .kind")
    expect(kinds.first).to_have_text("ready")
    assert kinds.all_text_contents().count("rank-loaded") == 2


def it_thinks_then_answers(page: Page) -> None:
    page.get_by_label("Message").fill(QUESTION)
    page.get_by_label("Message").press("Enter")
    thinking = page.locator("details.thinking")
    expect(thinking.locator(".text")).to_contain_text(THOUGHT)
    expect(page.locator("article.answer > .text")).to_contain_text(ANSWER)
    expect(thinking.locator(".text")).to_be_hidden()
    thinking.locator("summary").click()
    expect(thinking.locator(".text")).to_be_visible()
    expect(page.locator("#coordinator")).to_contain_text("1 of 1 running")
    expect(page.locator(".rank .pace").first).not_to_have_text("0.0 steps/s")


def the_answer_outlives_a_rank(page: Page, cluster: Launch) -> None:
    cluster.kill(cluster.workers()[1])
    expect(page.locator("#phase")).not_to_contain_text("ready")
    expect(page.locator("article.answer .about")).to_contain_text("The ranks start again")
    text = page.locator("article.answer > .text")
    before = text.text_content()
    expect(page.locator("#phase")).to_have_text("ready, epoch 2")
    expect(page.locator("#failure")).to_contain_text("killed by SIGKILL")
    expect(page.locator("#events .kind", has_text="rank-lost")).not_to_have_count(0)
    expect(text).to_contain_text(re.compile(f"^{re.escape(before)}."))
    expect(page.locator("article.answer .about")).to_have_text("")
    cluster.look()


def escape_stops_it(page: Page) -> None:
    page.keyboard.press("Escape")
    expect(page.locator("article.answer .about")).to_have_text("Stopped.")
    expect(page.locator("article.answer > .text")).to_contain_text(ANSWER)
    expect(page.locator("#coordinator")).to_contain_text("0 of 1 running")


def it_goes_on_with_the_conversation(page: Page) -> None:
    page.get_by_label("Think first").uncheck()
    page.get_by_label("Message").fill("And once more?")
    page.get_by_role("button", name="Send").click()
    answer = page.locator("article.answer").nth(1)
    expect(answer.locator("> .text")).not_to_have_text("")
    expect(answer.locator("summary")).to_be_hidden()
    page.get_by_role("button", name="Stop").click()
    expect(answer.locator(".about")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
