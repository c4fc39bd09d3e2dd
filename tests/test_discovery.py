"""Published translators are found by the encoders that they join, on one page of a Hub or many."""

import itertools
import re

import numpy as np
import pytest
from huggingface_hub import constants
from stuck_server import StuckServer, answer

from hf_latent_bridge import (
    AutoTranslator,
    OrthoTranslator,
    SharedTranslator,
    SpaceSpec,
    fit_head,
    search_translators,
)
from hf_latent_bridge.errors import HubUnavailableError, InvalidNameError, RepoAccessError

numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Pauses take no time."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.fixture
def encoders():
    """The names of two encoders that no other test uses."""
    number = next(numbers)
    return f"acme/small-{number}", f"acme/large-{number}"


def fitted(source, target, kind=OrthoTranslator):
    x = np.random.default_rng(0).standard_normal((60, 4), dtype=np.float32)
    named = {"source": SpaceSpec(4, repo_id=source), "target": SpaceSpec(3, repo_id=target)}
    return kind().fit(x, x[:, :3], **named)


def ids(found):
    return [one.repo_id for one in found]


def test_a_translator_is_found_by_both_encoders_and_told_apart_from_the_way_back(encoders, repo_id):
    small, large = encoders
    fitted(small, large).push_to_hub(f"{repo_id}-there")
    fitted(large, small).push_to_hub(f"{repo_id}-back")
    assert ids(search_translators(small, large)) == [f"{repo_id}-there"]
    assert ids(search_translators(source=large)) == [f"{repo_id}-back"]
    assert ids(search_translators(target=large)) == [f"{repo_id}-there"]
    assert search_translators(small, small) == []
    assert search_translators("acme/of-nobody") == []


def test_it_says_what_the_card_says(encoders, repo_id):
    small, large = encoders
    scores = {"cosine": 0.75, "recall@1": 0.125}
    results = {"n_pairs": 10, "dataset": {"repo_id": "alice/news"}, "translated": scores}
    commit = fitted(small, large).push_to_hub(repo_id, metrics=results)
    (found,) = search_translators(small, large)
    assert (found.repo_id, found.translator_type, found.commit) == (repo_id, "ortho", commit.oid)
    assert (found.source, found.target, found.scores) == (small, large, scores)
    assert not found.private
    assert str(found) == f"{repo_id}: ortho, {small} → {large}, cosine 0.750, recall@1 0.125"
    loaded = AutoTranslator.from_pretrained(found.repo_id, revision=found.commit)
    assert loaded.source_.repo_id == small


def test_the_target_of_a_map_for_search_is_the_encoder_of_the_items(encoders, repo_id):
    fitted(*encoders, SharedTranslator).push_to_hub(repo_id)
    assert ids(search_translators(*encoders)) == [repo_id]


def test_one_encoder_in_two_versions_is_source_and_target(encoders, repo_id):
    small, _ = encoders
    fitted(small, small).push_to_hub(f"{repo_id}-update")
    fitted(small, None).push_to_hub(f"{repo_id}-half")
    assert ids(search_translators(small, small)) == [f"{repo_id}-update"]
    assert set(ids(search_translators(small))) == {f"{repo_id}-update", f"{repo_id}-half"}


def test_a_head_of_the_encoder_is_not_a_translator(encoders, repo_id):
    x = np.random.default_rng(0).standard_normal((20, 4), dtype=np.float32)
    head = fit_head(x, [0, 1] * 10, space=SpaceSpec(4, repo_id=encoders[0]))
    head.push_to_hub(repo_id)
    assert search_translators(encoders[0]) == []


def test_a_new_fit_between_other_encoders_takes_the_place_of_the_old_tags(encoders, repo_id):
    small, large = encoders
    fitted(small, large).push_to_hub(repo_id, tags=["mine"])
    fitted(large, small).push_to_hub(repo_id)
    assert search_translators(small, large) == []
    assert ids(search_translators(large, small)) == [repo_id]


def write_card(api, repo_id, header):
    api.create_repo(repo_id)
    card = f"---\nlibrary_name: hf-latent-bridge\n{header}\n---\n".encode()
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id)


def test_a_card_of_version_0_1_0_names_the_encoders_in_order(api, encoders, repo_id):
    small, large = encoders
    tags = "tags: [latent-translation, 'translator:linear']"
    write_card(api, repo_id, f"{tags}\nbase_model: [{small}, {large}]")
    (found,) = search_translators(small, large)
    assert (found.repo_id, found.translator_type, found.scores) == (repo_id, "linear", {})
    assert search_translators(large, small) == []


def test_a_card_that_strangers_fill_with_nonsense_does_not_end_the_search(api, encoders, repo_id):
    small, large = encoders
    fitted(small, large).push_to_hub(f"{repo_id}-good")
    mine = f"tags: [latent-translation, 'translator:x', 'source_encoder:{small}', 7]"
    indexes = ("x", "[1]", "[{results: 5}]", "[{results: [{metrics: [{type: 1, value: no}, 2]}]}]")
    for number, index in enumerate(indexes):
        header = f"{mine}\nbase_model: {small}\nmodel-index: {index}\nignore_metadata_errors: 1"
        write_card(api, f"{repo_id}-{number}", header)
    found = search_translators(small)
    assert len(found) == 1 + len(indexes)
    assert all(one.scores == {} for one in found)


def test_a_private_translator_is_found_with_a_token_that_sees_it(encoders, repo_id):
    fitted(*encoders).push_to_hub(repo_id, private=True)
    (found,) = search_translators(*encoders)
    assert found.private
    for token in ("hf_bob", False):
        assert search_translators(*encoders, token=token) == []


def test_all_pages_are_read_up_to_the_limit(hub, encoders, repo_id, monkeypatch):
    names = {f"{repo_id}-{number}" for number in range(5)}
    for name in names:
        fitted(*encoders).push_to_hub(name)
    monkeypatch.setattr(hub.store, "page_size", 2)
    before = len(hub.log)
    assert set(ids(search_translators(*encoders, limit=None))) == names
    assert [each.path for each in hub.log[before:]] == ["/api/models"] * 3
    before = len(hub.log)
    assert len(search_translators(*encoders, limit=2)) == 2
    assert len(hub.log) == before + 1
    assert len(search_translators(*encoders, limit=3)) == 3


def test_the_author_is_asked_for(encoders, repo_id):
    fitted(*encoders).push_to_hub(repo_id)
    assert ids(search_translators(*encoders, author="alice")) == [repo_id]
    assert search_translators(*encoders, author="bob") == []


def test_names_are_found_in_any_case(api, repo_id):
    small, large = f"{repo_id}-Small", f"{repo_id}-Large"
    for encoder in (small, large):
        api.create_repo(encoder)
    fitted(small, large).push_to_hub(repo_id)
    assert ids(search_translators(small.upper(), large)) == [repo_id]
    assert ids(search_translators(target=large.upper(), author="Alice")) == [repo_id]
    assert search_translators(large.upper(), small.upper()) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"source": "./folder"}, "source must be the repo id of an encoder"),
        ({"target": ""}, "target must be the repo id of an encoder"),
        ({"source": SpaceSpec(3)}, "source must be the repo id of an encoder"),
        ({"author": "a/b"}, "author must be the name of an account"),
        ({"limit": 0}, "limit must be an integer of at least 1"),
        ({"limit": 1.5}, "limit must be an integer of at least 1"),
        ({"limit": "3"}, "limit must be an integer of at least 1"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_before_the_hub_is_asked(hub, arguments, told):
    before = len(hub.log)
    with pytest.raises(ValueError, match=told) as refused:
        search_translators(**arguments)
    assert isinstance(refused.value, InvalidNameError) or "limit" in arguments
    assert len(hub.log) == before


class TestAHubThat:
    def test_is_busy_is_asked_again(self, hub, encoders, repo_id):
        fitted(*encoders).push_to_hub(repo_id)
        hub.fail("^/api/models$", status=503, times=2)
        assert ids(search_translators(*encoders)) == [repo_id]

    def test_does_not_know_the_token_refuses(self, encoders):
        with pytest.raises(RepoAccessError, match=f"refused.*{encoders[0]}") as refused:
            search_translators(encoders[0], token="hf_wrong")
        assert not re.search("hf_wrong|/api/|for url", str(refused.value))
        assert "hf auth login" in str(refused.value)

    def test_is_named_without_the_password_in_its_address(self, encoders, monkeypatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://me:s3cret@127.0.0.1:9/hub")
        with pytest.raises(HubUnavailableError, match=r"http://127\.0\.0\.1:9/hub was") as told:
            search_translators(encoders[0])
        assert "s3cret" not in str(told.value)

    def test_is_away_is_named(self, encoders, monkeypatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(HubUnavailableError, match=f"127.0.0.1:9.*{encoders[0]}"):
            search_translators(encoders[0])

    def test_may_not_be_asked_is_not(self, hub, encoders, monkeypatch):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        before = len(hub.log)
        with pytest.raises(HubUnavailableError, match="unset HF_HUB_OFFLINE"):
            search_translators(encoders[0])
        assert len(hub.log) == before

    @pytest.mark.parametrize("body", [b'["x"]', b'{"error": 1}', b"[{}]", b"<html>sign in</html>"])
    def test_answers_something_else_is_no_hub(self, encoders, body, monkeypatch):
        with StuckServer({"GET /api/models": answer(body)}) as server:
            monkeypatch.setattr(constants, "ENDPOINT", server.url)
            with pytest.raises(HubUnavailableError, match="does not answer as a Hub does"):
                search_translators(encoders[0])


class TestTheCommand:
    def test_prints_a_line_for_each(self, run, encoders, repo_id):
        small, large = encoders
        fitted(small, large).push_to_hub(repo_id)
        told = f"{repo_id}: ortho, {small} → {large}, no scores\n"
        assert run("search", "--source", small, "--target", large) == (0, told, "")
        assert run("search", "--source", large) == (0, "no translator found\n", "")

    def test_gives_json(self, facts, encoders, repo_id):
        fitted(*encoders).push_to_hub(repo_id)
        (found,) = facts("search", "--target", encoders[1], "--limit", "1")["translators"]
        assert (found["repo_id"], found["target"], found["scores"]) == (repo_id, encoders[1], {})

    def test_refuses_a_folder(self, refusal):
        assert "source must be the repo id of an encoder" in refusal("search", "--source", "./x")
