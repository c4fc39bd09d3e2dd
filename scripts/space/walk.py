"""Walks through the Space in headless Chromium: every tab, and one example in each."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, Request, sync_playwright

WIDTHS = {"phone": (390, 844), "desk": (1440, 900)}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_SECONDS = 120
_SEVERE = ("moderate", "serious", "critical")
_OF_GRADIO = ('aria-label="Empty value"', 'class="toast-header')  # empty galleries, notices
_MOMENT = 300  # ms
_PICK = "Pick a picture"
_QUIET = "() => !document.querySelector('[data-testid=status-tracker].translucent:not(.hide)')"
_TRY_ONE = "button.gallery-item:visible, tr.tr-body:visible, button.thumbnail-item:visible"
_UNLABELLED = """
panel => [...panel.querySelectorAll('input, textarea, select, button')]
    .filter(e => e.offsetParent !== null && !(e.labels && e.labels.length)
        && !e.closest('label') && !e.getAttribute('aria-label') && !e.getAttribute('title')
        && !e.getAttribute('aria-labelledby') && !e.innerText.trim()
        && !e.querySelector('img[alt]'))
    .map(e => e.outerHTML.slice(0, 160))
"""


@dataclass
class Walk:
    """The problems and texts that a visitor met.

    Attributes:
        problems: Console errors, requests to elsewhere, errors shown, sideways scrolling, controls
            without a label, what axe finds; empty if all is well.
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
    _run(page, panel.locator(_TRY_ONE).first)
    if (gallery := panel.locator(".block", has_text=_PICK).last).count():
        _run(page, gallery.locator("button.thumbnail-item").first)
    found.texts[name] = panel.inner_text()
    found.problems += [f"{name}: {problem}" for problem in _look(page, panel)]


def _run(page: Page, example: Locator) -> None:
    """Clicks an example and waits until all that it started is there."""
    example.click()
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
    problems = [
        f"error shown: {toast}" for toast in page.locator(".toast-body.error").all_inner_texts()
    ]
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        problems.append(f"the page is {wide} px wider than the window")
    problems += [f"control without a label: {html}" for html in panel.evaluate(_UNLABELLED)]
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
