"""Lets launchers start the command line as a module: `torchrun ... -m hf_latent_bridge fit ...`."""

import sys

from hf_latent_bridge.cli import main

if __name__ == "__main__":
    sys.exit(main())
