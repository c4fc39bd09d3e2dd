"""The package stays in layers, light to import, and says itself what is public."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hf_latent_bridge

PACKAGE = Path(hf_latent_bridge.__file__).parent
LAYERS = [
    ["_version", "errors"],
    ["files"],
    ["moments", "spaces", "latents"],
    ["solvers", "gradient", "metrics"],
    ["resampling"],
    ["report"],
    ["hub", "hub_errors", "model_card", "serialization", "results"],
    ["config_checks", "published", "published_card"],
    ["part"],
    ["translators"],
    ["bulk", "encoders", "data"],
    ["composition", "decoders", "anchors", "checkpoints", "fit_summary", "processes", "sides"],
    ["moment_pass"],
    ["anchor_choice", "fitting", "evaluation", "stitching", "stitched_repo", "zero_shot"],
    ["sentence_transformer_export"],
    ["cli"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
FILES = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    nodes = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.ImportFrom)]
    rooms = set()
    for node in nodes:
        module = (node.module or "").split(".")
        if module[0] == "hf_latent_bridge":
            rooms |= {module[1]} if len(module) > 1 else {alias.name for alias in node.names}
    return rooms & RANK.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_lower_layer_never_imports_a_higher_one(path):
    higher = [name for name in imported_rooms(path) if RANK[name] > RANK[room(path)]]
    assert not higher


@pytest.mark.parametrize("path", [PACKAGE / "__init__.py", *FILES], ids=lambda p: p.name)
def test_the_first_line_of_a_file_says_why_it_exists(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, hf_latent_bridge; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "torch",
        "transformers",
        "datasets",
        "gradio",
        "accelerate",
        "numpy",
        "huggingface_hub",
    }
    assert not heavy & set(output)


def test_every_public_name_can_be_imported_and_has_a_docstring():
    for name in hf_latent_bridge.__all__:
        value = getattr(hf_latent_bridge, name)
        assert name == "__version__" or value.__doc__, name
    assert set(hf_latent_bridge.__all__) <= set(dir(hf_latent_bridge))


def test_type_checkers_see_the_same_public_names():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    static = {
        alias.asname
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert static | {"__version__"} == set(hf_latent_bridge.__all__)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = hf_latent_bridge.Nope
