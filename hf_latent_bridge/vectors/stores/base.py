"""What every vector store can do, and how its rows are read as vectors of any other source are."""

import abc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from hf_latent_bridge.data.items import Array, Items
from hf_latent_bridge.errors import InvalidLatentsError, StoreError
from hf_latent_bridge.hubness import Metric
from hf_latent_bridge.vectors.lines import Objects, Spot
from hf_latent_bridge.vectors.numbers import FLOAT32
from hf_latent_bridge.vectors.reader import Part, VectorReader, VectorSource
from hf_latent_bridge.vectors.stores.url import StoreUrl

Key = int | str


class Records(NamedTuple):
    """Some rows of a collection.

    Attributes:
        ids: Their keys.
        vectors: Matrix (n, d), or a list that has None where a row has no vector; None if not read.
        payloads: What else each row holds, untouched; None if not read.
    """

    ids: list[Key]
    vectors: Items | None = None
    payloads: Sequence[dict[str, Any]] | None = None


class Place(NamedTuple):
    """How far a scan has come.

    Attributes:
        rows: How many rows it has given.
        key: The last of them.
    """

    rows: int
    key: Key


@dataclass(frozen=True)
class Layout:
    """How a collection keeps its vectors.

    Attributes:
        dim: Their width.
        metric: By which it is searched.
        dtype: NumPy's name of what it stores.
    """

    dim: int
    metric: Metric
    dtype: str = "float32"


class Collection(abc.ABC):
    """One set of vectors in a store: a collection, a named vector in one, or a column of a table.

    Rows are keyed by an id of the store's own. Writing a row that is there replaces it, so
    everything can be done again after a kill.

    Attributes:
        params: What its URLs may have behind the `?` besides `vector`.
        embedded: Whether a URL without a host names a file or folder.
        users: Whether its URLs may name a user.
        several_vectors: Whether rows can have several vectors, so that URLs name one.
        threads: Whether its client can be asked by several threads at a time.
        mixed_keys: Whether a collection made for rows of another store takes numbers beside texts.
        keys: What its rows can have as ids, in words.
        values: What payloads hold in a collection made for rows of another store, in words.
        nulls: Whether None is among that.
        url: Where it is.
    """

    params: ClassVar[tuple[str, ...]] = ()
    embedded: ClassVar[bool] = True
    users: ClassVar[bool] = False
    several_vectors: ClassVar[bool] = True
    threads: ClassVar[bool] = False
    mixed_keys: ClassVar[bool] = False
    keys: ClassVar[str] = "whole numbers or texts (numbers of at most 64 bits with sign)"
    values: ClassVar[str] = "texts, numbers, true, false, null, and lists and objects of these"
    nulls: ClassVar[bool] = True

    def __init__(self, url: StoreUrl, *, timeout: float) -> None:
        """Connects to the store, unless this process has a connection to it already.

        Raises:
            StoreError: It is not there, or wants other credentials.
            StoreUnavailableError: It does not answer.
        """
        self.url = url
        self._connection = _open_at(url.place, lambda: self._connect(timeout), self._disconnect)

    @abc.abstractmethod
    def _connect(self, timeout: float) -> Any:
        """A client of the store."""

    @staticmethod
    @abc.abstractmethod
    def _disconnect(client: Any) -> None:
        """Closes a client."""

    @property
    def client(self) -> Any:
        """The store's own client."""
        return self._connection.client

    def close(self) -> None:
        """Lets go of the connection, which ends with the last collection that has it."""
        del self._connection

    @property
    def quick_keys(self) -> bool:
        """Whether rows are found by their keys faster than they are read in order."""
        return False

    @abc.abstractmethod
    def exists(self) -> bool:
        """Whether the collection is there, and has this vector."""

    @abc.abstractmethod
    def layout(self) -> Layout:
        """Width, metric and dtype.

        Raises:
            StoreError: There is no such collection or vector, or it is of a kind that is not read.
        """

    @abc.abstractmethod
    def count(self) -> int:
        """How many rows have this vector."""

    @abc.abstractmethod
    def scan(
        self, size: int, *, vectors: bool = True, payloads: bool = True, after: Place | None = None
    ) -> Iterator[Records]:
        """All rows, at most `size` at a time, in an order that only writing changes.

        Args:
            size: Rows at a time.
            vectors: Read their vectors.
            payloads: Read their payloads.
            after: Where to begin: how far another scan has come; None for the first row.
        """

    def all_keys(self, after: Place | None = None) -> list[Key] | None:
        """All keys in the order of a scan, from a store that looks at all rows for each request.

        None from other stores, which give them a page at a time.
        """
        return None

    def place_after(self, rows: int | None = None) -> Place | None:
        """How far a scan is after so many rows, or at its end, from a store that need not scan.

        None from other stores, and where there are fewer rows or none.
        """
        return None

    @abc.abstractmethod
    def fetch(self, ids: Sequence[Key], *, payloads: bool = False) -> Records:
        """Those of some rows that are there and have this vector."""

    @abc.abstractmethod
    def present(self, ids: Sequence[Key]) -> set[Key]:
        """Which of some rows are there and have this vector."""

    @abc.abstractmethod
    def nearest(self, query: Array, k: int) -> list[Key]:
        """The ids of the k rows that the store finds for a query, (dim,), the best first."""

    @abc.abstractmethod
    def create(self, layout: Layout, like: "Collection", fields: Sequence[str] = ()) -> None:
        """Makes it: a collection of its own, or one more vector where the collection is there.

        Args:
            layout: Of the vectors.
            like: The collection whose rows it will hold, with translated vectors.
            fields: Further fields of the payload, of texts, for a collection of its own. Where the
                payload is one column of JSON, or has no schema, they need no room of their own.
        """

    @abc.abstractmethod
    def write(self, records: Records) -> None:
        """Adds or replaces rows; of rows without payloads the vectors alone."""

    def insert(self, records: Records) -> None:
        """Adds rows that are not there, which some stores do faster than replacing them."""
        self.write(records)

    def index_keys(self) -> None:
        """Makes rows quick to find by key; for a collection that is about to be asked for all."""
        return

    def unindexed(self) -> int:
        """How many rows wait for `index_vectors`; none in a store that indexes them at once."""
        return 0

    def index_vectors(self, metric: Metric) -> None:
        """Makes the nearest rows quick to find; for a new collection that holds all its rows."""
        return

    def complete(self, like: "Collection") -> None:
        """Takes over what else `like` knows; for a new collection that holds all its rows."""
        return

    @abc.abstractmethod
    def delete(self, ids: Sequence[Key]) -> None:
        """Removes rows."""

    @abc.abstractmethod
    def drop(self, *, whole: bool) -> None:
        """Removes the collection if `whole`, else this vector of its rows alone."""

    def check_keys(self) -> None:
        """Refuses rows that cannot be told apart, where the store lets such rows in.

        Raises:
            StoreError: Rows without a key, or several with the same.
        """
        return

    def doubles(self) -> list[Key]:
        """Keys that stand in several rows, where the store lets such rows in."""
        return []

    @classmethod
    def check_takes(cls, ids: Sequence[Key], *, target: StoreUrl) -> None:
        """Refuses rows whose ids its store cannot hold.

        Raises:
            StoreError: Names the first ones.
        """
        if strange := [key for key in ids if not cls._takes(key)]:
            raise StoreError(
                f"{target.scheme} takes {cls.keys} as ids, and these rows have others: "
                f"{strange[:3]}; give them such ids first, or name another store than {target}"
            )
        some = {isinstance(key, str): key for key in ids}
        if len(some) > 1 and not cls.mixed_keys:
            raise StoreError(
                f"{target.scheme} keeps either numbers or texts as ids, and these rows have both, "
                f"{some[False]!r} and {some[True]!r}: give them ids of one kind first, or name "
                f"another store than {target}"
            )

    @staticmethod
    def _takes(key: Key) -> bool:
        return isinstance(key, str) or -(2**63) <= key < 2**63

    @classmethod
    def check_holds(cls, records: Records, *, target: StoreUrl) -> None:
        """Refuses rows of another store whose payloads a collection made for them cannot hold.

        Raises:
            StoreError: Names the first one and its field.
        """
        for key, payload in zip(records.ids, records.payloads or [], strict=False):
            for name, value in payload.items():
                if not cls._takes_name(name, target):
                    raise StoreError(
                        f"{target}: row {key!r} cannot be kept, for {target.scheme} takes no field "
                        f"of the name {name!r}: rename it first, or name another store"
                    )
                if not cls._holds(name, value):
                    held = next((one for one in leaves(value) if not cls._keeps(one)), value)
                    raise StoreError(
                        f"{target}: row {key!r} cannot be kept, for its field {name!r} holds "
                        f"{held!r:.60}: give it another value first, or name another store than "
                        f"{target.scheme}, which keeps {cls.values}"
                    )

    @classmethod
    def _takes_name(cls, name: str, target: StoreUrl) -> bool:
        """Whether a field can be called so."""
        return True

    @classmethod
    def _holds(cls, name: str, value: Any) -> bool:
        """Whether a field can have a value."""
        return all(map(cls._keeps, leaves(value)))

    @staticmethod
    def _keeps(value: Any) -> bool:
        """Whether a value that holds no others comes back as it was written."""
        return value is None or isinstance(value, str | int | float)

    def first_null(self) -> tuple[Key, str] | None:
        """A row with a column that is null, and that column, from a store that looks for one.

        None from other stores, and where there is none.
        """
        return None

    def text_beside_numbers(self) -> str | None:
        """A key that is a text, from a store whose other keys may be numbers; found in one look."""
        return None

    def has_texts_as_keys(self) -> bool:
        """Whether the first row has a text as its key; False where there is none."""
        first = next(self.scan(1, vectors=False, payloads=False), None) if self.exists() else None
        return first is not None and isinstance(first.ids[0], str)

    def _delete_outdated(self, records: Records) -> None:
        """Deletes rows with fields that their new payloads lack, which some stores would keep."""
        held = self.fetch(records.ids, payloads=True)
        new = dict(zip(records.ids, records.payloads or [], strict=True))
        rows = zip(held.ids, held.payloads or [], strict=True)
        if outdated := [key for key, payload in rows if payload.keys() - new[key].keys()]:
            self.delete(outdated)

    def _check_folder(self) -> None:
        """Refuses a file in a folder that is not there, which clients call anything."""
        if not Path(self.url.path).parent.is_dir():
            raise StoreError(f"{self.url}: there is no folder {Path(self.url.path).parent}")

    def _taken_alias(self, name: str, what: str) -> StoreError:
        return StoreError(f"{self.url}: {name!r} is a {what}, not an alias: choose another alias")

    def _refuse_keys(self, column: str, keys: Sequence[Any]) -> None:
        other = ", or name another column as ?id=" if "id" in self.params else ""
        if keys:
            raise StoreError(
                f"{self.url}: the column {column!r} must name each row, and these keys are missing "
                f"or stand in several rows: {list(keys)[:3]}; give each row a key of its own{other}"
            )

    @abc.abstractmethod
    def check_copy(self, target: "Collection | None") -> None:
        """Refuses a copy into a collection of its own that would leave something behind.

        Args:
            target: The collection; None where its store is not there yet.

        Raises:
            StoreError: The rows hold other vectors too, or what is generated from these.
        """

    def not_copied(self) -> list[str]:
        """What a copy in the same kind of store does not have, such as foreign keys."""
        return []

    def alias(self, name: str) -> str | None:
        """The collection that an alias names; None if there is no such alias."""
        raise self._no_alias()

    def point(self, name: str, collection: str | None) -> None:
        """Lets an alias name a collection, in one step; None takes the alias away."""
        raise self._no_alias()

    def _no_alias(self) -> ValueError:
        return ValueError(
            f"{self.url.scheme} has no aliases: leave --alias out, and name the new collection "
            "where yours is searched"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def leaves(value: Any) -> Iterator[Any]:
    """What a value of JSON holds in all its lists and objects; what is none is a leaf too."""
    if isinstance(value, list):
        for element in value:
            yield from leaves(element)
    elif isinstance(value, dict) and all(isinstance(name, str) for name in value):
        yield from value
        for element in value.values():
            yield from leaves(element)
    else:
        yield value


def is_text(value: Any) -> bool:
    """Whether this is a text that UTF-8 can spell, which half of a pair of surrogates is not."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def unwritten(url: StoreUrl, error: Exception) -> StoreError:
    """The error for files of a store that cannot be read or written."""
    told = " ".join(str(error).split())[:200]
    return StoreError(
        f"{url} cannot be read or written ({told}); make room there or give access, and start "
        "again: what was begun goes on"
    )


class _Connection:
    """A client that all collections of one store share; it is closed when the last lets go."""

    def __init__(self, client: Any, close: Callable[[Any], None]) -> None:
        self.client = client
        weakref.finalize(self, close, client)


_OPEN: "weakref.WeakValueDictionary[tuple[str, ...], _Connection]" = weakref.WeakValueDictionary()


def _open_at(
    place: tuple[str, ...], connect: Callable[[], Any], close: Callable[[Any], None]
) -> _Connection:
    """The connection to a store; embedded ones can be opened once only in a process."""
    connection = _OPEN.get(place)
    if connection is None:
        connection = _OPEN[place] = _Connection(connect(), close)
    return connection


class StoreReader(VectorReader):
    """The rows of a collection as float vectors, with their ids and payloads."""

    hop = None
    path = None
    dtype = FLOAT32

    def __init__(self, source: VectorSource, collection: Collection) -> None:
        """Looks at the collection.

        Raises:
            StoreError: There is no such collection.
        """
        super().__init__(source)
        layout = collection.layout()
        self._collection = collection
        self.column = collection.url.vector or None
        self.n, self.dim = collection.count(), layout.dim

    def identity(self) -> dict[str, Any]:
        """The URL and the number of rows."""
        return {"store": str(self._collection.url), "rows": self.n}

    def stamps(self) -> None:
        """A store does not say when its rows were changed."""

    def parts(
        self, start: int, stop: int | None, size: int, *, payload: bool = False
    ) -> Iterator[Part]:
        """Rows in the order of their keys."""
        stop = self.n if stop is None else stop
        first = 0
        for records in self._collection.scan(size, payloads=payload):
            if records.vectors is None:
                raise InvalidLatentsError(f"{self._collection.url} gave no vectors")
            last = first + len(records.ids)
            rows = slice(max(start - first, 0), max((stop or 0) - first, 0))
            if last > start and rows.stop > rows.start:
                yield Part(records.vectors[rows], self._payload(records, rows) if payload else None)
            first = last
            if stop is not None and first >= stop:
                return

    def _payload(self, records: Records, rows: slice) -> Objects:
        name = self.column or "vector"
        beside = records.payloads or [{} for _ in records.ids]
        values = [
            {"id": key, **_renamed(held, {"id", name}), name: None}
            for key, held in zip(records.ids[rows], beside[rows], strict=True)
        ]
        return Objects(values, Spot(name, (name,)))


def _renamed(payload: dict[str, Any], taken: set[str]) -> dict[str, Any]:
    """A payload, with other names for fields that are called as the key or the vector is."""
    if not taken & payload.keys():
        return payload
    renamed = {}
    for field, value in payload.items():
        name = field
        while name in taken or (name != field and name in payload):
            name = f"payload_{name}"
        renamed[name] = value
    return renamed
