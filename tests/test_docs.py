"""The pages that follow from the code follow from the code as it is."""

import sys
from pathlib import Path

import pytest
import warm
import write_docs

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_generated_pages_and_blocks_are_up_to_date():
    """In a process of its own: tests may have registered types that the library does not have."""
    done = warm.finished(ROOT / "scripts/write_docs.py", "--check", check=False, loaded=warm.BASE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_page_that_is_out_of_date_is_named(monkeypatch, capsys, tmp_path):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(write_docs, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["write_docs.py", "--check"])
    assert write_docs.main() == 1
    assert "docs/api.md is out of date: run make docs" in capsys.readouterr().out
    assert not (tmp_path / "docs/api.md").exists()


def test_the_tree_has_every_file_with_its_first_line():
    lines = write_docs.tree().splitlines()
    for path in write_docs.PACKAGE.rglob("*.py"):
        if path.stem == "__init__" and path.parent == write_docs.PACKAGE:
            continue
        name = f"{path.parent.name}/" if path.stem == "__init__" else path.name
        first = write_docs.first_line(path)
        assert any(line.split()[0] == name and line.endswith(first) for line in lines), path


def test_the_api_page_has_every_public_name_once():
    import hf_latent_bridge

    headings = [line for line in write_docs.api_page().splitlines() if line.startswith("### ")]
    names = [name for name in hf_latent_bridge.__all__ if name != "__version__"]
    assert sorted(headings) == sorted(f"### {name}" for name in names)


def test_a_docstring_becomes_markdown():
    def function(x: int, *, path: "Path | None" = None) -> int:
        """Adds one.

        More words.

        Args:
            x: A number,
                of any size.
            path: Where.

        Returns:
            The next number.

        Raises:
            ValueError: Never.
        """

    assert write_docs.signature("function", function) == (
        "```python\nfunction(x: int, *, path: Path | None = None) -> int\n```"
    )
    assert write_docs.docstring(function) == [
        "Adds one.\n\nMore words.",
        "**Parameters**",
        "- `x`: A number, of any size.\n- `path`: Where.",
        "**Returns**",
        "The next number.",
        "**Raises**",
        "- `ValueError`: Never.",
    ]


def test_the_tables_show_what_else_is_registered(monkeypatch):
    from hf_latent_bridge.encoders.image import IMAGE
    from hf_latent_bridge.encoders.modality import MODALITIES
    from hf_latent_bridge.translators.base import TRANSLATORS
    from hf_latent_bridge.translators.methods import LinearTranslator
    from hf_latent_bridge.vectors.formats import FORMATS, VectorFormat

    class Toy(LinearTranslator):
        """Halves a latent."""

    monkeypatch.setitem(TRANSLATORS, "toy", Toy)
    monkeypatch.setitem(FORMATS, "toy", VectorFormat("toy", (".toy",), "a toy", open))
    monkeypatch.setitem(MODALITIES, "smell", IMAGE)
    assert "| `smell` |" in write_docs.modalities()
    assert "| `toy` | `Toy` | Halves a latent. |" in write_docs.translators()
    assert "| `.toy` | a toy |" in write_docs.formats()
