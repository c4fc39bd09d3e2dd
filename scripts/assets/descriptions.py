"""Pairs Debian's package descriptions with their German translations, a package of each source."""

import bz2
import lzma
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assets.archives import DEBIAN_ENGLISH, DEBIAN_GERMAN, DEBIAN_PACKAGES
from assets.cache import AssetError
from assets.download import fetch_index
from assets.repo_files import copy_card, shuffle_key, write_split

DESCRIPTIONS = 6157
TEST = 1200
MIN_SECTION = 50

Stanza = dict[str, str]


@dataclass(frozen=True)
class Description:
    """The same description in both languages."""

    package: str
    source: str
    section: str
    en: str
    de: str


def build(repo: Path) -> None:
    """Write the data set repo of the package descriptions."""
    stanzas = []
    for index in (DEBIAN_PACKAGES, DEBIAN_ENGLISH, DEBIAN_GERMAN):
        fetch_index(index)
        with open_index(index.path) as lines:
            stanzas.append(list(read_stanzas(lines)))
    rows = drop_small_sections(one_of_each_source(pair(*stanzas)), MIN_SECTION)
    if len(rows) != DESCRIPTIONS:
        raise AssetError(f"descriptions: needed {DESCRIPTIONS}, found {len(rows)}")
    rows.sort(key=lambda row: shuffle_key(row.package))
    names = sorted({row.section for row in rows})
    for split, part in (("test", rows[:TEST]), ("train", rows[TEST:])):
        _write(repo, split, part, names)
    copy_card("debian-descriptions", repo)


def open_index(path: Path) -> IO[str]:
    """Open a compressed file of Debian's index to read its lines."""
    if path.suffix == ".bz2":
        return bz2.open(path, "rt", encoding="utf-8")
    return lzma.open(path, "rt", encoding="utf-8")


def read_stanzas(lines: Iterable[str]) -> Iterator[Stanza]:
    """Yield the fields of each stanza; a line that begins with a space continues its field."""
    fields: Stanza = {}
    name = ""
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\n")
        if not text:
            if fields:
                yield fields
            fields, name = {}, ""
        elif text[0] in " \t" and name:
            fields[name] += "\n" + text[1:]
        else:
            name, colon, value = text.partition(":")
            if not colon or text[0] in " \t":
                raise AssetError(f"line {number}: needed `Field: value`, found {text[:60]!r}")
            fields[name] = value.strip()
    if fields:
        yield fields


def pair(
    packages: Iterable[Stanza], english: Iterable[Stanza], german: Iterable[Stanza]
) -> Iterator[Description]:
    """Yield the packages whose description is translated; the MD5 is of the English original."""
    texts = {stanza["Description-md5"]: stanza["Description-en"] for stanza in english}
    translations = {stanza["Description-md5"]: stanza["Description-de"] for stanza in german}
    for stanza in packages:
        key = stanza.get("Description-md5", "")
        if key not in texts or key not in translations:
            continue
        en, de = plain_text(texts[key]), plain_text(translations[key])
        if letters(en) != letters(de):
            name = stanza["Package"]
            source = stanza.get("Source", name).partition(" ")[0]
            yield Description(name, source, stanza["Section"], en, de)


def plain_text(field: str) -> str:
    """Return a description as text: its summary, then its lines; " ." stands for an empty one."""
    lines = (line.strip() for line in field.split("\n"))
    return "\n".join("" if line == "." else line for line in lines).strip()


def one_of_each_source(descriptions: Iterable[Description]) -> list[Description]:
    """Keep a package of each source, the one of its name if there is one, and each text once.

    Packages that are built from one source share most of their text.
    """
    by_source: dict[str, Description] = {}
    for row in sorted(descriptions, key=lambda row: (row.package != row.source, row.package)):
        by_source.setdefault(row.source, row)
    kept = sorted(by_source.values(), key=lambda row: row.package)
    for language in ("en", "de"):
        by_text: dict[str, Description] = {}
        for row in kept:
            by_text.setdefault(letters(getattr(row, language)), row)
        kept = list(by_text.values())
    return kept


def letters(text: str) -> str:
    """Return the words of a text in lower case, to tell texts apart by more than their numbers."""
    return " ".join(re.findall(r"[^\W\d_]+", text.lower()))


def drop_small_sections(rows: Sequence[Description], least: int) -> list[Description]:
    """Keep the sections that have at least so many packages."""
    sizes = Counter(row.section for row in rows)
    return [row for row in rows if sizes[row.section] >= least]


def _write(repo: Path, split: str, rows: Sequence[Description], sections: Sequence[str]) -> None:
    from datasets import ClassLabel, Features, Value

    columns: dict[str, Sequence[object]] = {
        "package": [row.package for row in rows],
        "en": [row.en for row in rows],
        "de": [row.de for row in rows],
        "section": [sections.index(row.section) for row in rows],
    }
    string = Value("string")
    features = Features(
        {"package": string, "en": string, "de": string}
        | {"section": ClassLabel(names=list(sections))}
    )
    write_split(repo, split, columns, features)
