"""Whatever fails on the page, its reason stays in the tab, once, in place of the old results."""

import gradio as gr
import pytest
from limits import FAILED, Refusal
from playwright.sync_api import expect
from results import NOTICE, Results
from space.walk import chromium, find_chromium

PATIENCE = 120_000  # ms
QUIET = {"load_example", "known", "tell", "look", "lambda"}  # they fill forms, and cannot fail


def events(space):
    """Every event of the Space: its name, its triggers, and how many notices it has."""
    components = {each["id"]: each for each in space.config["components"]}
    for event in space.config["dependencies"]:
        templates = [components[each]["props"].get("html_template") for each in event["outputs"]]
        yield event, templates.count(NOTICE)


@pytest.mark.slow
def test_every_event_of_the_page_shows_its_failures_and_no_endpoint_does(space):
    for event, notices in events(space):
        name = event["api_name"].rstrip("_0123456789")
        of_the_page = event["api_visibility"] == "private" and name not in QUIET
        assert bool(notices) == of_the_page, event["api_name"]


@pytest.mark.slow
def test_every_button_starts_an_event_that_shows_its_failures(space):
    started = {
        target for event, notices in events(space) for target, _ in event["targets"] if notices
    }
    buttons = {each["id"] for each in space.config["components"] if each["type"] == "button"}
    assert buttons
    assert buttons <= started


def form():
    """A form with a report and a file to download, which are not there yet."""
    return Results(gr.HTML({"title": "none yet"}), gr.DownloadButton("File", interactive=False))


def refuses(*_):
    raise Refusal("Too few rows.")


def breaks(*_):
    raise ZeroDivisionError("secret")


def test_a_success_is_shown_and_hides_the_notice():
    report, file, notice = form().answers(lambda query: ({"title": query}, "file"))("query")
    assert (report, file) == ({"title": "query"}, "file")
    assert (notice["visible"], notice["value"]["reason"]) == (False, "")


@pytest.mark.parametrize(
    ("function", "reason"),
    [(refuses, "Too few rows."), (breaks, "This went wrong on our side; please try again, or")],
)
def test_a_failure_restores_what_was_there_at_first_and_says_why(function, reason):
    report, file, notice = form().answers(function)("query")
    assert report["value"] == {"title": "none yet"}
    assert (file["value"], file["interactive"]) == (None, False)
    assert (notice["visible"], notice["value"]["title"]) == (True, FAILED)
    assert notice["value"]["reason"].startswith(reason)


def test_a_failure_keeps_what_the_visitor_gave():
    given, *_ = form().answers(refuses, [gr.Textbox("mine")])("query")
    assert given == gr.skip()


def fail_in_across(page, panel):
    panel.get_by_label("Query").fill(" ")
    panel.get_by_role("button", name="Search").click()


def fail_in_stitching(page, panel):
    panel.get_by_label("Text", exact=True).fill(" ")
    panel.get_by_role("button", name="Classify").click()


def fail_to_find_pictures(page, panel):
    panel.get_by_label("Text", exact=True).fill("x" * 3)
    panel.get_by_label("Text", exact=True).fill(" ")
    panel.get_by_role("button", name="Find pictures").click()


def fail_to_label(page, panel):
    panel.get_by_label("Labels").fill("only one")
    panel.get_by_role("button", name="Label", exact=True).click()


def upload_what_is_no_picture(page, panel):
    broken = {"name": "x.png", "mimeType": "image/png", "buffer": b"no picture" * 9}
    panel.locator("input[type=file]").first.set_input_files(broken)


def fail_to_look_inside(page, panel):
    panel.get_by_label("Repo of a translator").fill("./.")
    panel.get_by_role("button", name="Look inside").click()


def fail_to_fit(page, panel):
    panel.get_by_label("Dataset (repo id)").fill("nowhere")
    panel.get_by_role("button", name="Fit on items").click()


def fail_in_an_example(page, panel):
    panel.get_by_label("Dataset (repo id)").fill("nowhere")
    run_example(panel)


def fail_to_push(page, panel):
    panel.get_by_text("Push it to the Hub").click()
    panel.get_by_label("New repo").fill("nowhere")
    panel.get_by_role("button", name="Push", exact=True).click()


def run_example(panel):
    panel.locator("button.gallery-item:visible, tr.tr-body:visible").first.click()


def pick(panel):
    panel.locator("button.thumbnail-item").first.click()


FAILURES = {
    "Search": ("Across models", run_example, "overlap@", fail_in_across, "Please type a query."),
    "Classify": (
        "Zero-shot stitching",
        run_example,
        "held-out articles",
        fail_in_stitching,
        "Please type a text.",
    ),
    "Find pictures": (
        "Text and image",
        run_example,
        "by chance",
        fail_to_find_pictures,
        "Please type a text.",
    ),
    "Label": ("Text and image", pick, "nearest of", fail_to_label, "Please type 2 to 20 different"),
    "a picture": (
        "Text and image",
        pick,
        "nearest of",
        upload_what_is_no_picture,
        "This file is not a picture",
    ),
    "a garment": (
        "Autoencoders",
        pick,
        "MSE, translated",
        upload_what_is_no_picture,
        "This file is not a picture",
    ),
    "Look inside": (
        "Look inside",
        run_example,
        "singular",
        fail_to_look_inside,
        "Please type the id of a translator",
    ),
    "Fit on items": (
        "Fit your own",
        run_example,
        "fitted on",
        fail_to_fit,
        "Please name a dataset by its repo id",
    ),
    "an example": (
        "Fit your own",
        run_example,
        "fitted on",
        fail_in_an_example,
        "Please name a dataset by its repo id",
    ),
    "Push": (
        "Fit your own",
        run_example,
        None,
        fail_to_push,
        "Please name a new repo by its repo id",
    ),
}


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
@pytest.mark.parametrize("what", FAILURES)
def test_a_failure_takes_the_place_of_the_last_result(browser, space, what):
    tab, succeed, found, fail, reason = FAILURES[what]
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(space.src)
    page.get_by_role("tab", name=tab).click()
    panel = page.get_by_role("tabpanel").filter(visible=True).first
    succeed(panel)
    result = panel.get_by_text(found or "fitted on").filter(visible=True)
    notice = page.get_by_role("heading", name=FAILED)
    result.or_(notice).first.wait_for()
    assert not notice.is_visible(), panel.inner_text()
    fail(page, panel)
    expect(page.get_by_text(reason)).to_have_count(1, timeout=PATIENCE)
    expect(page.get_by_text(reason)).to_be_visible()
    expect(page.get_by_role("heading", name=FAILED)).to_have_count(1)
    if found:
        expect(result).to_have_count(0)
    assert page.locator(".toast-body.error").count() == 0
    assert page.locator("[data-testid=status-tracker] .error:visible").count() == 0
    page.close()
