"""A demo that is being prepared says how far it is, and its ready parts work meanwhile."""

import io
import json
import time

import pytest
from demo import PARTS
from demo_repos.progress import Progress
from gradio_client import Client
from gradio_client.exceptions import AppError
from playwright.sync_api import expect
from settings import NAMES, Settings
from space.walk import chromium, find_chromium
from space_repos import running_space

MAKING = {
    "percent": 42,
    "now": "encoding 4,700 items by local/lite0",
    "left": "about 3 minutes left",
    "waiting": ["demo-pictures", "title-to-picture"],
}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def work(tmp_path):
    """Progress of 600 expected seconds, its clock, its file, and what the console shows."""
    clock, console, file = Clock(), io.StringIO(), tmp_path / "progress.json"
    made = Progress(600, waiting=["a", "b"], file=file, console=console, clock=clock)
    return made, clock, lambda: json.loads(file.read_text()), console


def test_a_part_counts_as_done_by_its_items_and_wholly_at_its_end(work):
    progress, _, status, _ = work
    with progress.part(300, ["a"]):
        progress.task("encoding", 200)
        for chunk in progress.each(list(range(10)), 5):
            assert status()["percent"] == (0 if chunk[0] == 0 else 16)
        assert progress.percent == 33
        progress.task("publishing")
        assert status()["waiting"] == ["a", "b"]
    assert status() == {
        "percent": 50,
        "now": "publishing",
        "left": progress.left,
        "waiting": ["b"],
    }
    progress.finish()
    assert (status()["percent"], status()["now"], status()["waiting"]) == (100, "", [])


def test_the_time_left_follows_the_speed_so_far(work):
    progress, clock, _, _ = work
    assert progress.left == "about 10 minutes left"
    with progress.part(300, []):
        clock.now = 660.0  # twice as long as expected
    assert progress.left == "about 10 minutes left"
    with progress.part(290, []):
        pass
    assert progress.left == "about a minute left"


def test_the_time_left_follows_a_task_that_is_slower_than_what_came_before(work):
    progress, clock, _, _ = work
    with progress.part(300, []):  # was there already
        pass
    assert progress.left == "about 5 minutes left"
    progress.task("encoding", 300)
    for _ in progress.each(list(range(10)), 1):
        clock.now += 120.0
        if clock.now == 600.0:
            break
    assert progress.left == "about 11 minutes left"


def test_a_task_that_counts_nothing_moves_on_with_the_time_and_never_to_its_end(work):
    progress, clock, status, console = work
    with progress.part(300, []):
        progress.task("training", 100)
        for clock.now, percent in ((50.0, 6), (100.0, 10), (900.0, 16)):
            progress.tick()
            assert status()["percent"] == percent
        assert status()["left"] == "about 50 minutes left"
        assert len(console.getvalue().splitlines()) == 4
        progress.task("encoding", 100)
        for _ in progress.each([1, 2], 1):
            clock.now += 100
            progress.tick()
    assert progress.percent == 50


def test_the_time_passes_in_the_background(work):
    progress, clock, status, _ = work
    progress.task("training", 300)
    with progress.ticking(0.01):
        clock.now = 3000.0
        for _ in range(3000):
            if status()["percent"] == 49:
                break
            time.sleep(0.01)
    assert status()["percent"] == 49


def test_a_console_that_keeps_its_lines_gets_few_and_a_terminal_one_that_moves(work):
    progress, clock, _, console = work
    progress.task("encoding", 600)
    for _ in progress.each(list(range(100)), 1):
        clock.now += 1.0
    lines = console.getvalue().splitlines()
    assert len(lines) == 1 + 100 // 15
    assert lines[-1].startswith("  [##################--]  90 %  encoding, about a minute left")
    screen = Terminal()
    moving = Progress(10, console=screen)
    moving.task("encoding", 10)
    for _ in moving.each([1, 2], 1):
        pass
    assert "\n" not in screen.getvalue()
    moving.finish()
    assert screen.getvalue().endswith("\n")


def test_the_parts_make_what_the_space_loads_and_nothing_else():
    made = [name for part in PARTS for name in part.repos]
    assert sorted(made) == sorted(NAMES)


def test_the_environment_names_the_file(monkeypatch, tmp_path):
    assert Settings.read(tmp_path / "none.json").progress is None
    monkeypatch.setenv("LATENT_BRIDGE_PROGRESS", str(tmp_path / "progress.json"))
    assert Settings.read(tmp_path / "none.json").progress == tmp_path / "progress.json"


@pytest.fixture(scope="module")
def preparing(repos, tmp_path_factory):
    """The address of a Space whose pictures are still being made, and the file that says so."""
    folder = tmp_path_factory.mktemp("preparing")
    file = folder / "progress.json"
    file.write_text(json.dumps(MAKING))
    environment = {"LATENT_BRIDGE_PROGRESS": str(file)}
    with running_space(repos.settings.namespace, folder / "log.txt", **environment) as address:
        yield address, file


@pytest.mark.slow
def test_what_is_there_works_and_what_is_not_says_how_long_it_takes(preparing):
    address, file = preparing
    client = Client(address, verbose=False, analytics_enabled=False)
    assert client.predict("the red dog", api_name="/search")[0]["found"]
    with pytest.raises(AppError, match=r"still being made \(42 % of all is done, about 3 minutes"):
        client.predict("the red dog", api_name="/find_pictures")
    file.write_text(json.dumps(MAKING | {"waiting": []}))
    assert client.predict("the red dog", api_name="/find_pictures")[0]
    file.write_text(json.dumps(MAKING))
    client.close()


@pytest.mark.slow
@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
def test_the_page_shows_the_progress_until_all_is_there(preparing):
    address, file = preparing
    with chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        bar = page.get_by_role("progressbar", name="being prepared")
        expect(bar).to_have_attribute("value", "42")
        expect(page.get_by_text("encoding 4,700 items by local/lite0, about 3 min")).to_be_visible()
        file.write_text(json.dumps(MAKING | {"percent": 43}))
        expect(bar).to_have_attribute("value", "43")
        file.write_text(json.dumps({"percent": 100, "now": "", "left": "", "waiting": []}))
        expect(bar).to_have_count(0)
        page.close()
