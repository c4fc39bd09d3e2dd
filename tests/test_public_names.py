"""The public names: one list, all documented, none hidden by a module, returned types included."""

import builtins
import importlib
import inspect
import re
import tomllib
import types
import typing
from pathlib import Path

import pytest

import hf_latent_bridge
from hf_latent_bridge import errors

PACKAGE = Path(hf_latent_bridge.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if not path.name.startswith("__")
)
NAMES = [name for name in hf_latent_bridge.__all__ if name != "__version__"]


def test_the_stub_is_the_list_that_python_and_type_checkers_read():
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    listed = re.findall(r"(\w+) as (\w+)", stub)
    assert all(name == alias for name, alias in listed)
    assert [name for name, _ in listed] == hf_latent_bridge.__all__
    assert sorted(hf_latent_bridge.__all__) == dir(hf_latent_bridge)
    assert len(set(hf_latent_bridge.__all__)) == len(listed) > 40


def test_the_stub_is_part_of_what_is_installed():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert "__init__.pyi" in project["tool"]["setuptools"]["package-data"]["hf_latent_bridge"]


def test_a_star_import_gives_every_public_name():
    names: dict[str, object] = {}
    exec("from hf_latent_bridge import *", names)
    assert names.keys() - {"__builtins__"} == set(hf_latent_bridge.__all__)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_is_documented_and_stands_in_the_file_that_defines_it(name):
    value = getattr(hf_latent_bridge, name)
    assert inspect.getdoc(value)
    assert value.__module__ == hf_latent_bridge._HOMES[name]


def test_no_public_name_is_a_module_whatever_was_imported_before():
    for module in MODULES:
        importlib.import_module(module)
    modules = [n for n in NAMES if isinstance(getattr(hf_latent_bridge, n), types.ModuleType)]
    assert modules == []
    assert not {part for module in MODULES for part in module.split(".")} & set(NAMES)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = hf_latent_bridge.Nope


class Names(dict[str, typing.Any]):
    """What annotations may name; None for types imported for type checkers only."""

    def __missing__(self, name: str) -> type:
        return types.NoneType


def functions_of(name: str) -> dict[str, typing.Any]:
    """A public function, or the public methods and properties of a public class."""
    value = getattr(hf_latent_bridge, name)
    if not inspect.isclass(value):
        return {name: value}
    members = {k: v for k, v in inspect.getmembers_static(value) if not k.startswith("_")}
    found = {}
    for key, member in members.items():
        plain = member.fget if isinstance(member, property) else member
        plain = getattr(plain, "__func__", plain)
        if inspect.isfunction(plain) and plain.__module__.startswith("hf_latent_bridge"):
            found[f"{name}.{key}"] = plain
    return found


def classes_in(hint: typing.Any) -> set[type]:
    """The classes of this package that an annotation names."""
    inner = [classes_in(part) for part in typing.get_args(hint)]
    found = set().union(*inner)
    if inspect.isclass(hint) and hint.__module__.startswith("hf_latent_bridge."):
        found.add(hint)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_types_that_public_functions_return_are_public(name):
    known = [getattr(hf_latent_bridge, public) for public in NAMES] + list(vars(errors).values())
    for where, function in functions_of(name).items():
        names = Names(vars(builtins) | function.__globals__)
        hint = typing.get_type_hints(function, localns=names).get("return", types.NoneType)
        hidden = [returned for returned in classes_in(hint) if returned not in known]
        assert not hidden, f"{where} returns types that are not public"
