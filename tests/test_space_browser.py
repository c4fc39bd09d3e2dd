"""The Space in a real browser: every tab at both widths, light and dark."""

import pytest
from space.walk import WIDTHS, chromium, find_chromium, walk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
]

TABS = (
    "Across models",
    "Zero-shot stitching",
    "Text and image",
    "Autoencoders",
    "Look inside",
    "Fit your own",
)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", WIDTHS)
def test_a_visitor_walks_through_every_tab(browser, space, size, dark):
    found = walk(browser, space.src, size, dark=dark)
    assert found.problems == []
    assert tuple(found.texts) == TABS
    assert all(" ms" in text or " s" in text for text in found.texts.values())


def test_a_search_needs_no_mouse(browser, space):
    page = browser.new_page()
    page.goto(space.src)
    query = page.get_by_label("Query").first
    query.wait_for()
    for _ in range(20):
        page.keyboard.press("Tab")
        if query.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.type("dog and cat")
    page.keyboard.press("Enter")
    page.get_by_text("(overlap@").first.wait_for()
    assert page.locator(".toast-body.error").count() == 0
    page.close()
