"""The orthogonal matrix nearest to the linear map: the paper's `l-ortho`."""

from hf_latent_bridge.moments import PairedMoments
from hf_latent_bridge.solvers import Problem, Solution, solve_l_ortho
from hf_latent_bridge.translators.base import Translator


class LOrthoTranslator(Translator, translator_type="l_ortho"):
    """Solves `linear`, then sets all its singular values to one.

    Source: Maiorca et al. (2023), "l-ortho". Weak directions of the source count as much as
    strong ones, so it needs clearly more pairs than dimensions.

    Args:
        scaling: "standard" (zero mean and unit deviation on each side, the paper's default),
            "center" or "none".
        normalize: Sides whose latents are scaled to unit L2 norm: "none", "source", "target" or
            "both".
    """

    def _solve(self, moments: PairedMoments) -> Solution:
        return solve_l_ortho(Problem.from_moments(moments, self.scaling))
