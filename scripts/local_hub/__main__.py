"""Serves until Ctrl-C, and prints the variables that point a client here."""

import argparse
import signal
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as `python scripts/local_hub`
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from local_hub.server import ORGS, LocalHub


def main() -> None:
    """Serves a local Hub."""
    parser = argparse.ArgumentParser(prog="local_hub", description="A local Hugging Face Hub.")
    parser.add_argument("--port", type=int, default=8765, help="0 takes any free port")
    parser.add_argument("--root", type=Path, help="keep everything here (default: nothing is kept)")
    parser.add_argument("--org", action="append", default=[], help="alice may write here too")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        hub = LocalHub(options.root, options.port, (*ORGS, *options.org)).start()
    except (OSError, RuntimeError) as error:
        sys.exit(f"The local Hub cannot start: {error}")
    print(f"A local Hub serves on {hub.url}. To use it:\n")
    for name, value in hub.environment(hub.store.root.resolve() / "client-home").items():
        print(f"export {name}={value}")
    print("\nCtrl-C stops it.", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        hub.stop()
        print("Stopped.")


if __name__ == "__main__":
    main()
