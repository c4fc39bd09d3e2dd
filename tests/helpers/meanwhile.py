"""Does what another process might do at the worst moment: just before a file is opened."""

import contextlib
import sys


@contextlib.contextmanager
def meanwhile(act, before_opening, mode=None):
    """Calls `act` once, before the first file whose path ends so is opened (in that mode)."""
    armed = [True]

    def watch(event, args):
        if event != "open" or not armed or not str(args[0]).endswith(before_opening):
            return
        if mode in (None, args[1]):
            armed.clear()
            act()

    sys.addaudithook(watch)  # which cannot be taken away again
    yield
    assert not armed, f"nothing that ends in {before_opening} was opened"
