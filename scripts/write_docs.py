"""Writes all documentation that follows from the code: python scripts/write_docs.py [--check]."""

import argparse
import ast
import inspect
import os
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hf_latent_bridge
from hf_latent_bridge import errors
from hf_latent_bridge.cli import build_parser

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "hf_latent_bridge"
WIDTH = 90
SECTIONS = {
    "Translators": "translators hub",
    "Fit and evaluate": "fitting evaluation gating gradual_gating translation",
    "Encoders and pairs": "encoders data vectors",
    "Decoders and stitching": "decoders stitching autoencoder",
    "Integrations": "integrations",
    "Moments, maps and spaces": (
        "moments solvers selection canonical metrics hubness growth spaces latents files"
    ),
}


def pages() -> dict[Path, str]:
    """Each page that is generated, whole or in blocks, as it must read now."""
    whole = {ROOT / "docs/cli.md": cli_page(), ROOT / "docs/api.md": api_page()}
    texts = {path: path.read_text(encoding="utf-8") for path in _pages_with_blocks()}
    return whole | {path: fill_blocks(text) for path, text in texts.items()}


def _pages_with_blocks() -> list[Path]:
    candidates = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    return [path for path in candidates if _BLOCK.search(path.read_text(encoding="utf-8"))]


# --- blocks inside pages that are written by hand ---

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill_blocks(text: str) -> str:
    """The page with every block between `<!-- generated: NAME -->` and `<!-- end -->` renewed."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}", text)


def tree() -> str:
    """The package's files, each with the first line of its docstring."""
    return "\n".join(["```", "hf_latent_bridge/", *_tree_lines(PACKAGE, "  "), "```"])


def _tree_lines(folder: Path, indent: str) -> Iterator[str]:
    files = sorted(folder.glob("*.py"), key=lambda path: (path.stem != "__init__", path.stem))
    for path in files:
        if folder == PACKAGE or path.stem != "__init__":
            yield f"{indent}{path.name:{27 - len(indent)}} {first_line(path)}"
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield f"{indent}{inner.name + '/':{27 - len(indent)}} {first_line(inner / '__init__.py')}"
        yield from _tree_lines(inner, indent + "  ")


def first_line(path: Path) -> str:
    """The first line of a file's docstring."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n")[0]


def translators() -> str:
    """A table of all registered translators that are fitted on pairs."""
    from hf_latent_bridge.translators.base import methods, summary

    rows = [
        (f"`{name}`", f"`{cls.__name__}`", summary(cls), _parameters(cls))
        for name, cls in sorted(methods(moving=True).items())
    ]
    return table(("type", "class", "the map", "parameters"), rows)


def modalities() -> str:
    """A table of all registered modalities."""
    from hf_latent_bridge.encoders.modality import MODALITIES

    rows = [
        (f"`{name}`", ", ".join(f"`{pooling}`" for pooling in modality.poolings))
        for name, modality in sorted(MODALITIES.items())
    ]
    return table(("modality", "pooling"), rows)


def formats() -> str:
    """A table of all registered formats of vectors."""
    from hf_latent_bridge.vectors.formats import FORMATS
    from hf_latent_bridge.vectors.opening import COMPRESSED

    rows = [
        (
            " ".join(f"`{suffix}`" for suffix in known.suffixes),
            known.description,
            " ".join(f"`{suffix}`" for suffix in known.writers),
            " ".join({writer.keeps for writer in known.writers.values()}),
            " ".join(f"`{suffix}`" for suffix in COMPRESSED) if known.compressed else "",
            f"`{known.extra}`" if known.extra else "",
        )
        for known in FORMATS.values()
    ]
    return table(
        ("read", "content", "written", "keeps of ids and columns", "also as", "extra to install"),
        rows,
    )


def _summary(value: object) -> str:
    """The first sentence of a docstring."""
    paragraph = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")


def _parameters(cls: type) -> str:
    given = inspect.signature(cls).parameters.values()
    return ", ".join(f"`{parameter.name}={parameter.default!r}`" for parameter in given)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines
    )


BLOCKS: Mapping[str, Callable[[], str]] = {
    "tree": tree,
    "translators": translators,
    "modalities": modalities,
    "formats": formats,
}

# --- the command line ---


def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command."""
    actions = build_parser()._actions
    (listed,) = (action for action in actions if isinstance(action, argparse._SubParsersAction))
    return dict(listed.choices)


def cli_page() -> str:
    """The help of the command line and of each command."""
    with _columns(WIDTH):
        parsers = [build_parser(), *commands().values()]
        helps = [f"## {parser.prog}\n\n```\n{parser.format_help()}```\n" for parser in parsers]
    return "# Command line\n\n" + "\n".join(helps)


@contextmanager
def _columns(width: int) -> Iterator[None]:
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(width)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before


# --- the API ---


def api_page() -> str:
    """Every public name with its signature and docstring."""
    lines = [
        "# API reference",
        "Everything below is imported from `hf_latent_bridge`, errors and warnings from "
        "`hf_latent_bridge.errors`. `Latents` in a signature are a NumPy array or a torch tensor, "
        "`EncoderLike` is an `Encoder` or a function from a list of items to latents, and "
        "`HubOptions` and `DatasetOptions` are the loading keywords of huggingface_hub.",
    ]
    for heading, folders in SECTIONS.items():
        lines += [f"## {heading}", *map(entry, _names_in(folders.split()))]
    return "\n\n".join([*lines, "## Errors and warnings", _errors()]) + "\n"


def _names_in(folders: list[str]) -> list[str]:
    return [name for name, value in public().items() if value.__module__.split(".")[1] in folders]


def public() -> dict[str, Any]:
    """The public names and what they name."""
    names = [name for name in dir(hf_latent_bridge) if name != "__version__"]
    return {name: getattr(hf_latent_bridge, name) for name in names}


def entry(name: str) -> str:
    """One public name: a function, or a class with its public members."""
    value = getattr(hf_latent_bridge, name)
    lines = [f"### {name}", signature(name, value), *docstring(value)]
    if inspect.isclass(value):
        for member, (kind, plain) in _members(value).items():
            lines.append(f"#### {name}.{member}")
            if kind != "property":
                lines.append(signature(member, plain, bound=True, prefix=kind))
            lines += docstring(plain)
    return "\n\n".join(lines)


def _members(cls: type) -> dict[str, tuple[str, Any]]:
    """Documented members that no public base class already documents."""
    documented = [value for value in public().values() if inspect.isclass(value)]
    bases = [base for base in cls.__mro__[1:] if base in documented]
    own = [base for base in cls.__mro__ if not any(issubclass(known, base) for known in bases)]
    found: dict[str, tuple[str, Any]] = {}
    for base in own:
        if base.__module__.startswith("hf_latent_bridge"):
            for name, member in vars(base).items():
                kind, plain = _unwrap(member)
                if not name.startswith("_") and inspect.isfunction(plain) and plain.__doc__:
                    found.setdefault(name, (kind, plain))
    return found


def _unwrap(member: object) -> tuple[str, object]:
    if isinstance(member, property):
        return "property", member.fget
    if isinstance(member, classmethod | staticmethod):
        return type(member).__name__, member.__func__
    if isinstance(member, types.MethodType):
        return "classmethod", member.__func__
    return "", member


def signature(name: str, value: Any, *, bound: bool = False, prefix: str = "") -> str:
    """How a function or class is called, as a block of Python."""
    given = list(inspect.signature(value).parameters.values())
    if bound and prefix != "staticmethod":
        given = given[1:]
    hints = _annotations(value)
    parameters = list(_written(given, hints))
    result = "" if inspect.isclass(value) else f" -> {hints.get('return', 'None')}"
    line = f"{name}({', '.join(parameters)}){result}"
    if len(line) > WIDTH:
        line = f"{name}(\n" + "".join(f"    {each},\n" for each in parameters) + f"){result}"
    decorator = f"@{prefix}\n" if prefix else ""
    return f"```python\n{decorator}{line}\n```"


def _annotations(value: Any) -> dict[str, str]:
    """Annotations as the source has them; of a class, those of `__init__` or of its fields."""
    function = inspect.unwrap(value.__init__ if inspect.isclass(value) else value)
    if inspect.isclass(value) and not _is_in_source(function):
        nodes = [node for base in reversed(value.__mro__) for node in _fields(base)]
        return {ast.unparse(node.target): _unquoted(node.annotation) for node in nodes}
    node = _parsed(function)
    assert isinstance(node, ast.FunctionDef)
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
    given = {argument.arg: argument.annotation for argument in arguments} | {"return": node.returns}
    return {name: _unquoted(annotation) for name, annotation in given.items() if annotation}


def _is_in_source(function: object) -> bool:
    return inspect.isfunction(function) and Path(function.__code__.co_filename).is_file()


def _fields(cls: type) -> list[ast.AnnAssign]:
    if not cls.__module__.startswith("hf_latent_bridge"):
        return []
    node = _parsed(cls)
    assert isinstance(node, ast.ClassDef)
    return [line for line in node.body if isinstance(line, ast.AnnAssign)]


def _parsed(value: Any) -> ast.stmt:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def _unquoted(annotation: ast.expr) -> str:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value
    return ast.unparse(annotation).replace("'", '"')


def _written(given: Iterable[inspect.Parameter], hints: Mapping[str, str]) -> Iterator[str]:
    starred = False
    for parameter in given:
        keyword_only = parameter.kind is parameter.KEYWORD_ONLY
        if keyword_only and not starred:
            yield "*"
        starred |= keyword_only or parameter.kind is parameter.VAR_POSITIONAL
        text = str(parameter.replace(annotation=parameter.empty, default=parameter.empty))
        if parameter.name in hints:
            text += f": {hints[parameter.name]}"
        yield text if parameter.default is parameter.empty else f"{text} = {_value(parameter)}"


def _value(parameter: inspect.Parameter) -> str:
    """A default, as code if it is code: `<factory>` of a dataclass is an ellipsis."""
    text = repr(parameter.default)
    return "..." if text.startswith("<") else text.replace("'", '"')


_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Warns):\n", re.MULTILINE)
_TITLES = {"Args": "Parameters"}


def docstring(value: object) -> list[str]:
    """A Google docstring as paragraphs of Markdown."""
    text = inspect.getdoc(value) or ""
    summary, *rest = _SECTION.split(text)
    paragraphs = [summary.strip()]
    for title, body in zip(rest[::2], rest[1::2], strict=True):
        section, _, after = re.sub(r"\n(?=\S)", "\0", body, count=1).partition("\0")
        paragraphs += [f"**{_TITLES.get(title, title)}**", _items(title, section), after.strip()]
    return [paragraph for paragraph in paragraphs if paragraph]


def _items(title: str, section: str) -> str:
    body = textwrap.dedent(section).strip()
    if title in ("Returns", "Yields"):
        return body
    lines = []
    for item in re.split(r"\n(?=\S)", body):
        name, _, words = item.partition(":")
        lines.append(f"- `{name.strip()}`: {' '.join(words.split())}")
    return "\n".join(lines)


def _errors() -> str:
    rows = [
        (f"`{name}`", ", ".join(f"`{base.__name__}`" for base in value.__bases__), _summary(value))
        for name, value in vars(errors).items()
        if inspect.isclass(value) and value.__module__ == errors.__name__
    ]
    return table(("name", "is a", "when"), rows)


def main() -> int:
    """Writes the pages that are out of date; with --check only names them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 if stale")
    check = parser.parse_args().check
    stale = [p for p, text in pages().items() if not p.is_file() or p.read_text("utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is out of date: run make docs' if check else 'written'}")
        if not check:
            path.write_text(pages()[path], encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
