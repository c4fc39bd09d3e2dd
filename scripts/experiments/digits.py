"""What `--quick` works on: scikit-learn's digits as two small autoencoders see them."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from experiments.latents import Views

TRAIN = 1200
NARROW, WIDE = "narrow", "wide"


def digit_views() -> tuple[Views, Views]:
    """1,200 digits to train and 597 to test, by autoencoders of other seeds and widths."""
    from hf_latent_bridge import fit_autoencoder

    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / 16)[:, None]
    labels = digits.target.tolist()
    encoders = {
        NARROW: fit_autoencoder(images[:TRAIN], latent_dim=24, epochs=8, seed=0).encoder,
        WIDE: fit_autoencoder(images[:TRAIN], latent_dim=32, epochs=8, seed=1).encoder,
    }
    train, test = (
        Views({name: encoder.encode(images[rows]) for name, encoder in encoders.items()}, some)
        for rows, some in (
            (slice(TRAIN), labels[:TRAIN]),
            (slice(TRAIN, None), labels[TRAIN:]),
        )
    )
    return train, test
