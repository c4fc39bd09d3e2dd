"""The registry knows every type by its name, and AutoTranslator loads whatever a repo holds."""

import numpy as np
import pytest
import write_docs
from experiments.methods import suggested

from hf_latent_bridge import AutoTranslator, LinearTranslator, OrthoTranslator, Translator
from hf_latent_bridge.errors import ConfigError, UnknownTranslatorError
from hf_latent_bridge.solvers import Solution
from hf_latent_bridge.translators.base import TRANSLATORS, methods, translator_class


@pytest.fixture
def registry():
    """The registry, left as it was found."""
    before = dict(TRANSLATORS)
    yield TRANSLATORS
    TRANSLATORS.clear()
    TRANSLATORS.update(before)


@pytest.fixture
def mean_translator(registry):
    """A type of the user's own: everything is carried to the mean of the targets."""

    class MeanTranslator(Translator, translator_type="mean"):
        """A type of the user's own."""

        def _solve(self, moments):
            weight = moments.sxy.new_zeros(moments.sxy.shape)
            return Solution(weight, moments.mean_y, rank=1, full_rank=1)

    return MeanTranslator


def pairs():
    x = np.random.default_rng(0).standard_normal((20, 4))
    return x, x[:, :3] + 1


def test_every_type_is_known_by_its_name():
    assert {"affine", "linear", "l_ortho", "ortho"} <= TRANSLATORS.keys()
    for name, kind in TRANSLATORS.items():
        assert translator_class(name) is kind
        assert kind.translator_type == name


@pytest.mark.parametrize("kind", methods().values(), ids=methods())
def test_each_type_is_loaded_as_itself(kind, tmp_path):
    kind().fit(*pairs()).save_pretrained(tmp_path)
    assert type(AutoTranslator.from_pretrained(tmp_path)) is kind
    assert type(Translator.from_pretrained(tmp_path)) is kind


def test_a_type_of_ones_own_is_saved_and_loaded(mean_translator, tmp_path):
    x, y = pairs()
    mean_translator().fit(x, y).save_pretrained(tmp_path)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    assert type(loaded) is mean_translator
    np.testing.assert_allclose(loaded.transform(x[0]), y.mean(0))


def test_a_type_whose_package_is_not_imported_is_asked_for(mean_translator, registry, tmp_path):
    mean_translator().fit(*pairs()).save_pretrained(tmp_path)
    del registry["mean"]
    with pytest.raises(UnknownTranslatorError, match="import the package that defines it"):
        AutoTranslator.from_pretrained(tmp_path)


def test_a_taken_name_is_refused(registry):
    with pytest.raises(ValueError, match="'ortho' is taken by OrthoTranslator"):

        class Mine(Translator, translator_type="ortho"):
            pass

    assert registry["ortho"] is OrthoTranslator


def test_a_notebook_cell_may_be_run_again(registry):
    def cell():
        class Mine(OrthoTranslator, translator_type="mine"):
            pass

        return Mine

    cell()
    again = cell()
    assert registry["mine"] is again


def test_a_base_class_loads_what_is_built_on_it(registry, tmp_path):
    class Mine(OrthoTranslator, translator_type="mine"):
        pass

    Mine().fit(*pairs()).save_pretrained(tmp_path)
    assert type(OrthoTranslator.from_pretrained(tmp_path)) is Mine
    with pytest.raises(ConfigError, match="not a LinearTranslator"):
        LinearTranslator.from_pretrained(tmp_path)


def test_a_class_without_a_type_of_its_own_is_not_saved(tmp_path):
    class Mine(OrthoTranslator):
        pass

    with pytest.raises(UnknownTranslatorError, match=r"class Mine\(\.\.\., translator_type="):
        Mine().fit(*pairs()).save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_the_auto_class_is_not_built():
    with pytest.raises(OSError, match=r"use AutoTranslator\.from_pretrained"):
        AutoTranslator()


class TestFromParams:
    def test_parameters_are_taken(self):
        assert OrthoTranslator.from_params({"scaling": "none"}).scaling == "none"

    def test_defaults_are_kept(self):
        assert OrthoTranslator.from_params({}).get_params() == OrthoTranslator().get_params()

    def test_an_unknown_parameter_is_named(self):
        with pytest.raises(ValueError, match=r"params of 'ortho': .*\['gamma'\]"):
            OrthoTranslator.from_params({"gamma": 1})

    def test_a_value_out_of_range_is_refused_at_once(self):
        with pytest.raises(ValueError, match=r"params of 'ortho': scaling must be one of"):
            OrthoTranslator.from_params({"scaling": "huge"})

    def test_a_value_of_the_wrong_type_is_a_value_error_too(self):
        with pytest.raises(ValueError, match="params of 'affine'"):
            TRANSLATORS["affine"].from_params({"alpha": "big"})


def test_a_type_of_ones_own_is_one_class_and_is_listed_everywhere(mean_translator, run, tmp_path):
    """The class of `mean_translator` is all that is written: no list elsewhere names it."""
    assert methods()["mean"] is mean_translator
    _, shown, _ = run("fit", "--help")
    assert "mean" in shown.split("  --type TYPE ")[1].split("  --")[0]
    for name, half in zip(("x", "y"), pairs(), strict=True):
        np.save(tmp_path / f"{name}.npy", half)
    sides = ["--source-vectors", tmp_path / "x.npy", "--target-vectors", tmp_path / "y.npy"]
    code, _, err = run("fit", *sides, "--type", "mean", "--output", tmp_path / "out")
    assert (code, err) == (0, "")
    assert type(AutoTranslator.from_pretrained(tmp_path / "out")) is mean_translator
    assert "| `mean` | `MeanTranslator` | A type of the user's own" in write_docs.translators()
    assert "mean" in suggested()
