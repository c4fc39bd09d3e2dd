"""Many distinct passages of real texts: rows to fill a vector store with.

Sentences of film reviews and titles of clip art as they are, then BBC News and 20 newsgroups in
runs of `WORDS` words. Passages that occur twice are taken once. The order is the same at every run,
so that fewer passages are the first of more.
"""

from collections.abc import Iterator
from itertools import islice

WORDS, LEAST = 24, 6  # of a run; shorter ends of a text are left out
CORPORA = {
    "local/rotten-tomatoes": "text",
    "local/openclipart": "title",
    "local/bbc-news": "text",
    "local/20newsgroups": "text",
}
ASSETS = ("rotten-tomatoes", "openclipart", "bbc-news", "20newsgroups")


def read_passages(size: int) -> list[str]:
    """The first passages; the embedded Hub must run and hold `ASSETS`.

    Raises:
        ValueError: There are fewer.
    """
    found = list(islice(dict.fromkeys(_passages()), size))
    if len(found) < size:
        raise ValueError(f"needed {size:,} distinct passages, there are {len(found):,}")
    return found


def runs(text: str) -> Iterator[str]:
    """A text in runs of `WORDS` words; a text that is shorter, whole."""
    words = text.split()
    for first in range(0, len(words), WORDS):
        run = words[first : first + WORDS]
        if first == 0 or len(run) >= LEAST:
            yield " ".join(run)


def _passages() -> Iterator[str]:
    from datasets import get_dataset_split_names, load_dataset

    for repo, column in CORPORA.items():
        for split in get_dataset_split_names(repo):
            for text in load_dataset(repo, split=split)[column]:
                yield from runs(text)
