"""A fitted translator as a plain torch module, for pipelines and export."""

import torch
from torch import Tensor

from hf_latent_bridge.solvers import AffineMap


def translate(
    x: Tensor, affine: AffineMap, normalize_input: bool, normalize_output: bool
) -> Tensor:
    """L2-normalises if asked, maps, L2-normalises if asked; keeps the dtype of `x`."""
    z = x.to(affine.weight.dtype)
    if normalize_input:
        z = torch.nn.functional.normalize(z, dim=-1)
    z = affine(z)
    if normalize_output:
        z = torch.nn.functional.normalize(z, dim=-1)
    return z.to(x.dtype)


class TranslatorModule(torch.nn.Module):
    """Translates (..., d_source) to (..., d_target); has buffers, no parameters to train."""

    weight: Tensor
    bias: Tensor

    def __init__(self, affine: AffineMap, normalize_input: bool, normalize_output: bool) -> None:
        super().__init__()
        self.register_buffer("weight", affine.weight.clone())
        self.register_buffer("bias", affine.bias.clone())
        self.normalize_input = normalize_input
        self.normalize_output = normalize_output

    def forward(self, x: Tensor) -> Tensor:
        """Translates latents of any leading shape, in the module's own dtype and device."""
        flat = x.reshape(-1, x.shape[-1])
        affine = AffineMap(self.weight, self.bias)
        mapped = translate(flat, affine, self.normalize_input, self.normalize_output)
        return mapped.reshape(*x.shape[:-1], -1)

    def extra_repr(self) -> str:
        """The two widths, as `torch.nn.Linear` prints them."""
        d_source, d_target = self.weight.shape
        return f"in_features={d_source}, out_features={d_target}"
