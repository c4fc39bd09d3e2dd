"""Estimators and callables of the user's are decoders too, and say so when they cannot be."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from hf_latent_bridge import Decoder, SpaceSpec, as_decoder
from hf_latent_bridge.errors import DecoderError, InvalidLatentsError

draw = np.random.default_rng(0)
X = draw.normal(size=(60, 5))
NAMES = np.array(["cat", "dog", "owl"])[np.argmax(X[:, :3], axis=1)]


@pytest.mark.parametrize(
    "estimator",
    [GaussianNB(), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["naive Bayes", "pipeline"],
)
@pytest.mark.parametrize("convert", [np.asarray, torch.from_numpy])
def test_a_classifier_with_probabilities_gives_labels_with_them(estimator, convert):
    decoder = as_decoder(estimator.fit(X, NAMES))
    answers = decoder(convert(X), top_k=3)
    assert [row[0]["label"] for row in answers] == list(estimator.predict(X))
    assert [row[0]["score"] for row in answers] == pytest.approx(
        estimator.predict_proba(X).max(axis=1)
    )
    assert all(sum(a["score"] for a in row) == pytest.approx(1) for row in answers)
    assert decoder(convert(X)) == [row[0] for row in answers]


@pytest.mark.parametrize("labels", [NAMES, X[:, 0] > 0], ids=["three classes", "two classes"])
def test_a_classifier_without_probabilities_gives_labels_with_decision_values(labels):
    machine = LinearSVC().fit(X, labels)
    answers = as_decoder(machine)(X)
    assert [a["label"] for a in answers] == machine.predict(X).tolist()
    values = machine.decision_function(X)
    best = np.abs(values) if values.ndim == 1 else values.max(axis=1)
    assert [a["score"] for a in answers] == pytest.approx(best)


def test_labels_are_plain_python_values():
    decoder = as_decoder(GaussianNB().fit(X, np.argmax(X, axis=1)))
    assert type(decoder(X)[0]["label"]) is int


@pytest.mark.parametrize(
    "estimator",
    [
        LinearRegression().fit(X, X[:, :2]),
        VotingClassifier([("a", GaussianNB()), ("b", GaussianNB())]).fit(X, NAMES),
        KMeans(3, random_state=0).fit(X),
    ],
    ids=["regression", "hard vote", "clusters"],
)
def test_an_estimator_without_scores_gives_its_predictions(estimator):
    decoder = as_decoder(estimator)
    assert np.array_equal(np.stack(decoder(X)), estimator.predict(X))
    assert not isinstance(decoder(X)[0], np.generic)
    with pytest.raises(DecoderError, match="does not rank its answers: leave top_k out, got 2"):
        decoder(X, top_k=2)


def test_votes_between_pairs_of_classes_are_not_taken_for_scores_of_classes():
    machine = make_pipeline(StandardScaler(), SVC(decision_function_shape="ovo")).fit(X, NAMES)
    decoder = as_decoder(machine)
    assert decoder(X) == machine.predict(X).tolist()
    with pytest.raises(DecoderError, match="leave top_k out"):
        decoder(X, top_k=2)


def test_latents_in_half_precision_reach_an_estimator():
    decoder = as_decoder(GaussianNB().fit(X, NAMES))
    for dtype in (torch.bfloat16, torch.float16):
        half = torch.from_numpy(X).to(dtype)
        assert decoder(half) == decoder(half.float())


def test_an_estimator_that_is_not_fitted_is_refused():
    with pytest.raises(DecoderError, match=r"GaussianNB\(\) is not fitted: call its fit first"):
        as_decoder(GaussianNB())


def test_a_space_of_another_width_than_that_of_the_fit_is_refused():
    fitted = GaussianNB().fit(X, NAMES)
    assert as_decoder(fitted, SpaceSpec(5, "me/a")).space == SpaceSpec(5, "me/a")
    with pytest.raises(DecoderError, match=r"fitted on 5 features, not on me/a \(dim=4\)"):
        as_decoder(fitted, SpaceSpec(4, "me/a"))


def test_a_classifier_of_several_outputs_is_refused():
    several = KNeighborsClassifier().fit(X, np.stack([NAMES, NAMES], axis=1))
    with pytest.raises(DecoderError, match="several outputs"):
        as_decoder(several)


def test_an_estimator_refuses_another_width_and_nan_before_scikit_learn_does():
    decoder = as_decoder(GaussianNB().fit(X, NAMES))
    assert decoder.space == SpaceSpec(5)
    with pytest.raises(InvalidLatentsError, match=r"shape \(n, 5\), got \(60, 4\)"):
        decoder(X[:, :4])
    with pytest.raises(InvalidLatentsError, match=r"got \(5,\)"):
        decoder(X[0])
    with pytest.raises(InvalidLatentsError, match="NaN or infinity in 1 of 60 rows"):
        decoder(np.where(np.arange(60)[:, None] == 3, np.nan, X))
    assert decoder(X[:0]) == []


@pytest.mark.parametrize("top_k", [0, -1, 1.5, True, "2"])
def test_a_top_k_that_is_no_positive_integer_is_refused(top_k):
    with pytest.raises(DecoderError, match="top_k must be an integer of at least 1 or None"):
        as_decoder(GaussianNB().fit(X, NAMES))(X, top_k=top_k)


def test_more_answers_than_labels_cannot_be_given():
    assert len(as_decoder(GaussianNB().fit(X, NAMES))(X, top_k=99)[0]) == 3


def test_a_torch_module_decodes_without_gradients():
    module = torch.nn.Linear(5, 2)
    decoder = as_decoder(module, SpaceSpec(5))
    result = decoder(torch.ones(3, 5))
    assert not result.requires_grad
    assert torch.equal(result, module(torch.ones(3, 5)).detach())


def test_a_torch_module_gets_latents_in_its_own_precision():
    for dtype in (torch.float32, torch.bfloat16):
        decoder = as_decoder(torch.nn.Linear(5, 2).to(dtype))
        assert decoder(X).dtype == dtype


def test_any_callable_decodes_and_gets_a_tensor():
    def rows(latents):
        assert isinstance(latents, torch.Tensor)
        return [f"{row.sum():.0f}" for row in latents]

    assert as_decoder(rows)(np.ones((2, 3))) == ["3", "3"]


@pytest.mark.parametrize(
    "result", [["one"], None, 3, torch.tensor(1.0), "ab", {"logits": 1, "labels": 2}]
)
def test_a_callable_that_does_not_give_one_result_per_row_is_refused(result):
    with pytest.raises(DecoderError, match="one result per row, 2 here"):
        as_decoder(lambda latents: result)(np.ones((2, 3)))


def test_a_callable_that_does_not_rank_takes_no_top_k():
    with pytest.raises(DecoderError, match="leave top_k out"):
        as_decoder(lambda latents: latents)(np.ones((2, 3)), top_k=3)


def test_a_decoder_stays_what_it_is_and_keeps_its_space():
    decoder = as_decoder(lambda latents: latents, SpaceSpec(3))
    assert isinstance(decoder, Decoder)
    assert as_decoder(decoder) is decoder
    with pytest.raises(DecoderError, match="states its own space"):
        as_decoder(decoder, SpaceSpec(4))


@pytest.mark.parametrize("thing", ["me/news-head", None, 5, {"a": 1}])
def test_what_is_no_decoder_is_refused_with_advice(thing):
    with pytest.raises(DecoderError, match="comes from load_decoder, or is a fitted estimator"):
        as_decoder(thing)
