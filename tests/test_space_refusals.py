"""What cannot be answered is refused in one true, short sentence, whatever an attacker sends."""

import re
import socket
import struct
from pathlib import Path

import numpy as np
import pytest
import tiny_images
import tiny_models
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from limits import MAX_SENTENCE, Refusal, Unpublished, check_number, check_picture
from PIL import Image
from repos import Repos
from settings import Settings
from space.attack import Target
from space_repos import NAMESPACE, running_space
from stuck_server import StuckServer
from tabs.autoencoders.reconstruction import choose_items
from tabs.fit_your_own import uploads
from tabs.look_inside import inspection

from hf_latent_bridge import OrthoTranslator

pytestmark = pytest.mark.slow


def npy(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117)
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header + b"\n" + bytes(64)


HOSTILE = {
    "negative.npy": (npy("(-1, 16)"), r"negative\.npy is not a whole \.npy file"),
    "endless.npy": (npy("(9223372036854775807, 16)"), r"announces a matrix of shape"),
    "ragged.jsonl": (b"[1.0, 2.0]\n[1.0]\n", r"ragged\.jsonl holds no matrix"),
    "mixed.json": (b'[[1.0, 2.0], ["a", 1]]', r"mixed\.json holds no matrix"),
    "deep.json": (b"[" * 100_000, r"deep\.json is not a whole"),
    "tiny.npy": (None, "so small that their products are lost"),
}


@pytest.fixture
def hostile(tmp_path):
    for name, (content, _) in HOSTILE.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    tiny = np.random.default_rng(0).normal(size=(60, 4)) * 1e-38
    np.save(tmp_path / "tiny.npy", tiny.astype(np.float32))
    return tmp_path


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_of_vectors_gets_its_own_sentence(space, hostile, name):
    file = handle_file(hostile / name)
    with pytest.raises(AppError, match=HOSTILE[name][1]) as error:
        space.predict(file, file, "affine", 0, 40, api_name="/fit_vectors")
    assert "our side" not in str(error.value)
    assert not re.search(r"&\w+;|0x[0-9a-f]{6}|/tmp/", str(error.value))


def test_a_picture_that_is_a_thread_is_refused_by_every_endpoint(space, tmp_path):
    Image.new("1", (1, 16_000_000)).save(tmp_path / "thread.png")
    with pytest.raises(Refusal, match="sides may differ up to 1,000-fold"):
        check_picture(str(tmp_path / "thread.png"))
    thread = handle_file(tmp_path / "thread.png")
    requests = {
        "/find_captions": (),
        "/label_picture": ("a, b",),
        "/reconstruct": ("published", 100),
    }
    for name, more in requests.items():
        with pytest.raises(AppError, match="sides may differ up to 1,000-fold"):
            space.predict(thread, *more, api_name=name)


def test_an_error_of_the_api_holds_no_markup_and_no_address(space, tmp_path):
    (tmp_path / "x.png").write_bytes(b"not a picture" * 50)
    request = {
        "source_modality": "image",
        "target_modality": "image",
        "source_encoder": tiny_images.image_repo("vit"),
        "target_encoder": tiny_images.image_repo("vit"),
        "dataset": "",
        "split": "",
        "source_column": "",
        "target_column": "",
        "table": None,
        "source_files": [handle_file(tmp_path / "x.png")] * 2,
        "target_files": None,
        "method": "ortho",
        "alpha": 0.1,
        "anchors": 20,
    }
    with pytest.raises(AppError, match="its bytes are of no known image format") as error:
        space.predict(**request, api_name="/fit_items")
    assert "object at" not in str(error.value)
    with pytest.raises(AppError, match="name an image encoder by its repo id") as error:
        space.predict(**(request | {"source_encoder": "<b>&'\""}), api_name="/fit_items")
    assert "&" not in str(error.value)
    for key in ("split", "source_column"):
        with pytest.raises(AppError, match="may have 200 characters; this has 1,000,000") as error:
            space.predict(**(request | {key: "x" * 10**6}), api_name="/fit_items")
        assert len(str(error.value)) < MAX_SENTENCE
    with pytest.raises(AppError, match="must be a whole number from 20 to 800"):
        space.predict(**(request | {"anchors": None}), api_name="/fit_items")


def test_a_sentence_is_plain_and_short():
    said = str(Refusal("<script> in <_io.BytesIO object at 0x7f00aa> of /tmp/secret/x.png").message)
    assert "<" not in said
    assert "0x" not in said
    assert "/tmp" not in said
    assert len(str(Refusal("x" * 10**6).message)) <= MAX_SENTENCE + 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0.5, 101, "5", None])
def test_what_is_not_a_whole_number_within_bounds_is_refused(value):
    with pytest.raises(Refusal, match="Pairs must be a whole number from 0 to 100"):
        check_number(value, 0, 100, "Pairs")
    assert check_number(7.0, 0, 100, "Pairs") == 7


def test_a_header_that_is_there_twice_is_named(tmp_path):
    (tmp_path / "t.csv").write_text("text,text\n1,2\n")
    with pytest.raises(Refusal, match=r"t\.csv has 2 columns named 'text': rename all but one"):
        uploads.read_table(str(tmp_path / "t.csv"), "text", "text")


@pytest.mark.parametrize("name", ["./.", "a/..", "../a", "-/-", "a/b/c", "/", "é/é"])
def test_what_is_no_repo_id_is_not_looked_up(repos, name):
    with pytest.raises(Refusal, match="Please type the id of a translator's repo"):
        inspection.open_translator(repos, name)


def test_a_repo_that_holds_no_translator_is_said_to_hold_none(space, api):
    empty = api.create_repo("alice/empty", exist_ok=True).repo_id
    for repo_id in (empty, tiny_models.bert_repo()):
        with pytest.raises(AppError, match=f"{repo_id} holds no translator: ") as error:
            space.predict(repo_id, api_name="/inspect_translator")
        assert len(str(error.value)) < MAX_SENTENCE


def test_a_sound_repo_is_shown_though_parts_of_the_space_are_missing(repo_id):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(80, 4))
    OrthoTranslator().fit(x, x[:, ::-1].copy()).push_to_hub(repo_id, token="hf_alice")
    numbers = inspection.inspect_repo(Repos(Settings(namespace="bob")), repo_id)
    assert (numbers["rank"], numbers["n_items"]) == (4, 0)


def test_a_part_that_is_not_published_is_named():
    empty = Repos(Settings(namespace="bob"))
    for ask in (
        lambda: choose_items(empty),
        lambda: empty.translator("minilm-to-mpnet"),
        lambda: empty.latents("demo-fashion", "test"),
    ):
        with pytest.raises(Unpublished, match=r"This needs bob/[\w-]+, which is not published"):
            ask()


HUB_IS_ASKED = {
    "/search": ("a query",),
    "/classify": ("a text", "MiniLM", "ortho", 25),
    "/find_pictures": ("a text",),
    "/find_captions": ("picture",),
    "/label_picture": ("picture", "a, b"),
    "/reconstruct": ("picture", "published", 100),
    "/inspect_translator": ("me/translator",),
    "/fit_items": (
        *("text", "text", "me/encoder", "me/encoder", "me/data", "train", "text", ""),
        *(None, None, None, "ortho", 0.1, 20),
    ),
}
TRIES = 4  # requests until a silent Hub is given up, each of 3 seconds at most


@pytest.fixture(scope="module", params=["silent", "refusing"])
def away(request, tmp_path_factory):
    """A client of a Space that has just started, and the Hub, which gives no answer."""
    with StuckServer() as hub, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        port = closed.getsockname()[1]
        folder = tmp_path_factory.mktemp("away")
        environment = {
            "HF_ENDPOINT": hub.url if request.param == "silent" else f"http://127.0.0.1:{port}",
            "HF_HOME": str(folder / "home"),
        }
        with running_space(NAMESPACE, folder / "log.txt", **environment) as address:
            client = Client(address, verbose=False, analytics_enabled=False)
            yield client, hub
            client.close()


def test_a_hub_that_is_away_is_waited_for_once_and_then_every_endpoint_says_so(away, tmp_path):
    space, hub = away
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    picture = handle_file(tmp_path / "x.png")
    requests = [(name, HUB_IS_ASKED[name]) for name in (*["/search"] * 6, *HUB_IS_ASKED)]
    jobs = [
        space.submit(*(picture if given == "picture" else given for given in more), api_name=name)
        for name, more in requests
    ]
    for job in jobs:
        with pytest.raises(AppError, match=r"^The Hub does not answer; please try again in a min"):
            job.result(timeout=60)
    at_once = 3  # two quick answers and a fit may wait side by side
    assert len(hub.requests) <= TRIES * at_once


def test_while_the_hub_is_away_what_needs_no_hub_works_and_a_push_says_so(away, tmp_path):
    space, _ = away
    x = np.random.default_rng(0).normal(size=(80, 4))
    np.save(tmp_path / "x.npy", x)
    file = handle_file(tmp_path / "x.npy")
    space.predict(file, file, "ortho", 0.1, 40, api_name="/fit_vectors")
    with pytest.raises(AppError, match=r"The Hub does not answer for me/x; please try again later"):
        space.predict("me/x", "hf_alice", True, api_name="/push_translator")


def test_every_endpoint_is_tried_while_the_hub_is_away(space):
    listed = set(space.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert listed == {*HUB_IS_ASKED, "/fit_vectors", "/migrate", "/push_translator"}


def test_a_file_that_was_deleted_meanwhile_is_said_to_be_gone(space):
    with Target(space.src.rstrip("/"), "") as target:
        file = target.upload("rows.npy", npy("(4, 4)"))
        picture = target.upload("red.png", b"red")
        for each in (file, picture):
            Path(each["path"]).unlink()
        requests = {
            "/fit_vectors": [file, file, "ortho", 0.1, 40],
            "/migrate": [file, file, "ortho", 40, 10, 10, 1, 1],
            "/find_captions": [picture],
        }
        for name, values in requests.items():
            refusal = target.ask(name, values).refusal
            assert "is no longer here, as what you send is deleted after an hour" in refusal


def test_half_of_a_character_is_said_to_be_one(space):
    with Target(space.src.rstrip("/"), "") as target:
        for name, more in {"/search": [], "/classify": ["MiniLM", "ortho", 25]}.items():
            refusal = target.ask(name, ["a dog \ud800", *more]).refusal
            assert "holds half of a surrogate pair" in refusal
