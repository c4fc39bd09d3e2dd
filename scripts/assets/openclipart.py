"""Pairs Debian's openclipart pictures with the titles and tags that their authors wrote."""

import io
import re
import struct
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import OPENCLIPART_PNG, OPENCLIPART_SVG
from assets.cache import scratch
from assets.download import fetch_debian, unpack_debian
from assets.repo_files import copy_card, png_cell, shuffle_key, write_split

if TYPE_CHECKING:
    from PIL import Image

FOLDER = "usr/share/openclipart"
SIDE = 256
MAX_PIXELS = 6_000_000
MAX_ASPECT = 4
MIN_CONTRAST = 8
MAX_TITLE_USES = 5
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
NO_TAGS = ("", "hash")


@dataclass(frozen=True)
class Clip:
    """A picture before it is decoded; `file` is its path without an ending."""

    file: str
    title: str
    tags: tuple[str, ...]

    @property
    def folder(self) -> str:
        """The folder that the picture is in."""
        return self.file.rpartition("/")[0]

    @property
    def category(self) -> str:
        """The outermost folder."""
        return self.file.partition("/")[0]


def build(repo: Path) -> None:
    """Write the data set repo of openclipart."""
    fetch_debian([OPENCLIPART_SVG, OPENCLIPART_PNG])
    with scratch(repo / "unpacked") as folder:
        unpack_debian(OPENCLIPART_SVG, folder)
        unpack_debian(OPENCLIPART_PNG, folder)
        pictures = folder / FOLDER / "png"
        clips = distinct_texts(read_clips(folder / FOLDER / "svg", pictures))
        with ThreadPoolExecutor(2) as pool:
            images = list(pool.map(lambda clip: load_png(pictures / f"{clip.file}.png"), clips))
    _write(repo, distinct_pictures(zip(clips, images, strict=True)))
    copy_card("openclipart", repo)


def read_clips(svgs: Path, pngs: Path) -> Iterator[Clip]:
    """Yield the public-domain clips that have a title and a picture of a usable size."""
    for svg in sorted(svgs.rglob("*.svg")):
        file = svg.relative_to(svgs).with_suffix("").as_posix()
        if usable_size(png_size(pngs / f"{file}.png")):
            clip = read_clip(svg, file)
            if clip is not None:
                yield clip


def read_clip(svg: Path, file: str) -> Clip | None:
    """Read title and tags from the SVG's RDF; None where it names another licence."""
    work = _work(svg)
    if work is None:
        return None
    licences = [value for item in _children(work, "license") for value in item.attrib.values()]
    if any(value and "publicdomain" not in value.lower() for value in licences):
        return None
    title = " ".join("".join(item.text or "" for item in _children(work, "title")).split())
    subjects = [item for subject in _children(work, "subject") for item in subject.iter()]
    tags = [(item.text or "").strip() for item in subjects if _name(item) == "li"]
    return Clip(file, title, tuple(dict.fromkeys(tag for tag in tags if tag not in NO_TAGS)))


def distinct_texts(clips: Iterable[Clip]) -> list[Clip]:
    """Give clips that share a collection's title their file's name; keep each text once."""
    clips = list(clips)
    uses = Counter(clip.title.lower() for clip in clips)
    kept: dict[tuple[str, frozenset[str]], Clip] = {}
    for clip in clips:
        own = clip.title and uses[clip.title.lower()] < MAX_TITLE_USES
        titled = clip if own else replace(clip, title=title_from_file(clip.file))
        if titled.title:
            kept.setdefault((titled.title.lower(), frozenset(titled.tags)), titled)
    return sorted(kept.values(), key=lambda clip: shuffle_key(clip.file))


def title_from_file(file: str) -> str:
    """Return the words of a file name, without those that hold a digit."""
    words = re.split(r"[^A-Za-z0-9]+", file.rpartition("/")[2])
    return " ".join(word for word in words if word and not re.search(r"\d", word))


def png_size(path: Path) -> tuple[int, int]:
    """Read width and height from the header, or (0, 0) if there is no such PNG."""
    if not path.is_file():
        return 0, 0
    with path.open("rb") as file:
        header = file.read(24)
    if len(header) < 24 or not header.startswith(PNG_SIGNATURE):
        return 0, 0
    width, height = struct.unpack(">II", header[16:24])
    return width, height


def usable_size(size: tuple[int, int]) -> bool:
    """Say whether a picture is there, small enough to decode, and not a mere strip."""
    short, long = sorted(size)
    return 0 < short * long <= MAX_PIXELS and long <= MAX_ASPECT * short


def load_png(path: Path) -> bytes | None:
    """Return the picture on white, at most 256 pixels a side, as PNG; None where it is blank."""
    from PIL import Image, ImageStat

    with Image.open(path) as source:
        picture = on_white(source)
    picture.thumbnail((SIDE, SIDE))
    darkest, lightest = ImageStat.Stat(picture.convert("L")).extrema[0]
    if lightest - darkest < MIN_CONTRAST:
        return None
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def on_white(picture: "Image.Image") -> "Image.Image":
    """Return the picture as RGB, its transparent parts white."""
    from PIL import Image

    layer = picture.convert("RGBA")
    white = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(white, layer).convert("RGB")


def distinct_pictures(pairs: Iterable[tuple[Clip, bytes | None]]) -> list[tuple[Clip, bytes]]:
    """Drop the blank pictures and keep each of the others once."""
    kept: dict[bytes, Clip] = {}
    for clip, image in pairs:
        if image is not None:
            kept.setdefault(image, clip)
    return [(clip, image) for image, clip in kept.items()]


def _write(repo: Path, pairs: Sequence[tuple[Clip, bytes]]) -> None:
    from datasets import Features, Image, List, Value

    columns: dict[str, Sequence[object]] = {
        "image": [png_cell(image) for _, image in pairs],
        "title": [clip.title for clip, _ in pairs],
        "tags": [list(clip.tags) for clip, _ in pairs],
        "category": [clip.category for clip, _ in pairs],
        "folder": [clip.folder for clip, _ in pairs],
    }
    string = Value("string")
    features = Features(
        {"image": Image(), "title": string, "tags": List(string)}
        | {"category": string, "folder": string}
    )
    write_split(repo, "train", columns, features)


def _work(svg: Path) -> ET.Element | None:
    try:
        for _, element in ET.iterparse(svg):
            if _name(element) == "Work":
                return element
    except ET.ParseError:
        return None
    return None


def _children(element: ET.Element, name: str) -> list[ET.Element]:
    return [child for child in element if _name(child) == name]


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]
