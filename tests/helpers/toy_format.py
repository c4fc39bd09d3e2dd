"""A format of vectors that the library does not have: numbers in words, one row a line."""

from collections.abc import Iterator

import numpy as np

from hf_latent_bridge.vectors.formats import VectorFormat
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource, whole
from hf_latent_bridge.vectors.writers import Writer

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


class ToyReader(VectorReader):
    dtype = np.dtype(np.float32)

    def __init__(self, source: VectorSource) -> None:
        super().__init__(source)
        with whole(source.path, "toy file"):
            words = [line.split() for line in self.path.read_text().splitlines()]
            self._rows = np.array([[DIGITS.index(w) for w in line] for line in words], np.float32)
        self.n, self.dim = self._rows.shape

    def parts(self, start, stop, size, *, payload=False) -> Iterator[Part]:
        for first in range(start, stop, size):
            yield Part(self._rows[first : min(first + size, stop)])


def write_toy(stream, result) -> None:
    for block in result.blocks(8):
        for row in block.vectors:
            stream.write((" ".join(DIGITS[round(abs(x)) % 10] for x in row) + "\n").encode())


TOY = VectorFormat(
    "toy", (".toy",), "digits in words", ToyReader, {".toy": Writer(write=write_toy)}, plain=True
)
