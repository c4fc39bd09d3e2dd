"""Every block of code in the README and the documentation runs, and every link leads somewhere.

They run on real encoders, against the embedded Hub. BBC News stands in for the news dataset, tiny
random models for the image models and random pictures for the captioned ones, under their names
and with the same columns.
"""

import contextlib
import io
import re
import shlex
from pathlib import Path
from string import Template
from typing import NamedTuple

import numpy as np
import pytest
import tiny_classifiers
import tiny_images
import tiny_models
from local_hub import LocalHub
from local_hub.server import ORGS

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
}
README = PAGES["README.md"]
SCALE = PAGES["docs/scale.md"]
SIGNATURES = "docs/api.md"
TESTED_BELOW = {"README.md", "docs/format.md", "CONTRIBUTING.md"}
WITH_ENGINES = "docs/scale.md"  # tests/test_engines.py
DATASET = "fancyzhx/ag_news"

pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")


def all_blocks(page: str) -> list[tuple[str, str]]:
    """Language and code of each block, in their order."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def blocks(language: str, page: str) -> list[str]:
    return [code for written_in, code in all_blocks(page) if written_in == language]


def run_blocks(code: list[str], where: str) -> dict[str, object]:
    """Runs blocks of Python one after another; returns the names that they set."""
    names: dict[str, object] = {}
    for block in code:
        exec(compile(block, where, "exec"), names)
    return names


def run_commands(block: str) -> None:
    """Runs each line of a block of the command line."""
    from hf_latent_bridge.cli import main

    for line in block.strip().splitlines():
        command = shlex.split(line.removeprefix("$ "))
        assert command[0] == "latent-bridge"
        assert main(command[1:]) == 0, line


def run_page(name: str) -> None:
    """Runs the blocks of Python and of the command line of a page in their order."""
    names: dict[str, object] = {}
    for language, code in all_blocks(PAGES[name]):
        if language == "python":
            exec(compile(code, name, "exec"), names)
        if language == "console":
            run_commands(code)


@pytest.fixture(scope="module")
def seeded(hub: LocalHub) -> None:
    from assets.publish import seed
    from datasets import load_dataset

    hub.add_user("hf_alice", "alice", orgs=(*ORGS, "fancyzhx", "google", "jxie", "me"))
    seed(["minilm", "mpnet", "bbc-news"], quiet=True)
    for split in ("train", "test"):
        rows = load_dataset("local/bbc-news", split=split).select_columns(["text", "label"])
        rows.map(_cut).push_to_hub(DATASET, split=split)
        _captioned_pictures().push_to_hub("jxie/flickr8k", split=split)
    tiny_models.push_folder(tiny_classifiers.image_folder("vit"), "google/vit-base-patch16-224")
    tiny_models.push_folder(tiny_images.image_folder("resnet"), "google/mobilenet_v2_1.0_224")


def _cut(row):
    """The first words of an article: encoders take most of the time of these tests."""
    return {"text": row["text"][:25]}


def _captioned_pictures():
    from datasets import Dataset, Features, Image, Value

    rows = {
        "image": tiny_images.pictures(40),
        "caption_0": tiny_models.sentences(40, tiny_models.EN),
    }
    features = Features({"image": Image(), "caption_0": Value("string")})
    return Dataset.from_dict(rows, features=features)


class Run(NamedTuple):
    folder: Path
    printed: str


@pytest.fixture(scope="module")
def readme(seeded, tmp_path_factory) -> Run:
    """The README's Python, which publishes the translator that its first block loads."""
    folder, printed = tmp_path_factory.mktemp("readme"), io.StringIO()
    first, *rest = blocks("python", README)
    with contextlib.chdir(folder), contextlib.redirect_stdout(printed):
        run_blocks([*rest, first], "README.md")
    return Run(folder, printed.getvalue())


@pytest.mark.slow
def test_the_python_blocks_of_the_readme_run(readme):
    assert "translated" in readme.printed
    assert "shuffled" in readme.printed
    assert readme.printed.rstrip().endswith("torch.Size([1, 768])")
    assert (readme.folder / "old-to-new/model.safetensors").is_file()


# encoders of pictures with random weights stand in, which tell nothing about texts
STANDING_IN = [
    pytest.mark.slow,
    pytest.mark.xdist_group("readme"),
    pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning"),
]


def pages_with_python() -> list:
    found = []
    for name, page in PAGES.items():
        if blocks("python", page) and name not in TESTED_BELOW | {SIGNATURES, WITH_ENGINES}:
            marks = STANDING_IN if "load_encoder(" in page else [pytest.mark.slow]
            found.append(pytest.param(name, marks=marks))
    return found


@pytest.mark.parametrize("name", pages_with_python())
def test_the_blocks_of_a_page_run_in_order(name, request, tmp_path, monkeypatch):
    if "load_encoder(" in PAGES[name]:
        request.getfixturevalue("readme")
    monkeypatch.chdir(tmp_path)
    run_page(name)


@pytest.mark.slow
@pytest.mark.usefixtures("seeded")
def test_the_commands_of_the_readme_run_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("old.npy", np.ones((5, 384), np.float32))
    (console,) = blocks("console", README)
    run_commands(console)
    assert np.load("new.npy").shape == (5, 768)


def test_the_translator_of_the_contributing_page_can_be_fitted(monkeypatch):
    from hf_latent_bridge.translators.base import TRANSLATORS

    (code,) = blocks("python", PAGES["CONTRIBUTING.md"])
    translator = run_blocks([code], "CONTRIBUTING.md")["MyTranslator"]()
    monkeypatch.setitem(TRANSLATORS, "mine", TRANSLATORS.pop("mine"))  # gone after this test
    x = np.random.default_rng(0).normal(size=(50, 4))
    assert translator.fit(x, 2 * x).score(x, 2 * x) > 0.8


def commands_that_need_more_machines() -> list[list[str]]:
    """The words of each command in the bash blocks, with their variables put in."""
    commands: list[list[str]] = []
    for block in (code for page in PAGES.values() for code in blocks("bash", page)):
        values = dict(re.findall(r'^(\w+)="([^"]+)"$', block, re.MULTILINE))
        for line in re.sub(r'^\w+="[^"]+"$', "", block, flags=re.MULTILINE).splitlines():
            commands.append(shlex.split(Template(line).substitute(values), comments=True))
    return [words for words in commands if words]


def without_launcher(words: list[str]) -> list[str]:
    """The arguments of latent-bridge, when the launcher's own parser has taken its part."""
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    if words[0] == "latent-bridge":
        return words[1:]
    if words[0] == "torchrun":
        launch = get_args_parser().parse_args(words[1:])
    else:
        assert words[:2] == ["accelerate", "launch"]
        launch = launch_command_parser().parse_args(words[2:])
    assert (launch.module, launch.training_script) == (True, "hf_latent_bridge")
    return list(launch.training_script_args)


def test_commands_for_many_gpus_and_machines_are_good_usage():
    from hf_latent_bridge.cli import build_parser

    commands = commands_that_need_more_machines()
    assert [words[0] for words in commands].count("torchrun") == 3
    for words in commands:
        build_parser().parse_args(without_launcher(words))


def test_every_option_in_the_table_of_fits_is_an_option_of_fit():
    from write_docs import commands

    (table,) = re.findall(r"\| you have \| add \|\n(.*?)\n\n", SCALE, re.DOTALL)
    known = set(commands()["fit"]._option_string_actions)
    named = set(re.findall(r"--[a-z-]+", table.replace("|---|---|", "")))
    assert named <= known
    assert {"--precomputed", "--anchors", "--checkpoint-dir"} <= named


def test_the_readme_has_at_most_1200_words():
    assert len(README.split()) <= 1200


def test_every_make_target_that_a_page_names_exists_and_ci_runs_one_of_the_readme():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = "\n".join(PAGES.values())
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", pages, re.MULTILINE))
    assert {"quickstart", "demo", "check", "test-fast", "docs"} <= named <= targets
    commands = re.findall(r"^make .*$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert f"`{commands[0]}`" in README
    assert all(f"`{command}`" in pages for command in commands)


def headings(page: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    found = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_to_files_and_headings_that_exist(name):
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[name]):
        path, _, anchor = link.partition("#")
        file = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert file.exists(), link
        if anchor:
            assert anchor in headings(file.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_exist(name):
    for path in re.findall(r"\b((?:scripts|docs|tests|spaces_demo)/[\w/]+\.\w+)", PAGES[name]):
        assert (ROOT / path).exists(), path


def test_tables_of_numbers_in_the_readme_come_right_after_the_name_of_their_script():
    printed = re.findall(r"<!-- printed by (\S+) -->\n```\n(.*?)```", README, re.DOTALL)
    assert all((ROOT / script).is_file() for script, _ in printed)
    tables = [block for block in blocks("", README) if re.search(r"\d\.\d{3}", block)]
    assert tables == [table for _, table in printed]


def test_the_page_on_choosing_and_the_registry_name_the_same_types():
    from hf_latent_bridge.translators.base import methods

    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGES["docs/choosing.md"], re.MULTILINE)
    known = methods(moving=True)
    own = {k: cls.__name__ for k, cls in known.items() if cls.__module__.startswith("hf_")}
    assert dict(rows) == own
    assert len(rows) == len(own)


def test_the_format_page_names_every_field_of_the_config():
    from dataclasses import fields

    from hf_latent_bridge.spaces import SpaceSpec
    from hf_latent_bridge.translators.base import TranslatorConfig

    page = PAGES["docs/format.md"]
    for field in (*fields(TranslatorConfig), *fields(SpaceSpec)):
        assert f"`{field.name}`" in page


def test_the_format_page_names_every_kind_of_decoder_with_its_files_and_params(tmp_path):
    import json

    from hf_latent_bridge import LatentIndex, SpaceSpec, fit_autoencoder, fit_head
    from hf_latent_bridge.decoders.labels import LabelDecoder
    from hf_latent_bridge.decoders.load import DECODERS
    from hf_latent_bridge.hub.published import _FIELDS
    from hf_latent_bridge.stitching import FIELDS

    page = PAGES["docs/format.md"]
    x = np.random.default_rng(0).normal(size=(20, 4))
    parts = [
        fit_head(x, [0, 1] * 10),
        LatentIndex.from_latents(x, range(20)),
        LabelDecoder(x[:2], ["a", "b"], SpaceSpec(4)),
        *fit_autoencoder(np.zeros((2, 1, 8, 8), np.uint8), widths=(4,), epochs=1),
    ]
    assert {part.kind for part in parts} == DECODERS.keys()
    for number, part in enumerate(parts):
        folder = tmp_path / str(number)
        part.save_pretrained(folder)
        config = json.loads((folder / "config.json").read_text())
        files = [path.name for path in folder.iterdir()]
        for name in (part.kind_key, part.kind, *config["params"], *files):
            assert f"`{name}`" in page
    for name in (*_FIELDS, *FIELDS):
        assert f"`{name}`" in page


def test_the_format_page_tells_how_to_use_a_repo_without_the_library(tmp_path, monkeypatch):
    from hf_latent_bridge import OrthoTranslator

    monkeypatch.chdir(tmp_path)

    x = np.random.default_rng(0).normal(size=(50, 4))
    translator = OrthoTranslator().fit(x, x[:, ::-1].copy())
    translator.save_pretrained(tmp_path)
    page = PAGES["docs/format.md"]
    (block,) = blocks("python", page)
    names: dict[str, object] = {}
    exec(block, names)
    np.testing.assert_allclose(names["transform"](x), translator.transform(x))
