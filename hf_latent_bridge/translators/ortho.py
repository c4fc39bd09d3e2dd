"""Orthogonal Procrustes: the paper's `ortho`."""

from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Problem, Scaling, Solution, solve_ortho
from hf_latent_bridge.translators.base import Translator
from hf_latent_bridge.translators.estimator import Normalize


class OrthoTranslator(Translator, translator_type="ortho"):
    """The rotation (or reflection) that best aligns the pairs; angles and distances are kept.

    The most robust choice with few pairs. For unequal widths it is the paper's zero-padded
    solution. Source: Schönemann (1966); Maiorca et al. (2023), "ortho".

    Args:
        scale: Also fit one scalar by least squares.
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "center" or "none"; the map stays orthogonal only in scaled coordinates.
        normalize: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    def __init__(
        self,
        *,
        scale: bool = False,
        scaling: Scaling = "standard",
        normalize: Normalize = "none",
    ) -> None:
        super().__init__(scaling=scaling, normalize=normalize)
        self.scale = scale

    def _check_params(self) -> None:
        super()._check_params()
        if not isinstance(self.scale, bool):
            raise ValueError(f"scale must be True or False, got {self.scale!r}")

    def _solve(self, moments: PairedMoments) -> Solution:
        return solve_ortho(Problem.from_moments(moments, self.scaling), scale=self.scale)
