"""A fit that stops at its 40th chunk until it is killed, or runs to its end: argv says which."""

import json
import sys
import time
from pathlib import Path

import numpy as np

from hf_latent_bridge import AffineTranslator, fit_translator
from hf_latent_bridge.fitting.processes import Processes

ROWS = 1001


def fit(folder, *, hang=False):
    """Fits on vectors that pass through an encoder, which hangs at row 640."""
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(ROWS, 5)), draw.normal(size=(ROWS, 7))

    def encode(rows):
        if hang and 640 in rows:
            (folder / "hanging").touch()
            time.sleep(600)
        return x[rows]

    pairs = (range(ROWS), y)
    checkpoint = {"checkpoint_dir": folder / "checkpoint", "checkpoint_every": 64}
    translator = AffineTranslator(alpha="auto")  # whose moments are in folds
    return fit_translator(translator, encode, None, pairs, chunk_size=16, **checkpoint)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    fitted = fit(folder, hang=sys.argv[2] == "hang")
    moments = {k: v.tolist() for k, v in fitted.moments_.to_tensors().items()}
    result = {"moments": moments, "resumed": fitted.fit_summary_.n_resumed}
    result["selection"] = fitted.selection_.to_dict()
    rank = Processes.current().share.rank
    if rank == 0:
        assert any((folder / "checkpoint").iterdir())
        fitted.save_pretrained(folder / "map")
    (folder / f"result-{rank}.json").write_text(json.dumps(result))
