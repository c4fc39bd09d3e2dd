"""The picture grid: each picture stands in its row and column, ink on white."""

import numpy as np
import torch
from experiments.picture_grid import GAP, LABEL_WIDTH, SIDE, draw_grid


def test_each_picture_stands_in_its_place_with_white_around_it():
    rows = {"black": torch.ones(2, 1, 8, 8), "grey": torch.full((1, 1, 8, 8), 0.2)}
    pixels = np.asarray(draw_grid(rows))
    step = SIDE + GAP
    assert pixels.shape == (GAP + 2 * step, LABEL_WIDTH + 2 * step)
    first, second = (pixels[GAP + row * step :][:SIDE, LABEL_WIDTH:] for row in (0, 1))
    assert (first[:, :SIDE] == 0).all()
    assert (first[:, SIDE:step] == 255).all()
    assert (first[:, step:][:, :SIDE] == 0).all()
    assert (second[:, :SIDE] == 204).all()
    assert (second[:, SIDE:] == 255).all()
    assert pixels[:, :LABEL_WIDTH].min() == 0  # the labels
