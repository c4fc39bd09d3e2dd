"""Walks through the Space in headless Chromium: every tab, and one example in each."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import (
    Browser,
    ConsoleMessage,
    Locator,
    Page,
    Request,
    expect,
    sync_playwright,
)

WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120
_SEVERE = ("moderate", "serious", "critical")
_OF_GRADIO = {  # part of an element's HTML -> why it is let pass
    'aria-label="Empty value"': "an empty gallery or picture is a div with a name and no role",
    'class="toast-header': "a notice's header is a button with a button inside",
}
_MOMENT = 300  # ms
_ERROR = "[data-testid=status-tracker]:visible .error, section[role=alert]:visible"
_NOTICES = """
window.errors = [];
new MutationObserver(changes => changes.forEach(({addedNodes}) => addedNodes.forEach(node => {
    const toasts = node.querySelectorAll ? [...node.querySelectorAll('.toast-body.error')] : [];
    window.errors.push(...toasts.map(toast => toast.innerText.replaceAll('\\n', ' ')));
}))).observe(document, {childList: true, subtree: true});
"""
_PICK = "Pick a picture"
_QUIET = """
() => !document.querySelector(`.pending,
        [data-testid=status-tracker].translucent:not(.hide):not(:has(.error))`)
    && document.getAnimations().every(animation => animation.playState !== 'running'
        || animation.effect.getComputedTiming().iterations === Infinity)
"""
_TRY_ONE = "button.gallery-item:visible, tr.tr-body:visible, button.thumbnail-item:visible"
_UNLABELLED = """
panel => [...panel.querySelectorAll('input, textarea, select, button')]
    .filter(e => e.offsetParent !== null && !(e.labels && e.labels.length)
        && !e.closest('label') && !e.getAttribute('aria-label') && !e.getAttribute('title')
        && !e.getAttribute('aria-labelledby') && !e.innerText.trim()
        && !e.querySelector('img[alt]'))
    .map(e => e.outerHTML.slice(0, 160))
"""

_CUT = """
() => {
    const cut = [], pen = document.createElement('canvas').getContext('2d');
    const shown = element => element.checkVisibility({opacityProperty: true,
        visibilityProperty: true}) && element.getBoundingClientRect().width > 1
        && !element.closest('.visually-hidden');
    const clips = overflow => overflow === 'hidden' || overflow === 'clip';
    const hides = (outer, {left, right, top, bottom}) => {
        const style = getComputedStyle(outer), box = outer.getBoundingClientRect();
        return clips(style.overflowX) && (left < box.left - 1 || right > box.right + 1)
            || clips(style.overflowY) && (top < box.top - 1 || bottom > box.bottom + 1);
    };
    for (const element of document.body.querySelectorAll('*')) {
        if (!shown(element)) continue;
        const style = getComputedStyle(element);
        if (element.matches('input')
                && !['radio', 'checkbox', 'file', 'range'].includes(element.type)) {
            pen.font = style.font;
            const text = element.value || element.placeholder;
            const room = element.clientWidth
                - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
            if (pen.measureText(text).width > room + 1) cut.push(text);
        }
        if (element.matches('textarea') && (element.scrollWidth > element.clientWidth + 1
                || !element.value && element.scrollHeight > element.clientHeight + 1))
            cut.push(element.value || element.placeholder);
        for (const node of element.childNodes) {
            if (node.nodeType !== Node.TEXT_NODE || !node.textContent.trim()) continue;
            const range = document.createRange();
            range.selectNodeContents(node);
            const boxes = [...range.getClientRects()];
            for (let outer = element; outer !== document.body; outer = outer.parentElement) {
                if (boxes.some(box => hides(outer, box))) {
                    cut.push(node.textContent.trim());
                    break;
                }
                const {overflowX, overflowY} = getComputedStyle(outer);
                if (/auto|scroll/.test(overflowX + overflowY)) break;
            }
        }
    }
    return cut;
}
"""
_COVERED = """
panel => [...panel.querySelectorAll('.block')].flatMap(block => {
    const box = element => element.getBoundingClientRect();
    const pictures = [...block.querySelectorAll('img')].map(box).filter(({width}) => width > 1);
    return [...block.querySelectorAll('.caption-label, [data-testid=block-label]')]
        .filter(label => pictures.some(picture =>
            box(label).left < picture.right - 1 && box(label).right > picture.left + 1
            && box(label).top < picture.bottom - 1 && box(label).bottom > picture.top + 1))
        .map(label => label.innerText);
})
"""


@dataclass
class Walk:
    """The problems and texts that a visitor met.

    Attributes:
        problems: Console errors, requests to elsewhere, errors shown, sideways scrolling, controls
            without a label, texts that are cut, pictures that a label covers, what axe finds; empty
            if all is well.
        texts: Tab -> what it said after its example had run.
    """

    problems: list[str] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)


def find_chromium() -> str | None:
    """The Chromium of this machine; None if there is none."""
    return next(filter(None, map(shutil.which, CHROMIUM)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    with sync_playwright() as playwright:
        expect.set_options(timeout=1000 * _SECONDS)
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


def walk(
    browser: Browser, url: str, size: str, *, dark: bool = False, folder: Path | None = None
) -> Walk:
    """Opens every tab, runs its first example, and keeps a picture of it.

    Args:
        browser: From `chromium`.
        url: Address of the Space.
        size: "phone" or "desk".
        dark: Ask for the dark theme.
        folder: Where to keep the pictures; None for none.
    """
    width, height = WIDTHS[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(1000 * _SECONDS)
    page.add_init_script(_NOTICES)
    found = Walk()
    _listen(page, urlsplit(url).netloc, found)
    page.goto(url + ("?__theme=dark" if dark else "?__theme=light"))
    page.get_by_role("tab").first.wait_for()
    for name in _tabs(page):
        _visit(page, name, found)
        if folder is not None:
            mode = "-dark" if dark else ""
            slug = name.lower().replace(" ", "-")
            page.screenshot(path=folder / f"{slug}-{size}{mode}.png", full_page=True)
    page.close()
    return found


def _listen(page: Page, home: str, found: Walk) -> None:
    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            found.problems.append(f"console: {message.text}")

    def asked(request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob") and address.netloc != home:
            found.problems.append(f"request to elsewhere: {request.url}")

    page.on("console", said)
    page.on("request", asked)
    page.on("pageerror", lambda error: found.problems.append(f"page error: {error}"))


def _tabs(page: Page) -> list[str]:
    """Names of all tabs; some stand in a menu where the row is too narrow for them."""
    page.locator(".overflow-menu").first.wait_for(state="attached")
    names = page.get_by_role("tab", include_hidden=True).all_text_contents()
    names += page.locator(".overflow-dropdown button").all_text_contents()
    return list(dict.fromkeys(name.strip() for name in names))


def _visit(page: Page, name: str, found: Walk) -> None:
    _open(page, name)
    panel = page.get_by_role("tabpanel").filter(visible=True).last
    _wait(page)
    found.problems += [f"{name}, at first: {problem}" for problem in _look(page, panel)]
    _run(page, panel.locator(_TRY_ONE).first)
    if (gallery := panel.locator(".block", has_text=_PICK).last).count():
        _run(page, gallery.locator("button.thumbnail-item").first)
    found.texts[name] = panel.inner_text()
    found.problems += [f"{name}: {problem}" for problem in _look(page, panel)]


def _run(page: Page, example: Locator) -> None:
    """Clicks an example and waits until all that it started is there."""
    example.click()
    _wait(page)


def _wait(page: Page) -> None:
    page.wait_for_timeout(_MOMENT)
    page.wait_for_function(_QUIET)
    page.wait_for_timeout(_MOMENT)


def _open(page: Page, name: str) -> None:
    """Chooses a tab, from the menu where the row is too narrow to show it."""
    tab = page.get_by_role("tab", name=name, exact=True)
    if not tab.is_visible():
        page.locator("button.overflow-menu, .overflow-menu > button").first.click()
        tab = page.locator(".overflow-dropdown button", has_text=name)
    tab.click()


def _look(page: Page, panel: Locator) -> list[str]:
    errors = page.evaluate("errors.splice(0)") + page.locator(_ERROR).all_inner_texts()
    problems = [f"error shown: {text}" for text in errors]
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        problems.append(f"the page is {wide} px wider than the window")
    problems += [f"control without a label: {html}" for html in panel.evaluate(_UNLABELLED)]
    problems += [f"text is cut: {text[:80]}" for text in page.evaluate(_CUT)]
    problems += [f"label covers a picture: {text}" for text in panel.evaluate(_COVERED)]
    return problems + _barriers(page)


def _barriers(page: Page) -> list[str]:
    """What axe finds that keeps people out, save for what Gradio itself causes."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]}"
        for rule in found
        if rule["impact"] in _SEVERE
        for node in rule["nodes"]
        if not any(own in node["html"] for own in _OF_GRADIO)
    ]
