"""Every block of the README runs, on real encoders, against the embedded Hub.

What the README names of the public Hub is not to be had offline. BBC News stands in for the news
dataset, tiny random models for the image models and random pictures for the captioned ones, under
their names and with the same columns.
"""

import re
import shlex
from pathlib import Path
from string import Template

import numpy as np
import pytest
import tiny_classifiers
import tiny_images
import tiny_models
from local_hub import LocalHub
from local_hub.server import ORGS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
DATASET = "fancyzhx/ag_news"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def seeded(hub: LocalHub) -> None:
    from assets.publish import seed
    from datasets import load_dataset

    hub.add_user("hf_alice", "alice", orgs=(*ORGS, "fancyzhx", "google", "jxie", "me"))
    seed(["minilm", "mpnet", "bbc-news"], quiet=True)
    for split in ("train", "test"):
        rows = load_dataset("local/bbc-news", split=split).select_columns(["text", "label"])
        rows.push_to_hub(DATASET, split=split)
        _captioned_pictures().push_to_hub("jxie/flickr8k", split=split)
    tiny_models.push_folder(tiny_classifiers.image_folder("vit"), "google/vit-base-patch16-224")
    tiny_models.push_folder(tiny_images.image_folder("mobilenet_v2"), "google/mobilenet_v2_1.0_224")


def _captioned_pictures():
    from datasets import Dataset, Features, Image, Value

    rows = {
        "image": tiny_images.pictures(40),
        "caption_0": tiny_models.sentences(40, tiny_models.EN),
    }
    features = Features({"image": Image(), "caption_0": Value("string")})
    return Dataset.from_dict(rows, features=features)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("seeded")
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_the_python_blocks_run_in_order_once_the_translator_is_published(capsys):
    first, *rest = blocks("python")
    names: dict[str, object] = {}
    for block in [*rest, first]:
        exec(compile(block, "README.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "translated" in printed
    assert "untranslated" in printed
    assert printed.rstrip().endswith("torch.Size([1, 768])")
    assert Path("old-to-new/model.safetensors").is_file()
    assert names["images"].shape == (1797, 1, 8, 8)


@pytest.mark.usefixtures("seeded")
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
def test_the_commands_run_in_order(capsys):
    from hf_latent_bridge.cli import main

    np.save("old.npy", np.ones((5, 384), np.float32))
    (console,) = blocks("console")
    for line in console.strip().splitlines():
        command = shlex.split(line.removeprefix("$ "))
        assert command[0] == "latent-bridge"
        assert main(command[1:]) == 0, capsys.readouterr().err
    assert np.load("new.npy").shape == (5, 768)


def commands_that_need_more_machines() -> list[list[str]]:
    """The words of each command in the bash blocks, with their variables put in."""
    commands: list[list[str]] = []
    for block in blocks("bash"):
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


def test_every_option_that_the_readme_names_is_one_of_its_command():
    from write_docs import commands

    (table,) = re.findall(r"\| you have \| add \|\n(.*?)\n\n", README, re.DOTALL)
    known = set(commands()["fit"]._option_string_actions)
    named = set(re.findall(r"--[a-z-]+", table.replace("|---|---|", "")))
    assert named <= known
    assert {"--precomputed", "--anchors", "--checkpoint-dir"} <= named


def test_the_tree_names_files_that_exist():
    (tree,) = re.findall(r"```\n(hf_latent_bridge/\n.*?)```", README, re.DOTALL)
    for line in tree.splitlines():
        folder = ROOT / "hf_latent_bridge" if line.startswith(" ") else ROOT
        assert (folder / line.split()[0]).exists(), line


def test_links_inside_the_project_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_numbers_in_the_readme_name_the_script_that_prints_them():
    for script in re.findall(r"<!-- printed by (\S+) -->", README):
        assert (ROOT / script).is_file()
    tables = [block for block in blocks("") if re.search(r"\d\.\d{3}", block)]
    assert len(tables) == README.count("<!-- printed by ")


def test_the_readme_names_every_registered_type():
    from hf_latent_bridge.translators.base import TRANSLATORS

    for kind, cls in TRANSLATORS.items():
        assert f"`{kind}`" in README
        assert cls.__name__ in README


def test_the_format_page_names_every_field_of_the_config():
    from dataclasses import fields

    from hf_latent_bridge.spaces import SpaceSpec
    from hf_latent_bridge.translators.base import TranslatorConfig

    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    for field in (*fields(TranslatorConfig), *fields(SpaceSpec)):
        assert f"`{field.name}`" in page


def test_the_format_page_names_every_kind_of_decoder_with_its_files_and_params(tmp_path):
    import json

    from hf_latent_bridge import LatentIndex, SpaceSpec, fit_autoencoder, fit_head
    from hf_latent_bridge.decoders.labels import LabelDecoder
    from hf_latent_bridge.decoders.load import DECODERS
    from hf_latent_bridge.hub.published import _FIELDS
    from hf_latent_bridge.stitching import FIELDS

    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    x = np.random.default_rng(0).normal(size=(20, 4))
    parts = [
        fit_head(x, [0, 1] * 10),
        LatentIndex.from_latents(x, range(20)),
        LabelDecoder(x[:2], ["a", "b"], SpaceSpec(4)),
        *fit_autoencoder(np.zeros((2, 1, 8, 8), np.uint8), widths=(4,), epochs=1),
    ]
    assert {part.kind for part in parts} == DECODERS.keys()
    for part in parts:
        part.save_pretrained(tmp_path / part.kind)
        config = json.loads((tmp_path / part.kind / "config.json").read_text())
        files = [path.name for path in (tmp_path / part.kind).iterdir()]
        for name in (part.kind_key, part.kind, *config["params"], *files):
            assert f"`{name}`" in page
    for name in (*_FIELDS, *FIELDS):
        assert f"`{name}`" in page


def test_the_format_page_tells_how_to_use_a_repo_without_the_library(tmp_path):
    from hf_latent_bridge import OrthoTranslator

    x = np.random.default_rng(0).normal(size=(50, 4))
    translator = OrthoTranslator().fit(x, x[:, ::-1].copy())
    translator.save_pretrained(tmp_path)
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, object] = {}
    exec(block, names)
    np.testing.assert_allclose(names["transform"](x), translator.transform(x))
