"""Fit your own takes items of every registered modality: pictures, and sounds of one toy file."""

import io
import shutil
import wave

import numpy as np
import pytest
import space_encoders
import tiny_images
import tiny_models
import torch
import toy_audio
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from limits import Refusal
from space_repos import running_space
from tabs.fit_your_own import fit, items

from hf_latent_bridge import AutoTranslator, OrthoTranslator, Pairs, fit_translator, load_encoder
from hf_latent_bridge.encoders.image import IMAGE
from hf_latent_bridge.encoders.modality import MODALITIES, register
from hf_latent_bridge.encoders.text import TEXT
from hf_latent_bridge.errors import InvalidPairsError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning"),
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]

REQUEST = {
    "dataset": "",
    "split": "train",
    "source_column": "",
    "target_column": "",
    "table": None,
    "source_files": None,
    "target_files": None,
    "method": "ortho",
    "alpha": 0.1,
    "anchors": 40,
}
TITLES = tiny_models.sentences(60, tiny_models.EN, seed=5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Sixty pictures as files, numbered in order."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, title in enumerate(TITLES):
        space_encoders.draw(title).save(folder / f"{number:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def two_that_see():
    return tiny_images.image_repo("vit"), space_encoders.picture_encoder(hidden=40).space.repo_id


def ask(client, modalities, encoders, **changes):
    sides = dict(zip(("source_modality", "target_modality"), modalities, strict=True))
    sides |= dict(zip(("source_encoder", "target_encoder"), encoders, strict=True))
    return client.predict(**(REQUEST | sides | changes), api_name="/fit_items")


def uploads(files):
    return [handle_file(file) for file in files]


def unpacked(archive, folder):
    shutil.unpack_archive(archive, folder)
    return AutoTranslator.from_pretrained(folder)


def assert_as_the_library_fits(translator, encoders, columns):
    """The map that the library gives on the same items, between the same spaces."""
    loaded = [load_encoder(repo, modality=name) for repo, name in encoders]
    latents = [e.encode(column).cpu().numpy() for e, column in zip(loaded, columns, strict=True)]
    rows, _ = fit.split(len(latents[0]), 40)
    spaces = [encoder.space for encoder in loaded]
    wanted = fit_translator(OrthoTranslator(), *spaces, Pairs(*(x[rows] for x in latents)))
    assert (translator.source_.repo_id, translator.target_.repo_id) == tuple(r for r, _ in encoders)
    np.testing.assert_allclose(translator.map_.weight, wanted.map_.weight, atol=1e-3)


def test_uploaded_pictures_fit_two_encoders_of_pictures(space, pictures, two_that_see, tmp_path):
    report, archive = ask(
        space, ("image", "image"), two_that_see, source_files=uploads(reversed(pictures))
    )
    assert report["scores"]["n_pairs"] == 20
    encoders = [(repo, "image") for repo in two_that_see]
    columns = [[str(file) for file in pictures]] * 2
    assert_as_the_library_fits(unpacked(archive, tmp_path / "own"), encoders, columns)


def test_a_column_of_titles_fits_a_column_of_pictures(space, repos, two_that_see, tmp_path):
    titles = space_encoders.text_encoder(hidden=24, seed=0).space.repo_id
    report, archive = ask(
        space,
        ("text", "image"),
        (titles, two_that_see[1]),
        dataset=repos.settings.repo_id("demo-pictures"),
        split="test",
        source_column="title",
        target_column="image",
    )
    rows = repos.latents("demo-pictures", "test").rows
    translator = unpacked(archive, tmp_path / "own")
    assert translator.dataset_["first_rows"] == 60
    encoders = [(titles, "text"), (two_that_see[1], "image")]
    columns = [list(rows["title"][:60]), list(rows["image"][:60])]
    assert_as_the_library_fits(translator, encoders, columns)
    assert report["title"].startswith(f"From {titles}")


def test_pictures_are_paired_with_the_lines_of_a_file(space, pictures, two_that_see, tmp_path):
    titles = space_encoders.text_encoder(hidden=24, seed=0).space.repo_id
    lines = tmp_path / "titles.txt"
    lines.write_text("\n\n".join(TITLES) + "\n", encoding="utf-8-sig")
    encoders = (two_that_see[0], titles)
    files = {"source_files": uploads(pictures), "target_files": uploads([lines])}
    _, archive = ask(space, ("image", "text"), encoders, **files)
    columns = [[str(file) for file in pictures], TITLES]
    named = list(zip(encoders, ("image", "text"), strict=True))
    assert_as_the_library_fits(unpacked(archive, tmp_path / "own"), named, columns)


def test_files_that_are_no_such_items_are_refused(space, pictures, two_that_see, tmp_path):
    two = ("image", "image")
    files = {"source_files": uploads(pictures), "target_files": uploads(pictures[1:])}
    with pytest.raises(AppError, match="hold 60 source and 59 target items"):
        ask(space, two, two_that_see, **files)
    lines = tmp_path / "titles.txt"
    lines.write_text("\n".join(TITLES))
    with pytest.raises(AppError, match=r"^titles.txt is not read as image: needed \.png"):
        ask(space, two, two_that_see, source_files=uploads([lines]))
    bad = tmp_path / "05-bad.png"
    bad.write_bytes(pictures[0].read_bytes()[:40])
    with pytest.raises(AppError, match="Item 5 cannot be used as an image"):
        ask(space, two, two_that_see, source_files=uploads([*pictures, bad]))
    with pytest.raises(AppError, match="target column must hold items of text"):
        ask(space, ("image", "text"), two_that_see, source_files=uploads(pictures))


def test_a_picture_with_too_many_pixels_is_refused_undecoded():
    huge = {"bytes": tiny_images.huge_png(4097, 4096), "path": "huge.png"}
    with pytest.raises(Refusal, match=r"Row 0 of the source column has a size of 16,781,312"):
        items.check_items([huge], IMAGE, "source")


@pytest.mark.parametrize("item", ["/etc/passwd", {"bytes": None, "path": "/etc/passwd"}])
def test_no_row_of_a_dataset_opens_a_file_of_this_machine(item):
    with pytest.raises(Refusal, match=r"is text, not image|names a file"):
        items.check_items([item], IMAGE, "source")


def test_a_picture_of_a_dataset_that_is_a_path_is_not_opened(space, two_that_see, pictures, api):
    from datasets import Dataset, Features, Image, Value

    raw = Features({"image": {"bytes": Value("binary"), "path": Value("string")}})
    rows = Dataset.from_dict({"image": [{"bytes": None, "path": str(p)} for p in pictures]}, raw)
    rows = rows.cast(Features({"image": Image()}))
    content = io.BytesIO()
    rows.with_format("arrow").to_parquet(content)
    repo_id = api.create_repo("alice/paths", repo_type="dataset", exist_ok=True).repo_id
    api.upload_file(
        path_or_fileobj=content.getvalue(),
        path_in_repo="data/train.parquet",
        repo_id=repo_id,
        repo_type="dataset",
    )
    where = {"dataset": repo_id, "source_column": "image"}
    with pytest.raises(AppError, match="Row 0 of the source column names a file"):
        ask(space, ("image", "image"), two_that_see, **where)


def test_few_large_pictures_are_decoded_at_a_time(monkeypatch):
    monkeypatch.setattr(items, "MAX_SIZE", 2 * 32 * 32)
    column = [space_encoders.draw(title) for title in TITLES]
    assert [len(chunk) for chunk in items._chunks(IMAGE, column)] == [2] * 30
    assert [len(chunk) for chunk in items._chunks(TEXT, TITLES)] == [32, 28]


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Sixty sounds as wave files, numbered in order."""
    folder = tmp_path_factory.mktemp("sounds")
    for number in range(60):
        samples = toy_audio.sound(900 + 10 * number, seed=number)["array"]
        with wave.open(str(folder / f"{number:02}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(toy_audio.RATE)
            file.writeframes((samples * 2**15).clip(-(2**15), 2**15 - 1).astype("<i2").tobytes())
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def two_that_hear():
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.manual_seed(1)
    other = Wav2Vec2Model(Wav2Vec2Config(**toy_audio.CONFIG)).eval()
    return toy_audio.repo(), toy_audio.published(other, "alice/tiny-wav2vec2-b")


@pytest.fixture(scope="module")
def hearing_space(repos, tmp_path_factory):
    """A Space in whose process one file has registered sounds."""
    log = tmp_path_factory.mktemp("hearing-space") / "log.txt"
    plugin = "from toy_audio import Audio\nfrom hf_latent_bridge.encoders.modality import register"
    plugin += "\nregister(Audio())"
    with running_space(repos.settings.namespace, log, plugin=plugin) as address:
        client = Client(address, verbose=False, analytics_enabled=False)
        yield client
        client.close()


@pytest.fixture
def audio():
    yield register(toy_audio.Audio())
    del MODALITIES["audio"]


def choices(client, parameter):
    described = client.view_api(return_format="dict")["named_endpoints"]["/fit_items"]
    (found,) = (p for p in described["parameters"] if p["parameter_name"] == parameter)
    return found["type"]["enum"]


def test_the_space_lists_the_registered_modalities(space, hearing_space):
    for side in ("source_modality", "target_modality"):
        assert choices(space, side) == sorted(MODALITIES) == ["image", "text"]
        assert choices(hearing_space, side) == ["audio", "image", "text"]
    (form,) = [c for c in hearing_space.config["components"] if "Or source files" in str(c)]
    assert {".wav", ".png", ".txt"} <= set(form["props"]["file_types"])


def test_uploaded_sounds_of_a_registered_modality_are_fitted(
    hearing_space, sounds, two_that_hear, audio, tmp_path
):
    request = {"source_files": uploads(sounds)}
    report, archive = ask(hearing_space, ("audio", "audio"), two_that_hear, **request)
    assert report["scores"]["n_pairs"] == 20
    columns = [[item for file in sounds for item in audio.read_file(file)]] * 2
    encoders = [(repo, "audio") for repo in two_that_hear]
    assert_as_the_library_fits(unpacked(archive, tmp_path / "own"), encoders, columns)


def test_a_column_of_sounds_is_fitted_with_a_column_of_texts(
    hearing_space, sounds, two_that_hear, audio, tmp_path
):
    from datasets import Dataset, Features, List, Value

    columns = {"sound": [item for file in sounds for item in audio.read_file(file)]}
    columns["name"] = TITLES
    kind = {"array": List(Value("float32")), "sampling_rate": Value("int32")}
    features = Features({"sound": kind, "name": Value("string")})
    Dataset.from_dict(columns, features).push_to_hub("alice/named-sounds")
    texts = space_encoders.text_encoder(hidden=24, seed=0).space.repo_id
    where = {"dataset": "alice/named-sounds", "source_column": "sound", "target_column": "name"}
    encoders = two_that_hear[0], texts
    _, archive = ask(hearing_space, ("audio", "text"), encoders, **where)
    named = list(zip(encoders, ("audio", "text"), strict=True))
    read = [columns["sound"][:60], TITLES[:60]]
    assert_as_the_library_fits(unpacked(archive, tmp_path / "own"), named, read)


def test_a_wrong_kind_of_items_is_refused(hearing_space, sounds, pictures, two_that_hear):
    two = ("audio", "audio")
    with pytest.raises(AppError, match=r"not read as audio: needed \.wav"):
        ask(hearing_space, two, two_that_hear, source_files=uploads(pictures))
    files = {"source_files": uploads(pictures)}
    with pytest.raises(AppError, match="holds no image encoder that loads"):
        ask(hearing_space, ("image", "image"), two_that_hear, **files)


def test_a_file_of_another_suffix_is_refused_by_the_modality(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidPairsError, match=r"x\.txt is not UTF-8 text"):
        TEXT.read_file(tmp_path / "x.txt")
    with pytest.raises(InvalidPairsError, match=r"x\.txt is not read as image: needed \.png, "):
        IMAGE.read_file(tmp_path / "x.txt")
