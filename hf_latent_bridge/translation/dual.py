"""Dual reads: one list of answers from old and new vectors, while a migration runs."""

from contextlib import ExitStack
from types import TracebackType
from typing import NamedTuple, Self

from hf_latent_bridge.counts import check_count
from hf_latent_bridge.latents import Array
from hf_latent_bridge.vectors.stores.base import Key
from hf_latent_bridge.vectors.stores.registry import TIMEOUT, open_collection


class Hit(NamedTuple):
    """A row that was found.

    Attributes:
        id: Its key.
        migrated: Whether it was found by its new vector, else by its old one.
    """

    id: Key
    migrated: bool


class DualSearch:
    """Searches old and new vectors of a collection that is being migrated.

    The old vectors hold all rows. So their ranking says in which places rows stand that are not
    migrated yet; all other places are filled by the migrated rows, in the order of the new vectors.
    Before the first row is moved that is the old ranking, and after the last one the new ranking.
    No row comes twice. Each search asks each of the two once, and the new ones which of the rows
    found they hold.

    A folder of Qdrant or a file of Milvus can be open in one process at a time, so there the
    migration must run in the same one.

    Args:
        source: URL of the old vectors.
        target: URL of the new ones, as `migrate` was given it; need not be there yet.
        timeout: Seconds for one request to a store.

    Raises:
        StoreError: There are no old vectors.
        StoreUnavailableError: A store cannot be reached.
    """

    def __init__(self, source: str, target: str, *, timeout: float = TIMEOUT) -> None:
        with ExitStack() as both:
            self._old = both.enter_context(open_collection(source, timeout=timeout))
            self._old.layout()
            new = open_collection(target, create=True, timeout=timeout)
            self._new = both.enter_context(new)
            self._both = both.pop_all()
        self._begun = False

    def nearest(self, old_query: Array, new_query: Array, k: int = 10) -> list[Hit]:
        """The best rows for a query, the best first.

        Args:
            old_query: The query for the old vectors, (d_old,): by the old encoder, or by the new
                one and a translator into the old space.
            new_query: The query for the new vectors, (d_new,), folded if they are.
            k: How many rows.

        Raises:
            ValueError: `k` is less than 1.
            StoreError: A query of another width than that of its vectors.
        """
        check_count("k", k)
        ranked = self._old.nearest(old_query, k)
        self._begun = self._begun or self._new.exists()
        if not self._begun:
            return [Hit(key, False) for key in ranked]
        there = self._new.present(ranked)
        waiting = {key for key in ranked if key not in there}
        fresh = [key for key in self._new.nearest(new_query, k) if key not in waiting]
        fresh += [key for key in ranked if key not in waiting and key not in fresh]
        filled = iter(fresh)
        hits = [Hit(key, False) if key in waiting else Hit(next(filled), True) for key in ranked]
        more = [Hit(key, True) for key in filled]
        return [*hits, *more][:k]

    def close(self) -> None:
        """Lets go of the connections."""
        self._both.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
