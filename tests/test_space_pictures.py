"""The tab "Text and image": what it finds is what the library finds, and bad files are refused."""

import pytest
from datasets import load_dataset
from gradio_client import handle_file
from gradio_client.exceptions import AppError
from limits import MAX_TEXT, Refusal
from PIL import Image
from repos import Repos
from settings import Settings
from space_encoders import draw
from tabs.pictures import retrieval
from tabs.pictures.tab import CODE
from tiny_images import huge_png

from hf_latent_bridge import AutoTranslator, load_decoder, load_encoder, stitch, zero_shot

pytestmark = pytest.mark.slow

TEXT = "the red dog runs"
LABELS = "red dog\nold house, tree"


@pytest.fixture(scope="module")
def encoders(repos):
    translator = AutoTranslator.from_pretrained("acme/title-to-picture")
    return load_encoder(translator.source_), load_encoder(translator.target_)


@pytest.fixture
def png(tmp_path):
    path = tmp_path / "picture.png"
    draw(TEXT).save(path)
    return path


def test_a_text_finds_the_pictures_that_the_library_finds(repos, encoders):
    shown, _ = retrieval.find_by_text(repos, TEXT)
    translator = AutoTranslator.from_pretrained("acme/title-to-picture")
    hits = stitch(encoders[0], translator, load_decoder("acme/picture-index"))(TEXT, top_k=8)
    data = load_dataset("acme/demo-pictures", split="test")
    assert [caption for _, caption in shown] == [
        f"{hit['item']['title']} · {hit['score']:.2f}" for hit in hits
    ]
    assert [image.tobytes() for image, _ in shown] == [
        data[hit["item"]["row"]]["image"].tobytes() for hit in hits
    ]


def test_a_title_finds_its_own_picture_and_a_picture_its_own_title(repos):
    data = load_dataset("acme/demo-pictures", split="test")
    for row in data.select(range(0, 50, 10)):
        shown, _ = retrieval.find_by_text(repos, row["title"])
        assert row["title"] in [caption.split(" · ")[0] for _, caption in shown[:3]]
        captions, _ = retrieval.find_by_picture(repos, row["image"])
        assert row["title"] in [found["title"] for found in captions["found"][:3]]


def test_the_captions_are_those_that_the_library_finds(repos, encoders):
    captions, _ = retrieval.find_by_picture(repos, draw(TEXT))
    translator = AutoTranslator.from_pretrained("acme/picture-to-title")
    model = stitch(encoders[1], translator, load_decoder("acme/title-index"))
    hits = model(draw(TEXT), top_k=5)
    assert [(found["title"], found["score"]) for found in captions["found"]] == [
        (hit["item"]["title"], f"cosine {hit['score']:.2f}") for hit in hits
    ]


def test_the_visitors_labels_are_ranked_as_by_zero_shot(repos, encoders):
    bars, _ = retrieval.label_picture(repos, draw("red dog"), LABELS)
    translator = AutoTranslator.from_pretrained("acme/picture-to-title")
    names = ["red dog", "old house", "tree"]
    answers = zero_shot(encoders[1], translator, encoders[0], names)(draw("red dog"), top_k=3)
    assert [(row["label"], row["score"]) for row in bars["labels"]] == [
        (answer["label"], f"cosine {answer['score']:.2f}") for answer in answers
    ]
    assert bars["labels"][0]["label"] == "red dog"
    assert [row["best"] for row in bars["labels"]] == [True, False, False]


def test_what_is_transparent_lies_on_white(repos):
    clear = draw(TEXT).convert("RGBA")
    clear.paste((0, 0, 0, 0), (0, 0, 16, 16))
    white = draw(TEXT)
    white.paste((255, 255, 255), (0, 0, 16, 16))
    assert retrieval.find_by_picture(repos, clear)[0] == retrieval.find_by_picture(repos, white)[0]


@pytest.mark.parametrize("name", ["title-to-picture", "picture-to-title"])
def test_beside_the_result_stands_the_measured_recall_and_that_of_chance(repos, name):
    metrics = AutoTranslator.from_pretrained(f"acme/{name}").metrics_
    right, chance = retrieval.measured(repos.translator(name), "title", "pictures")
    assert right["name"] == "right title among the 10 nearest of 60"
    assert right["value"] == f"{100 * metrics['translated']['recall@10']:.0f} % of pictures"
    assert chance["value"] == f"{100 * metrics['shuffled']['recall@10']:.1f} %"


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("a, b", ["a", "b"]),
        ("a\n b \n\n c,", ["a", "b", "c"]),
        ("a, b, a", ["a", "b"]),
        (", ".join(map(str, range(20))), [str(n) for n in range(20)]),
    ],
)
def test_labels_stand_one_a_line_or_between_commas(text, labels):
    assert retrieval.read_labels(text) == labels


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ("", "Please type some labels"),
        (None, "Please type some labels"),
        ("alone", "2 to 20 different labels.* this has 1"),
        ("a, a", "this has 1"),
        (",,\n,", "this has 0"),
        (",".join(map(str, range(21))), "this has 21"),
        ("a, " + "b" * 81, "A label may have 80 characters; one has 81"),
        ("a," * MAX_TEXT, "may have 2,000 characters"),
    ],
)
def test_bad_labels_are_refused_in_a_sentence(repos, labels, sentence):
    with pytest.raises(Refusal, match=sentence):
        retrieval.label_picture(repos, draw(TEXT), labels)


@pytest.mark.parametrize("text", ["", "  ", None, "x" * (MAX_TEXT + 1)])
def test_a_bad_text_is_refused_in_a_sentence(repos, text):
    with pytest.raises(Refusal, match=r"Please type a text|may have 2,000 characters"):
        retrieval.find_by_text(repos, text)


def test_the_tab_says_in_a_sentence_that_the_pictures_are_not_published():
    empty = Repos(Settings(namespace="bob"))
    for act in (
        lambda: retrieval.choose_pictures(empty),
        lambda: retrieval.find_by_text(empty, TEXT),
        lambda: retrieval.find_by_picture(empty, draw(TEXT)),
        lambda: retrieval.label_picture(empty, draw(TEXT), LABELS),
    ):
        with pytest.raises(Refusal, match=r"This needs bob/.*, which is not published"):
            act()


def test_the_api_gives_what_the_tab_shows(repos, space, png):
    shown, facts = space.predict(TEXT, api_name="/find_pictures")
    expected, expected_facts = retrieval.find_by_text(repos, TEXT)
    assert [item["caption"] for item in shown] == [caption for _, caption in expected]
    with Image.open(shown[0]["image"]) as image:
        assert image.tobytes() == expected[0][0].tobytes()
    assert facts[2:] == expected_facts[2:]
    captions, _ = space.predict(handle_file(png), api_name="/find_captions")
    assert captions == retrieval.find_by_picture(repos, draw(TEXT))[0]
    bars, _ = space.predict(handle_file(png), LABELS, api_name="/label_picture")
    assert bars == retrieval.label_picture(repos, draw(TEXT), LABELS)[0]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("huge.png", huge_png(20_000, 20_000), "up to 16.8 million pixels"),
        ("text.png", b"I am a text", "This file is not a picture"),
        ("empty.png", b"", "This file is not a picture"),
    ],
    ids=["20,000 by 20,000 pixels", "a text", "nothing"],
)
def test_the_api_refuses_what_is_no_picture_or_too_large(space, tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    for endpoint, more in (("/find_captions", ()), ("/label_picture", (LABELS,))):
        with pytest.raises(AppError, match=sentence) as refused:
            space.predict(handle_file(path), *more, api_name=endpoint)
        assert "/tmp" not in str(refused.value)


def test_the_api_refuses_no_picture_and_ten_megabytes_of_text(space):
    with pytest.raises(AppError, match="Please choose a picture"):
        space.predict(None, api_name="/find_captions")
    with pytest.raises(AppError, match="may have 2,000 characters; this has 10,000,000"):
        space.predict("x" * 10_000_000, api_name="/find_pictures")


def test_the_code_beside_the_tab_runs(repos, capsys):
    exec(CODE.format(namespace="acme"), {})
    pictures, captions, labels = capsys.readouterr().out.splitlines()
    assert pictures.startswith("[{'item': {'title':")
    assert captions.startswith("[{'item': {'title':")
    assert labels.count("'score'") == 3
