"""Files import each other in one direction, and the pure maths reads and writes nothing."""

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
ROOT = PACKAGE.name
PURE = {
    *(
        "counts",
        "errors",
        "latents",
        "spaces",
        "moments",
        "solvers",
        "canonical",
        "metrics",
        "hubness",
        "growth",
        "selection",
    ),
}
FOR_MATHS = {
    *("abc", "collections", "contextlib", "dataclasses", "enum", "functools", "itertools", "math"),
    *("numbers", "operator", "types", "typing", "warnings"),
    *("jaxtyping", "numpy", "scipy", "torch", ROOT),
}
READS_OR_WRITES = {
    *("open", "print", "save", "load", "savez", "memmap", "tofile", "fromfile", "loadtxt"),
    *("savetxt", "loadmat", "savemat", "hub"),
}


def imports_in(path: Path) -> set[str]:
    """Full names of what a file imports, imports inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import in line {node.lineno}"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def files_imported_by(module: str) -> set[str]:
    """The files of this package that a file imports; the root's are those in its stub."""
    path = FILES[module]
    names = imports_in(path.with_suffix(".pyi") if module == ROOT else path)
    found = {name if name in FILES else name.rpartition(".")[0] for name in names}
    return (found & FILES.keys()) - {module}


def test_no_file_imports_itself_by_way_of_others():
    graph = {module: files_imported_by(module) for module in FILES}
    assert graph[f"{ROOT}.metrics"] >= {f"{ROOT}.moments"}
    assert {f"{ROOT}.stitching", f"{ROOT}.evaluation"} <= graph[ROOT]
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which names the files


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_maths_imports_no_file_and_no_library_that_reads_or_writes(name):
    path = FILES[f"{ROOT}.{name}"]
    ours = {module.removeprefix(f"{ROOT}.") for module in files_imported_by(f"{ROOT}.{name}")}
    assert ours <= PURE
    assert {imported.partition(".")[0] for imported in imports_in(path)} <= FOR_MATHS
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    called = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    called |= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert not called & READS_OR_WRITES


@pytest.mark.parametrize("path", FILES.values(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_the_first_line_of_a_file_is_a_sentence_that_says_why_it_exists(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert docstring
    first = docstring.splitlines()[0]
    assert len(first) > 20
    assert first.endswith((".", ":"))


def test_an_init_holds_a_docstring_alone_unless_it_registers_or_is_a_whole_job():
    """Names are imported from the file that defines them."""
    with_code = {
        str(path.parent.relative_to(PACKAGE))
        for path in PACKAGE.rglob("__init__.py")
        if len(ast.parse(path.read_text(encoding="utf-8")).body) > 1
    }
    assert with_code == {".", "cli", "encoders", "translation", "translators"}


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
