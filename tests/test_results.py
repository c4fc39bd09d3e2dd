"""Results reach config and card of the evaluated translator, and nothing else changes."""

import json

import numpy as np
import pytest
from huggingface_hub import ModelCard

from hf_latent_bridge import AutoTranslator, LinearTranslator, OrthoTranslator, evaluate_latents
from hf_latent_bridge.errors import (
    ConfigError,
    HubUnavailableError,
    RepoAccessError,
    RepoNotFoundError,
)
from hf_latent_bridge.hub.published import push_results, save_results

RNG = np.random.default_rng(0)
X = RNG.standard_normal((300, 4), dtype=np.float32)
Y = X[:, :3] + 0.3 * RNG.standard_normal((300, 3), dtype=np.float32)


def fitted(kind=OrthoTranslator):
    return kind().fit(X[:200], Y[:200])


@pytest.fixture(scope="module")
def metrics():
    dataset = {"repo_id": "alice/news", "split": "test"}
    return evaluate_latents(fitted(), X[200:], Y[200:], dataset=dataset).to_dict()


@pytest.fixture
def pushed(repo_id):
    """A translator of our own on the Hub."""
    translator = fitted()
    translator.push_to_hub(repo_id)
    return translator


def test_one_commit_changes_config_and_card_alone(pushed, repo_id, api, metrics):
    before = {file.rfilename: file.blob_id for file in files(api, repo_id)}
    commits = len(api.list_repo_commits(repo_id))
    commit = push_results(repo_id, metrics, commit=pushed.commit)
    after = {file.rfilename: file.blob_id for file in files(api, repo_id)}
    assert len(api.list_repo_commits(repo_id)) == commits + 1
    assert api.model_info(repo_id).sha == commit.oid
    assert {name for name in after if after[name] != before[name]} == {"config.json", "README.md"}


def test_an_evaluated_translator_that_is_loaded_and_pushed_again_makes_no_commit(
    repo_id, api, metrics
):
    translator = fitted()
    translator.dataset_ = {"split": "train", "seed": 0, "max_pairs": 9, "deduplicated": True}
    translator.push_to_hub(repo_id, metrics=metrics)
    commits = len(api.list_repo_commits(repo_id))
    AutoTranslator.from_pretrained(repo_id).push_to_hub(repo_id)
    assert len(api.list_repo_commits(repo_id)) == commits


def files(api, repo_id):
    return api.model_info(repo_id, files_metadata=True).siblings


def test_a_loader_finds_the_results_and_the_same_map(pushed, repo_id, metrics):
    push_results(repo_id, metrics, commit=pushed.commit)
    loaded = AutoTranslator.from_pretrained(repo_id)
    assert loaded.metrics_ == metrics
    np.testing.assert_array_equal(loaded.transform(X), pushed.transform(X))


def test_the_model_index_and_the_table_tell_them(pushed, repo_id, metrics):
    push_results(repo_id, metrics, commit=pushed.commit)
    card = ModelCard.load(repo_id)
    told = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert told == metrics["translated"]
    lower, upper = metrics["intervals"]["cosine"]
    assert f"| 95 % interval | {lower:.3f} to {upper:.3f} |" in card.text
    assert "Of 1,000 shuffles" in card.text
    assert f"source {metrics['cka']['source']:.3f}" in card.text
    assert "each p-value is at most 0.001\n" in card.text


def test_words_of_people_stay(pushed, repo_id, api, metrics):
    card = ModelCard.load(repo_id)
    api.upload_file(
        path_or_fileobj=f"{card.content}\nMine.\n".encode(),
        path_in_repo="README.md",
        repo_id=repo_id,
    )
    head = api.model_info(repo_id).sha
    push_results(repo_id, metrics, commit=head)
    assert "Mine." in ModelCard.load(repo_id).text


def test_results_of_another_commit_are_refused(pushed, repo_id, api, metrics):
    evaluated = pushed.commit
    fitted(LinearTranslator).push_to_hub(repo_id)
    head = api.model_info(repo_id).sha
    with pytest.raises(HubUnavailableError, match=f"of commit {evaluated[:12]}, .* {head[:12]}"):
        push_results(repo_id, metrics, commit=evaluated)
    assert api.model_info(repo_id).sha == head


def test_equal_results_make_no_second_commit(pushed, repo_id, metrics):
    first = push_results(repo_id, metrics, commit=pushed.commit)
    assert push_results(repo_id, metrics, commit=first.oid).oid == first.oid


def test_a_pull_request_leaves_the_branch_alone(pushed, repo_id, api, metrics):
    commit = push_results(repo_id, metrics, commit=pushed.commit, create_pr=True)
    assert commit.pr_url
    assert api.model_info(repo_id).sha == pushed.commit
    assert AutoTranslator.from_pretrained(repo_id, revision="refs/pr/1").metrics_ == metrics


def test_a_token_that_may_not_write_is_refused(pushed, repo_id, metrics):
    with pytest.raises(RepoAccessError):
        push_results(repo_id, metrics, commit=pushed.commit, token="hf_bob")


def test_a_folder_keeps_its_weights_to_the_byte(tmp_path, metrics):
    fitted().save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    save_results(tmp_path, metrics)
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert json.loads((tmp_path / "config.json").read_text())["metrics"] == metrics
    assert AutoTranslator.from_pretrained(tmp_path).metrics_ == metrics
    assert "95 % interval" in (tmp_path / "README.md").read_text()


def test_a_folder_written_so_equals_one_that_was_saved_with_its_metrics(tmp_path, metrics):
    translator = fitted()
    translator.save_pretrained(tmp_path / "a")
    save_results(tmp_path / "a", metrics)
    translator.save_pretrained(tmp_path / "b", metrics=metrics)
    for name in ("config.json", "README.md", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_report_is_handed_over_as_it_is(repo_id, tmp_path, metrics):
    translator = fitted()
    report = evaluate_latents(translator, X[200:], Y[200:], n_bootstrap=20, n_permutations=20)
    translator.push_to_hub(repo_id, metrics=report)
    assert translator.metrics_ == report.to_dict()
    assert AutoTranslator.from_pretrained(repo_id).metrics_ == report.to_dict()
    translator.save_pretrained(tmp_path)
    assert AutoTranslator.from_pretrained(tmp_path).metrics_ == report.to_dict()
    translator.save_pretrained(tmp_path, metrics=metrics)
    assert AutoTranslator.from_pretrained(tmp_path).metrics_ == metrics


def test_results_of_another_type_are_refused_and_the_old_ones_stay(tmp_path, metrics):
    translator = fitted()
    translator.save_pretrained(tmp_path, metrics=metrics)
    for wrong in (0.9, "good", [("mrr", 0.9)]):
        with pytest.raises(TypeError, match="metrics must be a Report from evaluate, or a mapping"):
            translator.save_pretrained(tmp_path, metrics=wrong)
    with pytest.raises(ConfigError, match="finite"):
        translator.save_pretrained(tmp_path, metrics={"mrr": float("nan")})
    assert translator.metrics_ == metrics
    assert AutoTranslator.from_pretrained(tmp_path).metrics_ == metrics


def test_another_fit_forgets_the_results(tmp_path, metrics):
    translator = fitted()
    translator.save_pretrained(tmp_path, metrics=metrics)
    assert translator.fit(X, Y).metrics_ == {}


def test_a_folder_without_a_translator_is_refused(tmp_path, metrics):
    with pytest.raises(RepoNotFoundError, match=r"must hold config\.json, model\.safetensors"):
        save_results(tmp_path, metrics)
