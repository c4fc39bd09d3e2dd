"""Ordinary least squares: the paper's `linear`."""

from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Problem, Solution, solve_least_squares
from hf_latent_bridge.translators.base import Translator


class LinearTranslator(Translator, translator_type="linear"):
    """The least-squares map, with no penalty and no intercept beyond the scaling's shift.

    Source: Maiorca et al. (2023), "linear". Needs clearly more pairs than dimensions; with
    fewer, `AffineTranslator(alpha=0.1)` is the safer choice.

    Args:
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "center", or "none" for a map through the origin.
        normalize: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    def _solve(self, moments: PairedMoments) -> Solution:
        return solve_least_squares(Problem.from_moments(moments, self.scaling))
