"""Every translator passes scikit-learn's own checks of an estimator, but for the reasons given."""

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LinearTranslator,
    Translator,
    compose,
)
from hf_latent_bridge.errors import InvalidLatentsError
from hf_latent_bridge.translators.base import methods

SKIPPED = {
    "check_dtype_object": "expects TypeError for dicts in an array; ours is a ValueError",
    "check_fit2d_predict1d": "expects one vector to be refused; transform takes it",
}


def as_column(y):
    """The checks' labels as one column of floats; whatever else they hand out, as it is."""
    values = np.asarray(y)
    return values.reshape(len(values), -1).astype(float) if values.dtype.kind in "iuf" else y


def taking_labels(kind: type[Translator]) -> Translator:
    """A translator that takes the checks' integer targets, which translators refuse as labels."""

    class TakesLabels(kind):
        def pair_moments(self, X, y, **options):
            return super().pair_moments(X, as_column(y), **options)

        def score(self, X, y):
            return super().score(X, as_column(y))

    TakesLabels.__name__ = TakesLabels.__qualname__ = f"{kind.__name__}TakingLabels"
    globals()[TakesLabels.__name__] = TakesLabels  # so that it can be pickled
    return TakesLabels()


def checks() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Estimator .* does not inherit from")
        for kind in methods().values():
            for estimator, check in estimator_checks_generator(taking_labels(kind)):
                name = check.func.__name__ if isinstance(check, partial) else check.__name__
                marks = [pytest.mark.skip(reason=SKIPPED[name])] if name in SKIPPED else []
                yield pytest.param(estimator, check, id=f"{kind.__name__}-{name}", marks=marks)


@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.RankWarning")
@pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")
@pytest.mark.filterwarnings("ignore:Estimator .* does not inherit from:UserWarning")
@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learn_accepts_the_translator(estimator, check):
    check(estimator)


@pytest.mark.parametrize("kind", list(methods().values()))
def test_a_clone_has_the_same_parameters_and_no_fit(kind):
    x = np.random.default_rng(0).normal(size=(20, 3))
    fitted = kind(scaling="center").fit(x, x)
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "moments_")


def test_a_translator_is_a_step_of_a_pipeline():
    x = np.random.default_rng(0).normal(size=(50, 3))
    pipeline = make_pipeline(StandardScaler(), methods()["linear"]())
    np.testing.assert_allclose(pipeline.fit(x, x @ x.T[:, :4]).transform(x), x @ x.T[:, :4])


def labelled():
    """Source latents, their counterparts, and labels that the source latents decide."""
    x = np.random.default_rng(0).normal(size=(60, 3))
    y = x @ np.random.default_rng(1).normal(size=(3, 4))
    return x, y, (x[:, 0] > 0).astype(int)


@pytest.mark.parametrize("as_labels", [list, np.array, torch.tensor, pd.Series, np.bool_])
def test_labels_are_not_taken_for_latents(as_labels):
    x, y, labels = labelled()
    translator = LinearTranslator().fit(x, y)
    expected = translator.transform(x)
    pipeline = make_pipeline(translator, LogisticRegression())
    with pytest.raises(InvalidLatentsError, match=r"labels.*FrozenEstimator"):
        pipeline.fit(x, as_labels(labels))
    with pytest.raises(InvalidLatentsError, match="labels"):
        translator.fit(x, np.eye(2, dtype=int)[labels])
    with pytest.raises(InvalidLatentsError, match="labels"):
        translator.score(x, labels)
    np.testing.assert_array_equal(translator.transform(x), expected)


@pytest.mark.parametrize("name", ["fitted", "composed"])
def test_a_fitted_translator_is_kept_in_a_pipeline_when_it_is_frozen(name):
    x, y, labels = labelled()
    translator = LinearTranslator().fit(x, y)
    translator = compose(translator) if name == "composed" else translator
    pipeline = make_pipeline(FrozenEstimator(translator), LogisticRegression())
    expected = LogisticRegression().fit(translator.transform(x), labels).predict(y)
    np.testing.assert_array_equal(pipeline.fit(x, labels).predict(x), expected)
    np.testing.assert_array_equal(clone(pipeline).fit(x, labels).predict(x), expected)
    assert cross_val_score(pipeline, x, labels).mean() > 0.8


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("alpha", np.logspace(-3, 0, 3, dtype=np.float32)),
        ("random_state", np.arange(3)),
        ("steps", np.arange(1, 4)),
        ("lr", np.array([0.1, 0.2])),
    ],
)
def test_a_searched_grid_of_numpy_numbers_can_be_saved(name, values, tmp_path):
    x, y, _ = labelled()
    solver = "closed_form" if name == "alpha" else "gradient"
    search = GridSearchCV(AffineTranslator(solver=solver), {name: values}).fit(x, y)
    search.best_estimator_.save_pretrained(tmp_path)
    saved = AutoTranslator.from_pretrained(tmp_path).params_[name]
    assert saved == search.best_params_[name]
