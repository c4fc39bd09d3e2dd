"""The package stays in layers, light to import, and says itself what is public."""

import ast
import graphlib
import sys
from pathlib import Path

import pytest
from processes import finished

import hf_latent_bridge

PACKAGE = Path(hf_latent_bridge.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}
PURE = ["moments", "solvers", "metrics"]
READING_AND_WRITING = ["data", "decoders", "encoders", "fitting", "hub", "translation", "vectors"]


def imports_of(module: str) -> set[str]:
    """The files that a file imports, imports inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module in FILES:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names & FILES.keys() or {node.module}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & FILES.keys()
    return found - {module}


def test_no_files_import_each_other_in_a_circle():
    sorter = graphlib.TopologicalSorter({module: imports_of(module) for module in FILES})
    sorter.prepare()


@pytest.mark.parametrize("name", PURE)
def test_pure_maths_imports_nothing_that_reads_or_writes_elsewhere(name):
    reached, left = set(), {f"hf_latent_bridge.{name}"}
    while left:
        module = left.pop()
        reached.add(module)
        left |= imports_of(module) - reached
    assert not reached & {f"hf_latent_bridge.{folder}" for folder in READING_AND_WRITING}


@pytest.mark.parametrize("path", FILES.values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_first_line_of_a_file_says_why_it_exists(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring
    assert len(docstring.splitlines()[0]) > 20


def test_importing_the_package_loads_no_heavy_library():
    code = "import sys, hf_latent_bridge; print(*sys.modules)"
    output = finished([sys.executable, "-c", code]).stdout.split()
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
