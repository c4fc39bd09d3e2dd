"""The Space in a real browser: every tab, at one width light and at the other dark."""

import io
import re
from functools import partial

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image, ImageColor
from playwright.sync_api import expect
from space.walk import chromium, find_chromium, walk

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed"),
]

FITTED = re.compile(r"fitted on 1\d\d pairs")
FIT = ("ortho", 0.1, 2000)  # method, alpha, anchors
TABS = (
    "Across models",
    "Zero-shot stitching",
    "Text and image",
    "Autoencoders",
    "Look inside",
    "Fit your own",
    "Migrate",
)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.parametrize(("size", "dark"), [("phone", False), ("desk", True)])
def test_a_visitor_walks_through_every_tab(browser, space, size, dark):
    found = walk(browser, space.src, size, dark=dark)
    assert found.problems == []
    assert tuple(found.texts) == TABS
    assert all(" ms" in text or " s" in text for text in found.texts.values())


def open_tab(page, name):
    """Clicks a tab, or its entry in the menu of a narrow page."""
    tab, menu = page.get_by_role("tab", name=name), page.locator(".overflow-menu > button").first
    tab.or_(menu).locator("visible=true").first.wait_for()
    if menu.is_visible() and not (tab.is_visible() and on_top(tab)):
        menu.click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def test_a_search_needs_no_mouse(browser, space):
    page = browser.new_page()
    page.set_default_timeout(120_000)
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


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_each_tab_is_where_a_finger_can_reach_it(browser, space, width):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.set_default_timeout(120_000)
    page.goto(space.src)
    page.get_by_role("tab").first.wait_for()
    page.wait_for_timeout(1000)
    reached = [tab.inner_text() for tab in page.get_by_role("tab").all() if on_top(tab)]
    menu = page.locator(".overflow-menu > button").first
    if menu.is_visible():
        menu.click()
        entries = page.locator(".overflow-dropdown button")
        entries.first.wait_for()
        reached += [entry.inner_text() for entry in entries.all() if on_top(entry)]
    assert tuple(reached) == TABS
    page.close()


def test_a_failed_migration_leaves_nothing_of_the_last_one_and_says_why(browser, space):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(space.src)
    page.get_by_role("tab", name="Migrate").click()
    panel = page.get_by_role("tabpanel").filter(visible=True).first
    downloads = [
        panel.get_by_role("button", name=f"Download the {what}")
        for what in ("translated vectors", "translator", "gate's report")
    ]
    for download in downloads:
        expect(download).to_be_disabled()
    panel.get_by_role("button", name="all pairs").click()
    panel.get_by_text(FITTED).wait_for()
    expect(panel.get_by_text("takes about")).to_be_visible()
    expect(panel.get_by_role("heading", name="by the number of pairs")).to_be_visible()
    for download in downloads:
        expect(download).to_be_enabled()
    panel.get_by_label("Items in your store").fill("0")
    panel.get_by_role("button", name="Migrate").click()
    panel.get_by_text("The number of items must be a whole number from 1").wait_for()
    expect(panel.get_by_text(FITTED)).to_have_count(0)
    expect(panel.get_by_role("heading", name="by the number of pairs")).to_be_hidden()
    for download in downloads:
        expect(download).to_be_disabled()
    page.close()


def pixels_of(page, box, colour):
    """How many pixels in a box have this colour."""
    pixels = np.asarray(Image.open(io.BytesIO(page.screenshot(clip=box))).convert("RGB"))
    return int((np.abs(pixels.astype(int) - colour).max(axis=2) < 12).sum())


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_ring_around_what_has_the_keyboard_is_seen(browser, space, dark):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(f"{space.src}?__theme={'dark' if dark else 'light'}")
    kinds = {
        "Across models": ("Query", "Search"),
        "Zero-shot stitching": ("Text", "MiniLM reads", "500", "Classify"),
        "Autoencoders": ("published (affine)", "number input for Anchors", "range slider"),
        "Fit your own": ("Method", "Alpha", "Dataset", "Fit on items"),
    }
    for tab, names in kinds.items():
        page.get_by_role("tab", name=tab).click()
        panel = page.get_by_role("tabpanel").filter(visible=True).first
        for name in names:
            control = panel.get_by_label(name).or_(panel.get_by_role("button", name=name))
            control = control.filter(visible=True).first
            control.scroll_into_view_if_needed()
            page.mouse.move(0, 0)
            control.focus()
            page.keyboard.press("Shift")  # the keyboard is in use, so the ring is shown
            page.wait_for_timeout(300)
            box = control.evaluate(BOX)  # now, for the page may have grown above it, and scrolled
            colour = ImageColor.getrgb(control.evaluate(COLOUR))
            focused = pixels_of(page, box, colour)
            control.blur()
            page.wait_for_timeout(300)
            ring = focused - pixels_of(page, box, colour)
            assert ring > box["width"] + box["height"], f"{tab}: {name}"
    page.close()


OUTER = """
element => element.closest('label:has(input[type=radio])')
    || element.closest('.wrap:has(> .wrap-inner)') || element
"""
COLOUR = f"element => getComputedStyle(({OUTER})(element)).outlineColor"
BOX = f"""
element => {{
    const outer = ({OUTER})(element);
    const {{x, y, width, height}} = outer.getBoundingClientRect();
    return {{x: Math.max(0, x - 6), y: Math.max(0, y - 6), width: width + 12, height: height + 12}};
}}
"""


def on_top(element):
    """Whether a touch at the middle of an element meets it, and nothing above it."""
    return element.evaluate(
        """element => {
            const box = element.getBoundingClientRect();
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            return element.contains(document.elementFromPoint(x, y));
        }"""
    )


def test_a_failed_fit_leaves_nothing_of_the_last_one_and_says_why(browser, space):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(space.src)
    page.get_by_role("tab", name="Fit your own").click()
    page.get_by_role("tab", name="Vectors").click()
    download = page.get_by_role("button", name="Download the translator")
    page.get_by_text("Push it to the Hub").click()
    push = page.get_by_role("button", name="Push", exact=True)
    page.get_by_role("button", name="Try the vectors").click()
    page.get_by_text("fitted on 100 pairs").wait_for()
    expect(download).to_be_enabled()
    expect(push).to_be_enabled()
    page.get_by_label("Alpha, the ridge penalty").fill("1001")
    page.get_by_role("button", name="Fit on vectors").click()
    reason = page.get_by_text("Alpha must be a number from 0 to 1,000.")
    reason.wait_for()
    expect(reason).to_have_count(1)
    expect(page.get_by_role("heading", name="That did not work")).to_be_visible()
    expect(page.get_by_text("fitted on 100 pairs")).to_have_count(0)
    expect(download).to_be_disabled()
    expect(push).to_be_disabled()
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_visitor_sees_what_a_fit_takes_before_it_starts_and_then_the_place_in_the_queue(
    browser, space, tmp_path, width
):
    draw, paths = np.random.default_rng(0), []
    for side in ("source", "target"):
        paths.append(tmp_path / f"{side}.npy")
        np.save(paths[-1], draw.standard_normal((3000, 256)).astype("float16"))
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(space.src)
    page.get_by_role("tab").first.wait_for()
    open_tab(page, "Fit your own")
    page.get_by_role("tab", name="Vectors").click()
    panel = page.get_by_role("tabpanel").filter(visible=True).last
    for path in reversed(paths):  # an upload that has its file has no place for one any more
        panel.locator("input[type=file]").last.set_input_files(path)
        panel.get_by_text(path.stem).first.wait_for()
    takes = page.get_by_text(re.compile(r"^about \d+ s$"))
    takes.wait_for()
    takes.scroll_into_view_if_needed()
    assert on_top(takes)
    submit = partial(space.submit, *map(handle_file, paths), *FIT, api_name="/fit_vectors")
    others = [submit() for _ in range(8)]
    for _ in range(500):  # until some of them stand in the queue
        if any(other.status().rank for other in others):
            break
        page.wait_for_timeout(20)
    page.get_by_role("button", name="Fit on vectors").click()
    place = page.get_by_text(re.compile(r"queue: \d+/\d+")).filter(visible=True).first
    place.wait_for()
    expect(place).to_be_in_viewport()
    page.get_by_text("fitted on ").wait_for()
    assert all(other.result(60) for other in others)
    page.close()


def test_a_tab_without_a_result_invites_to_an_example_and_shows_no_empty_frame(browser, space):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(space.src)
    titles = {
        "Look inside": "Nothing opened yet",
        "Fit your own": "Nothing fitted yet",
        "Migrate": "Nothing migrated yet",
    }
    for tab, title in titles.items():
        page.get_by_role("tab", name=tab).click()
        panel = page.get_by_role("tabpanel").filter(visible=True).first
        expect(panel.get_by_role("heading", name=title)).to_be_visible()
        expect(panel.get_by_text("One click on an example above")).to_be_visible()
        expect(panel.locator(EXAMPLE).first).to_be_visible()
        expect(panel.locator(EMPTY).filter(visible=True)).to_have_count(0)
    page.close()


EXAMPLE = "button.gallery-item:visible, tr.tr-body:visible"
EMPTY = '[aria-label="Empty value"], .vega-embed'
