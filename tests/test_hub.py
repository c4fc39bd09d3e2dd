"""What is pushed is what is loaded, from one commit, or a clear refusal says why not."""

import json
import os
import re
import socket
import stat
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
import warm
from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import RevisionNotFoundError
from safetensors.torch import save as to_safetensors
from stuck_server import COMMIT, StuckServer, answer
from warm import Warm

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    ConvEncoder,
    Head,
    LatentIndex,
    LinearTranslator,
    OrthoTranslator,
    SharedSpace,
    SpaceSpec,
    StitchedModel,
    fit_head,
    load_decoder,
    load_encoder,
    split_classifier,
)
from hf_latent_bridge.errors import (
    ConfigError,
    DamagedFileError,
    ForeignFileError,
    FormatVersionError,
    HubUnavailableError,
    InvalidLatentsError,
    InvalidNameError,
    LatentBridgeError,
    NotFittedError,
    RepoAccessError,
    RepoNotFoundError,
    UnknownTranslatorError,
    WeightsError,
)
from hf_latent_bridge.files import read_config, to_files
from hf_latent_bridge.hub import client as hub_module
from hf_latent_bridge.hub.published import push_results, save_results

LIMITS = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}
TOKENS = ("hf_alice", "hf_bob", "hf_reader", "hf_wrong")


def fitted(seed=0, kind=OrthoTranslator, **params):
    """A translator from width 4 to width 3."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((50, 4), dtype=np.float32)
    y = x @ rng.standard_normal((4, 3), dtype=np.float32) + 1
    return kind(**params).fit(x, y, source=SpaceSpec(4, modality="text"))


def same(a, b):
    (x, y), (z, w) = ((t.map_.weight.cpu(), t.map_.bias.cpu()) for t in (a, b))
    return torch.equal(x, z) and torch.equal(y, w)


@pytest.fixture
def impatient(monkeypatch):
    """The client tries a failing Hub again without waiting."""
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def refused(error, call, *arguments, **keywords):
    """The message with which a call is refused; no token is in it nor in what caused it."""
    with pytest.raises(LatentBridgeError) as refusal:
        call(*arguments, **keywords)
    assert type(refusal.value) is error, repr(refusal.value)
    cause: BaseException | None = refusal.value
    while cause is not None:
        assert not any(token in str(cause) for token in TOKENS)
        cause = cause.__cause__
    return str(refusal.value)


def python(code, check=True, **environment):
    """Run code in another process that uses the same embedded Hub."""
    # limits of Xet that the library has set in this process
    usual = {k: v for k, v in os.environ.items() if not k.startswith("HF_XET_CLIENT_")}
    environment = usual | environment
    code = textwrap.dedent(code)
    return warm.finished("-c", code, check=check, env=environment, loaded=warm.BASE)


@pytest.fixture
def translator():
    return fitted()


@pytest.fixture
def pushed(translator, repo_id):
    """The id of a repo that holds the translator."""
    translator.push_to_hub(repo_id)
    return repo_id


@pytest.fixture
def saved(translator, tmp_path):
    """A folder that holds the translator."""
    translator.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def edit_config(saved):
    """Change fields of the saved config, which then carries no hash of itself, and load it."""

    def edit(**changes):
        path = saved / "config.json"
        config = json.loads(path.read_text())
        del config["config_sha256"]
        path.write_text(json.dumps(config | changes))
        return AutoTranslator.from_pretrained(saved)

    return edit


@pytest.fixture
def replace_tensors(saved):
    """Put other tensors into the saved weights, with a config that vouches for them."""

    def replace(**tensors):
        config = read_config(saved / "config.json")
        for name, content in to_files(config, tensors).items():
            (saved / name).write_bytes(content)
        return AutoTranslator.from_pretrained(saved)

    return replace


class TestPushAndLoad:
    @pytest.mark.slow
    def test_another_process_translates_the_same_at_every_kind_of_revision(
        self, translator, pushed, api
    ):
        first = api.model_info(pushed).sha
        api.create_tag(pushed, tag="v1")
        other, third, fourth = fitted(1), fitted(2), fitted(3)
        other.push_to_hub(pushed, revision="dev")
        third.push_to_hub(pushed, create_pr=True)
        fourth.push_to_hub(pushed)
        code = f"""
            import json, numpy as np
            from hf_latent_bridge import AutoTranslator
            load = lambda revision: AutoTranslator.from_pretrained({pushed!r}, revision=revision)
            loaded = [load(r) for r in (None, "main", "dev", "v1", {first!r}, "refs/pr/1")]
            x = np.eye(4, dtype=np.float32)
            print(json.dumps([t.transform(x).tolist() for t in loaded]))
        """
        results = json.loads(warm.finished("-c", textwrap.dedent(code)).stdout)
        expected = [fourth, fourth, other, translator, translator, third]
        for result, one in zip(results, expected, strict=True):
            np.testing.assert_array_equal(
                np.array(result, np.float32), one.transform(np.eye(4, dtype=np.float32))
            )

    @pytest.mark.parametrize("kind", [OrthoTranslator, LinearTranslator, AffineTranslator])
    def test_everything_that_was_recorded_comes_back(self, repo_id, kind):
        translator = fitted(kind=kind, scaling="center", unit_norm="target")
        translator.dataset_ = {"repo_id": "alice/news", "split": "train"}
        translator.push_to_hub(repo_id, metrics={"n_pairs": 10, "translated": {"cosine": 0.5}})
        loaded = AutoTranslator.from_pretrained(repo_id)
        assert type(loaded) is kind
        assert same(loaded, translator)
        assert loaded.get_params() == translator.get_params()
        assert (loaded.source_, loaded.target_) == (translator.source_, translator.target_)
        assert loaded.n_pairs_ == 50
        assert (loaded.dataset_, loaded.metrics_) == (translator.dataset_, translator.metrics_)

    def test_a_loaded_translator_knows_where_it_came_from(self, pushed, api):
        loaded = AutoTranslator.from_pretrained(pushed)
        assert (loaded.repo_id, loaded.commit) == (pushed, api.model_info(pushed).sha)

    def test_a_pushed_translator_knows_where_it_is(self, translator, pushed, api):
        assert (translator.repo_id, translator.commit) == (pushed, api.model_info(pushed).sha)

    def test_a_fit_forgets_where_the_old_map_was(self, translator, pushed):
        translator.fit_moments(translator.moments_)
        assert (translator.repo_id, translator.commit) == (None, None)

    def test_a_push_pushes_what_a_load_loaded(self, pushed, repo_id, api):
        loaded = AutoTranslator.from_pretrained(pushed)
        loaded.push_to_hub(f"{repo_id}-copy")
        assert same(AutoTranslator.from_pretrained(f"{repo_id}-copy"), loaded)

    def test_a_name_without_a_user_goes_to_ones_own_account(self, translator, repo_id):
        translator.push_to_hub(f"{repo_id}-own".removeprefix("alice/"))
        assert translator.repo_id == f"{repo_id}-own"

    def test_a_translator_in_a_subfolder_is_loaded(self, saved, translator, repo_id, api):
        api.create_repo(repo_id)
        api.upload_folder(repo_id=repo_id, folder_path=saved, path_in_repo="maps/en")
        for spelling in ("maps/en", "maps/en/", "maps\\en", "./maps/en"):
            loaded = AutoTranslator.from_pretrained(repo_id, subfolder=spelling)
            assert same(loaded, translator)
        assert "config.json" in refused(
            RepoNotFoundError, AutoTranslator.from_pretrained, repo_id, subfolder="maps"
        )

    def test_a_folder_is_loaded_without_the_hub(self, saved, translator, hub):
        asked = len(hub.log)
        for name in (saved, str(saved)):
            loaded = AutoTranslator.from_pretrained(name)
            assert same(loaded, translator)
            assert loaded.repo_id is loaded.commit is None
        assert same(AutoTranslator.from_pretrained(saved.parent, subfolder="saved"), translator)
        assert len(hub.log) == asked

    def test_dtype_and_device_are_what_was_asked_for(self, pushed):
        loaded = AutoTranslator.from_pretrained(pushed, dtype=torch.float64, device="cpu")
        assert loaded.map_.weight.dtype == loaded.map_.bias.dtype == torch.float64
        assert loaded.map_.weight.device.type == "cpu"
        elsewhere = AutoTranslator.from_pretrained(pushed, device="meta")
        assert elsewhere.map_.weight.device.type == elsewhere.map_.bias.device.type == "meta"

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_a_map_is_saved_in_the_dtype_it_has(self, translator, saved, dtype):
        translator.to(dtype=dtype).save_pretrained(saved)
        loaded = AutoTranslator.from_pretrained(saved)
        assert loaded.map_.weight.dtype == dtype
        assert same(loaded, translator)

    @pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, "float16"])
    def test_a_dtype_that_is_not_floating_is_refused(self, saved, dtype):
        with pytest.raises(ValueError, match=rf"floating torch\.dtype or None, got {dtype!r}"):
            AutoTranslator.from_pretrained(saved, dtype=dtype)

    def test_a_concrete_class_loads_its_own_type(self, pushed, translator):
        assert same(OrthoTranslator.from_pretrained(pushed), translator)

    def test_a_concrete_class_refuses_another_type(self, pushed):
        message = refused(ConfigError, LinearTranslator.from_pretrained, pushed)
        assert "holds a OrthoTranslator, not a LinearTranslator" in message

    def test_more_pairs_cannot_be_added_to_a_loaded_map(self, pushed):
        loaded = AutoTranslator.from_pretrained(pushed)
        assert "moments" in refused(NotFittedError, loaded.partial_fit, np.eye(4), np.eye(4, 3))


class TestTheCache:
    def test_one_load_is_enough_for_local_files_only(self, pushed, translator, hub):
        AutoTranslator.from_pretrained(pushed)
        asked = len(hub.log)
        assert same(AutoTranslator.from_pretrained(pushed, local_files_only=True), translator)
        assert len(hub.log) == asked

    def test_local_files_only_without_a_load_is_refused(self, pushed, tmp_path):
        message = refused(
            HubUnavailableError,
            AutoTranslator.from_pretrained,
            pushed,
            local_files_only=True,
            cache_dir=tmp_path,
        )
        assert "is not in the cache" in message

    def test_cache_dir_is_where_the_files_go(self, pushed, tmp_path):
        AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path / "here")
        names = {path.name for path in (tmp_path / "here").rglob("snapshots/*/*")}
        assert names == {"config.json", "model.safetensors"}

    def test_a_second_load_downloads_nothing(self, pushed, hub):
        AutoTranslator.from_pretrained(pushed)
        asked = len(hub.log)
        AutoTranslator.from_pretrained(pushed)
        assert [exchange.path for exchange in hub.log[asked:]] == [f"/api/models/{pushed}"]

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_damaged_file_is_fetched_once_more(self, pushed, translator, tmp_path, name):
        AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path)
        (file,) = tmp_path.rglob(f"snapshots/*/{name}")
        content = bytearray(file.read_bytes())
        content[-9] ^= 1
        file.resolve().write_bytes(content)
        offline = {"cache_dir": tmp_path, "local_files_only": True}
        message = refused(DamagedFileError, AutoTranslator.from_pretrained, pushed, **offline)
        assert str(file) in message
        assert "force_download=True (--force-download)" in message
        assert same(AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path), translator)
        assert same(AutoTranslator.from_pretrained(pushed, **offline), translator)

    def test_config_and_weights_are_asked_for_at_one_commit(self, pushed, hub, api, tmp_path):
        commit = api.model_info(pushed).sha
        asked = len(hub.log)
        AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path)
        paths = [e.path for e in hub.log[asked:] if "/resolve/" in e.path]
        revisions = {re.search("/resolve/([^/]+)/", path)[1] for path in paths}
        assert revisions == {commit}
        assert sum(e.path == f"/api/models/{pushed}" for e in hub.log[asked:]) == 1

    def test_a_push_between_the_two_downloads_changes_nothing(
        self, pushed, translator, tmp_path, monkeypatch
    ):
        def download(repo_id, name, **keywords):
            path = hf_hub_download(repo_id, name, **keywords)
            if name == "config.json":
                fitted(7).push_to_hub(pushed)
            return path

        other = fitted(7)
        monkeypatch.setattr(hub_module, "hf_hub_download", download)
        assert same(AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path), translator)
        assert same(AutoTranslator.from_pretrained(pushed, cache_dir=tmp_path), other)


class TestPushing:
    def commits(self, api, repo_id, revision=None):
        return [c.title for c in api.list_repo_commits(repo_id, revision=revision)]

    def test_a_push_is_one_commit(self, pushed, api):
        assert self.commits(api, pushed) == ["Upload OrthoTranslator", "initial commit"]
        assert set(api.list_repo_files(pushed)) == {
            ".gitattributes",
            "README.md",
            "config.json",
            "model.safetensors",
        }

    def test_the_same_again_makes_no_commit(self, pushed, translator, api, hub):
        before = api.model_info(pushed).sha
        asked = len(hub.log)
        commit = fitted().push_to_hub(pushed)
        assert commit.oid == before == api.model_info(pushed).sha
        assert not [e for e in hub.log[asked:] if "/commit/" in e.path]

    def test_another_map_makes_one_more_commit(self, pushed, api):
        fitted(1).push_to_hub(pushed, commit_message="Better pairs")
        assert self.commits(api, pushed)[0] == "Better pairs"
        assert len(self.commits(api, pushed)) == 3

    def test_a_branch_is_made_and_main_left_alone(self, pushed, api):
        before = api.model_info(pushed).sha
        fitted(1).push_to_hub(pushed, revision="dev")
        assert api.model_info(pushed).sha == before
        assert same(AutoTranslator.from_pretrained(pushed, revision="dev"), fitted(1))
        fitted(2).push_to_hub(pushed, revision="dev")
        assert len(self.commits(api, pushed, "dev")) == 4

    def test_anyone_may_open_a_pull_request(self, pushed, api):
        before = api.model_info(pushed).sha
        commit = fitted(1).push_to_hub(pushed, create_pr=True, token="hf_bob")
        assert commit.pr_url.endswith("/discussions/1")
        assert api.model_info(pushed).sha == before
        assert same(AutoTranslator.from_pretrained(pushed, revision="refs/pr/1"), fitted(1))

    def test_an_open_pull_request_takes_further_pushes(self, pushed):
        fitted(1).push_to_hub(pushed, create_pr=True, token="hf_bob")
        fitted(2).push_to_hub(pushed, revision="refs/pr/1", token="hf_bob")
        assert same(AutoTranslator.from_pretrained(pushed, revision="refs/pr/1"), fitted(2))

    def test_private_is_seen_by_its_owner_alone(self, translator, repo_id, api):
        translator.push_to_hub(repo_id, private=True)
        assert api.model_info(repo_id).private
        assert same(AutoTranslator.from_pretrained(repo_id), translator)
        for token in ("hf_bob", False):
            message = refused(
                RepoNotFoundError, AutoTranslator.from_pretrained, repo_id, token=token
            )
            assert "a private repo needs token=" in message

    def test_it_is_found_by_its_tags_and_its_encoders(self, repo_id, api):
        translator = fitted()
        translator.source_ = SpaceSpec(4, repo_id="alice/minilm")
        translator.target_ = SpaceSpec(3, repo_id="alice/mpnet")
        translator.push_to_hub(repo_id, tags=["news", repo_id.replace("/", "-")])
        mine = repo_id.replace("/", "-")
        for tags in (
            ["latent-translation", "translator:ortho", mine],
            ["hf-latent-bridge", "feature-extraction", "news", mine],
            ["base_model:alice/minilm", "base_model:adapter:alice/mpnet", mine],
        ):
            assert [m.id for m in api.list_models(filter=tags)] == [repo_id]

    def test_one_text_is_not_taken_for_a_list_of_letters(self, translator, repo_id, api):
        with pytest.raises(ValueError, match=r"tags=\['news'\]"):
            translator.push_to_hub(repo_id, tags="news")
        assert not api.repo_exists(repo_id)

    @pytest.mark.parametrize("token", ["hf_bob", "hf_reader"])
    def test_a_push_without_the_right_to_write_is_refused(self, pushed, api, token):
        before = api.model_info(pushed).sha
        message = refused(RepoAccessError, fitted(1).push_to_hub, pushed, token=token)
        assert "refused" in message
        assert pushed in message
        assert api.model_info(pushed).sha == before

    def test_a_new_repo_in_someone_elses_name_is_refused(self, translator, api):
        refused(RepoAccessError, translator.push_to_hub, "alice/not-bobs", token="hf_bob")
        assert not api.repo_exists("alice/not-bobs")

    @pytest.mark.parametrize("name", ["alice/a b", "a/b/c", "alice/a--b", "../up"])
    def test_a_name_that_no_repo_can_have_is_refused(self, translator, name):
        assert name in refused(RepoNotFoundError, translator.push_to_hub, name)

    def test_an_unfitted_translator_makes_no_repo_and_no_folder(self, repo_id, api, tmp_path):
        message = refused(NotFittedError, OrthoTranslator().push_to_hub, repo_id)
        assert "fit" in message
        refused(NotFittedError, OrthoTranslator().save_pretrained, tmp_path / "new")
        assert not api.repo_exists(repo_id)
        assert not (tmp_path / "new").exists()

    @pytest.mark.parametrize("value", [float("nan"), Path("x"), torch.ones(1), {1, 2}])
    def test_metrics_that_json_cannot_hold_make_no_repo(self, translator, repo_id, api, value):
        metrics = {"mine": value}
        assert "metrics" in refused(ConfigError, translator.push_to_hub, repo_id, metrics=metrics)
        assert translator.metrics_ == {}
        assert not api.repo_exists(repo_id)

    def test_a_push_in_between_is_never_undone(self, pushed, api, monkeypatch):
        """Someone pushes after our look at the card and before our commit."""

        def read_head(*arguments, **keywords):
            found = original(*arguments, **keywords)
            api.upload_file(path_or_fileobj=b"x", path_in_repo="new.txt", repo_id=pushed)
            return found

        original = hub_module.read_head
        monkeypatch.setattr(hub_module, "read_head", read_head)
        message = refused(HubUnavailableError, fitted(1).push_to_hub, pushed)
        assert "push again" in message

    def test_a_failing_hub_never_costs_people_their_card(self, pushed, api, hub, impatient):
        """The client would take the card out of its cache: the one before the edit."""
        fitted(1).push_to_hub(pushed)
        card = Path(hf_hub_download(pushed, "README.md")).read_text()
        api.upload_file(
            path_or_fileobj=f"{card}\nMy own words.\n".encode(),
            path_in_repo="README.md",
            repo_id=pushed,
        )
        hub.fail(f"{pushed}/resolve/.*README.md", status=500, times=20)
        refused(HubUnavailableError, fitted(2).push_to_hub, pushed)
        hub._faults.clear()
        fitted(2).push_to_hub(pushed)
        text = Path(hf_hub_download(pushed, "README.md")).read_text()
        assert "My own words." in text

    def test_two_large_files_go_up_in_one_commit(self, repo_id, api):
        """Each by itself before the commit, for threads of the client have no limits."""
        vectors = np.random.default_rng(0).standard_normal((3000, 128), dtype=np.float32)
        items = [f"{number:0400}" for number in range(3000)]
        index = LatentIndex.from_latents(vectors, items)
        index.push_to_hub(repo_id)
        assert len(self.commits(api, repo_id)) == 2
        assert list(load_decoder(repo_id).items) == items


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "telling"),
        [
            ("alice/no-such-repo", "check the name"),
            ("no-such-repo", "check the name"),
            ("./no-such-folder", "neither an existing folder nor a repo id"),
            ("/no/such/folder", "neither an existing folder nor a repo id"),
            ("a b", "neither an existing folder nor a repo id"),
            ("a/b/c", "neither an existing folder nor a repo id"),
            ("C:\\models\\mine", "neither an existing folder nor a repo id"),
        ],
    )
    def test_what_is_not_there_is_named(self, name, telling):
        message = refused(RepoNotFoundError, AutoTranslator.from_pretrained, name)
        assert telling in message
        assert repr(name) in message

    @pytest.mark.parametrize("revision", ["v9", "refs/pr/9", "0" * 40])
    def test_a_missing_revision_is_named(self, pushed, revision):
        message = refused(
            RepoNotFoundError, AutoTranslator.from_pretrained, pushed, revision=revision
        )
        assert revision in message

    def test_a_repo_of_something_else_is_told_apart(self, repo_id, api):
        api.create_repo(repo_id)
        message = refused(RepoNotFoundError, AutoTranslator.from_pretrained, repo_id)
        assert "config.json" in message
        api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=repo_id)
        message = refused(RepoNotFoundError, AutoTranslator.from_pretrained, repo_id)
        assert "model.safetensors" in message

    @pytest.mark.parametrize("subfolder", ["..", "a/../../b", "/etc", "..\\..", "\\etc"])
    def test_a_subfolder_cannot_leave_the_repo(self, saved, pushed, subfolder):
        for place in (saved, pushed):
            message = refused(
                RepoNotFoundError, AutoTranslator.from_pretrained, place, subfolder=subfolder
            )
            assert "inside the repo" in message

    def test_a_gated_repo_says_what_to_do(self, pushed, api):
        api.update_repo_settings(pushed, gated="manual")
        message = refused(RepoAccessError, AutoTranslator.from_pretrained, pushed, token="hf_bob")
        assert "ask for access" in message

    @pytest.mark.parametrize("token", ["hf_wrong", "hf_wrong\n", "hf wrong", "hf_wröng"])
    def test_a_wrong_token_is_not_quoted(self, pushed, token, caplog, capfd):
        message = refused(RepoAccessError, AutoTranslator.from_pretrained, pushed, token=token)
        shown = message + caplog.text + "".join(capfd.readouterr())
        assert not re.search("hf.wr", shown)
        message = refused(RepoAccessError, fitted().push_to_hub, pushed, token=token)
        assert not re.search("hf.wr", message)

    def test_a_hub_that_fails_is_not_taken_for_a_missing_repo(
        self, pushed, hub, tmp_path, impatient
    ):
        hub.fail(f"/api/models/{pushed}", status=500, times=20)
        message = refused(
            HubUnavailableError, AutoTranslator.from_pretrained, pushed, cache_dir=tmp_path
        )
        assert "try again later" in message

    def test_a_download_that_fails_is_not_taken_for_a_missing_file(
        self, pushed, hub, tmp_path, impatient
    ):
        hub.fail(f"{pushed}/resolve/.*safetensors", status=500, times=20)
        message = refused(
            HubUnavailableError, AutoTranslator.from_pretrained, pushed, cache_dir=tmp_path
        )
        assert pushed in message

    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (403, RepoAccessError),
            (500, HubUnavailableError),
            (429, HubUnavailableError),
            (400, RepoAccessError),
        ],
    )
    def test_a_commit_that_fails_changes_nothing(self, pushed, hub, api, status, error, impatient):
        before = api.model_info(pushed).sha
        hub.fail(f"{pushed}/commit/", status=status, times=20)
        message = refused(error, fitted(1).push_to_hub, pushed)
        assert pushed in message
        assert api.model_info(pushed).sha == before

    def test_a_file_instead_of_its_folder_is_refused(self, saved):
        message = refused(
            RepoNotFoundError, AutoTranslator.from_pretrained, saved / "model.safetensors"
        )
        assert "pass the folder" in message

    def test_a_folder_has_no_revision(self, saved):
        message = refused(RepoNotFoundError, AutoTranslator.from_pretrained, saved, revision="v1")
        assert "folder here and has no revision 'v1'" in message

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
    def test_a_folder_without_one_of_the_files_is_refused(self, saved, name):
        (saved / name).unlink()
        message = refused(RepoNotFoundError, AutoTranslator.from_pretrained, saved)
        assert f"has no {name}" in message

    def test_the_auto_class_is_not_built(self):
        with pytest.raises(OSError, match="from_pretrained"):
            AutoTranslator()


class TestHasFile:
    def test_a_folder_is_looked_into(self, saved):
        assert hub_module.has_file(str(saved), "config.json", revision=None)
        assert not hub_module.has_file(str(saved), "modules.json", revision=None)

    def test_a_repo_is_asked_once(self, pushed, api, hub):
        commit = api.model_info(pushed).sha
        for _ in range(2):
            assert hub_module.has_file(pushed, "config.json", revision=commit)
            assert not hub_module.has_file(pushed, "modules.json", revision=commit)
            asked = len(hub.log)
        assert not hub_module.has_file(pushed, "modules.json", revision=commit)
        assert len(hub.log) == asked

    def test_a_hub_that_fails_is_no_answer(self, pushed, api, hub, impatient):
        hub.fail(f"{pushed}/resolve/.*modules.json", status=500, times=20)
        commit = api.model_info(pushed).sha
        call = hub_module.has_file
        refused(HubUnavailableError, call, pushed, "modules.json", revision=commit)


class TestStrictness:
    @pytest.mark.parametrize(
        ("text", "telling"),
        [
            ("{", "not valid JSON"),
            ("", "not valid JSON"),
            ('{"n_pairs": NaN}', "n_pairs must be a finite number"),
            ('{"metrics": {"r2": [1, -Infinity]}}', "metrics.r2[1] must be a finite number"),
            ('{"params": {"alpha": 1e999}}', "params.alpha must be a finite number"),
            ('{"params": {"alpha": %s}}' % (10**400), "params.alpha must fit in 64 bits"),
            ('{"params": {"alpha": %s}}' % ("1" * 5000), "not valid JSON"),
            ('{"n_pairs": 5, "n_pairs": 6}', "the key 'n_pairs' stands twice in one object"),
            ('{"source": {"dim": 4, "dim": 3}}', "the key 'dim' stands twice in one object"),
            ('{"dataset": {"name": "\\ud800"}}', "dataset.name"),
            ('\ufeff{"n_pairs": 5}', "BOM"),
            ('{"n_pairs": 5} {}', "not valid JSON"),
            ('{"a":' * 65 + "1" + "}" * 65, "nested deeper than 64 levels"),
            ("[" * 100_000, "not valid JSON"),
            ("[]", "must hold a JSON object, got list"),
            ('"text"', "must hold a JSON object, got str"),
            ("null", "must hold a JSON object, got NoneType"),
            ("{}", "not a translator's"),
        ],
    )
    def test_a_config_that_is_none_is_refused(self, saved, text, telling):
        (saved / "config.json").write_text(text)
        assert telling in refused(ConfigError, AutoTranslator.from_pretrained, saved)

    def test_a_config_in_another_encoding_is_refused(self, saved):
        (saved / "config.json").write_bytes(b"\xff\xfe{\x00}\x00")
        assert "not valid JSON" in refused(ConfigError, AutoTranslator.from_pretrained, saved)

    def test_an_unknown_type_lists_the_known_ones(self, edit_config):
        message = refused(UnknownTranslatorError, edit_config, translator_type="procrustes")
        assert "'procrustes'" in message
        assert "'ortho'" in message

    def test_a_format_from_the_future_asks_for_an_upgrade(self, edit_config):
        assert "pip install -U" in refused(FormatVersionError, edit_config, format_version=99)

    @pytest.mark.parametrize(
        ("params", "telling"),
        [
            ({"gamma": 1}, "gamma"),
            ({"scaling": "huge"}, "huge"),
            ({"scaling": None}, "scaling must be one of"),
            ({"unit_norm": ["source"]}, "unit_norm must be one of"),
            ({"self": 1}, "self"),
        ],
    )
    def test_params_that_the_type_does_not_take_are_refused(self, edit_config, params, telling):
        message = refused(ConfigError, edit_config, params=params)
        assert telling in message
        assert "config.json: params of 'ortho'" in message

    @pytest.mark.parametrize("alpha", [-1, "big", None, [1]])
    def test_a_value_out_of_range_is_refused(self, edit_config, alpha):
        message = refused(
            ConfigError, edit_config, translator_type="affine", params={"alpha": alpha}
        )
        assert "params of 'affine'" in message

    def test_a_width_that_the_weights_do_not_have_is_refused(self, edit_config):
        message = refused(WeightsError, edit_config, source={"dim": 5})
        assert "shape (5, 3), got torch.float32 of (4, 3)" in message

    @pytest.mark.parametrize(
        ("tensors", "telling"),
        [
            ({"weight": torch.ones(4, 3)}, "missing ['bias']"),
            ({"bias": torch.ones(3)}, "missing ['weight']"),
            (
                {"weight": torch.ones(4, 3), "bias": torch.ones(3), "b": torch.ones(1)},
                "unexpected ['b']",
            ),
            (
                {"weight": torch.ones(3, 4), "bias": torch.ones(3)},
                "weight must be floating point of shape (4, 3)",
            ),
            (
                {"weight": torch.ones(12), "bias": torch.ones(3)},
                "weight must be floating point of shape (4, 3)",
            ),
            (
                {"weight": torch.ones(4, 3), "bias": torch.ones(1, 3)},
                "bias must be floating point of shape (3,)",
            ),
            ({"weight": torch.ones(4, 3).int(), "bias": torch.ones(3)}, "torch.int32"),
            (
                {"weight": torch.ones(4, 3), "bias": torch.tensor([1, float("nan"), 1])},
                "bias holds NaN",
            ),
            (
                {"weight": torch.full((4, 3), float("-inf")), "bias": torch.ones(3)},
                "weight holds NaN or infinity",
            ),
            ({"weight": torch.ones(4, 3), "bias": torch.ones(3).double()}, "share one dtype"),
            ({"weight": torch.ones(4, 3, dtype=torch.cfloat), "bias": torch.ones(3)}, "complex64"),
        ],
    )
    def test_weights_that_are_not_the_types_own_are_refused(
        self, replace_tensors, tensors, telling
    ):
        assert telling in refused(WeightsError, replace_tensors, **tensors)

    @pytest.mark.parametrize("keep", [0, 1, 8, 50, -1])
    def test_a_truncated_weights_file_is_refused(self, saved, keep):
        weights = saved / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:keep])
        message = refused(WeightsError, AutoTranslator.from_pretrained, saved)
        assert "truncated" in message

    def test_weights_of_another_save_are_refused(self, saved, tmp_path):
        fitted(1).save_pretrained(tmp_path / "other")
        (tmp_path / "other/model.safetensors").rename(saved / "model.safetensors")
        message = refused(WeightsError, AutoTranslator.from_pretrained, saved)
        assert "different saves" in message

    def test_one_changed_bit_of_the_weights_is_refused(self, saved):
        weights = saved / "model.safetensors"
        content = bytearray(weights.read_bytes())
        content[-4] ^= 1
        weights.write_bytes(content)
        assert "SHA-256" in refused(WeightsError, AutoTranslator.from_pretrained, saved)

    def test_a_pickle_under_the_name_of_the_weights_is_not_opened(self, saved):
        torch.save({"weight": torch.ones(4, 3)}, saved / "model.safetensors")
        assert "safetensors" in refused(WeightsError, AutoTranslator.from_pretrained, saved)

    def test_half_precision_formats_that_no_sum_takes_are_refused_or_work(self, replace_tensors):
        eight = {"weight": torch.ones(4, 3), "bias": torch.ones(3)}
        loaded = replace_tensors(**{k: v.to(torch.float8_e4m3fn) for k, v in eight.items()})
        assert loaded.transform(np.ones(4, np.float32)).tolist() == [5, 5, 5]

    def test_latents_of_another_width_are_refused(self, saved):
        loaded = AutoTranslator.from_pretrained(saved)
        assert "expecting 4" in refused(InvalidLatentsError, loaded.transform, np.ones((1, 5)))

    def test_extra_metadata_in_the_weights_does_not_pass_for_the_save(self, saved, translator):
        tensors = {"weight": translator.map_.weight, "bias": translator.map_.bias}
        (saved / "model.safetensors").write_bytes(to_safetensors(tensors, {"format": "np"}))
        refused(WeightsError, AutoTranslator.from_pretrained, saved)


class TestNames:
    """Empty names and names of the wrong type are refused before anything is read or written."""

    CALLS = (
        AutoTranslator.from_pretrained,
        OrthoTranslator.from_pretrained,
        Head.from_pretrained,
        LatentIndex.from_pretrained,
        StitchedModel.from_pretrained,
        ConvEncoder.from_pretrained,
        load_decoder,
        load_encoder,
        split_classifier,
    )

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        """A current folder that holds a translator, and a README.md of someone else beside it."""
        monkeypatch.chdir(tmp_path)
        fitted().save_pretrained(tmp_path)
        return tmp_path

    @pytest.mark.parametrize("name", ["", " ", "\t\n", None, 3, b"alice/x", ["alice/x"]])
    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
    def test_nothing_is_loaded(self, call, name):
        message = refused(InvalidNameError, call, name)
        assert "a repo id such as 'me/minilm-to-mpnet'" in message
        assert repr(name) in message

    @pytest.mark.parametrize("name", ["", "  ", None, 3])
    def test_nothing_is_saved_or_pushed(self, translator, folder, hub, name):
        before = {path: path.read_bytes() for path in folder.iterdir()}
        asked = len(hub.log)
        for published in (translator, fit_head(np.eye(4), [0, 0, 1, 1])):
            refused(InvalidNameError, published.save_pretrained, name)
            refused(InvalidNameError, published.push_to_hub, name)
        refused(InvalidNameError, save_results, name, {})
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        assert len(hub.log) == asked

    def test_both_builtin_errors_catch_it(self):
        for error in (TypeError, ValueError):
            with pytest.raises(error):
                AutoTranslator.from_pretrained(None)

    @pytest.mark.parametrize("name", [".", Path()])
    def test_the_current_folder_has_a_name(self, translator, name):
        assert same(AutoTranslator.from_pretrained(name), translator)


class TestReadmesOfOthers:
    TEXT = "# My project\n\nHow to build it.\n"

    @pytest.mark.parametrize(
        "text", [TEXT, f"---\nlibrary_name: transformers\n---\n{TEXT}", "---\na: [\n---\n"]
    )
    def test_a_save_leaves_them_alone_and_writes_nothing(self, translator, tmp_path, text):
        (tmp_path / "README.md").write_text(text)
        for published in (translator, fit_head(np.eye(4), [0, 0, 1, 1])):
            message = refused(ForeignFileError, published.save_pretrained, tmp_path)
            assert "choose another folder, or move that file away" in message
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
        assert (tmp_path / "README.md").read_text() == text

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("config.json", b'{"model_type": "bert", "architectures": ["BertModel"]}'),
            ("config.json", b"// settings of a project"),
            ("model.safetensors", b"weights of another model"),
            ("items.jsonl", b'{"text": "mine"}'),
        ],
    )
    def test_other_files_of_theirs_are_not_overwritten(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        index = LatentIndex.from_latents(np.eye(3), ["a", "b", "c"])
        message = refused(ForeignFileError, index.save_pretrained, tmp_path)
        assert str(tmp_path / name) in message
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: content}

    def test_nothing_is_half_written_where_a_folder_has_the_name_of_the_card(
        self, translator, tmp_path
    ):
        (tmp_path / "README.md").mkdir()
        refused(ForeignFileError, translator.save_pretrained, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]

    def test_nor_are_those_in_the_folder_of_a_view(self, tmp_path):
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs/config.json").write_text("{}")
        space = SharedSpace(2, alpha=1.0).fit({"docs": np.eye(9, 3), "code": np.eye(9, 4)})
        refused(ForeignFileError, space.save_pretrained, tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["docs"]

    def test_results_are_not_written_into_a_config_of_theirs(self, saved):
        (saved / "config.json").write_text("{}")
        refused(ForeignFileError, save_results, saved, {})
        assert (saved / "config.json").read_text() == "{}"

    @pytest.mark.parametrize("text", ["", "\n", "---\nlicense: mit\n---\n"])
    def test_one_without_any_text_is_taken(self, translator, tmp_path, text):
        (tmp_path / "README.md").write_text(text)
        translator.save_pretrained(tmp_path)
        card = (tmp_path / "README.md").read_text()
        assert "<!-- begin" in card
        assert ("license: mit" in card) == ("mit" in text)

    def test_a_card_whose_marks_were_removed_is_still_ours(self, translator, saved):
        (saved / "README.md").write_text("---\nlibrary_name: hf-latent-bridge\n---\nMine.\n")
        translator.save_pretrained(saved)
        assert "Mine." in (saved / "README.md").read_text()

    def test_results_are_not_saved_beside_one(self, saved):
        (saved / "README.md").write_text(self.TEXT)
        refused(ForeignFileError, save_results, saved, {})
        assert (saved / "README.md").read_text() == self.TEXT

    def test_a_repo_of_another_library_is_not_pushed_over(self, translator, repo_id, api):
        api.create_repo(repo_id)
        text = f"---\nlibrary_name: transformers\n---\n{self.TEXT}"
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo_id)
        before = api.model_info(repo_id).sha
        message = refused(ForeignFileError, translator.push_to_hub, repo_id)
        assert "a model of transformers" in message
        assert api.model_info(repo_id).sha == before

    def test_nor_is_one_that_holds_a_config_of_theirs_and_no_card(
        self, translator, repo_id, api, saved
    ):
        api.create_repo(repo_id)
        for name in ("config.json", "model.safetensors"):
            api.upload_file(path_or_fileobj=b"{}", path_in_repo=name, repo_id=repo_id)
        before = api.model_info(repo_id).sha
        message = refused(ForeignFileError, translator.push_to_hub, repo_id)
        assert f"config.json, model.safetensors in {repo_id!r} was not written by" in message
        refused(ForeignFileError, push_results, repo_id, {"r2": 1.0}, commit=before)
        assert api.model_info(repo_id).sha == before

    def test_a_repo_of_ours_that_lost_its_card_gets_one(self, pushed, translator, api):
        api.delete_file("README.md", pushed)
        translator.push_to_hub(pushed)
        assert "README.md" in api.list_repo_files(pushed)

    def test_a_repo_with_a_readme_typed_by_hand_keeps_its_text(self, translator, repo_id, api):
        api.create_repo(repo_id)
        text = f"---\nlicense: mit\n---\n{self.TEXT}"
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo_id)
        translator.push_to_hub(repo_id)
        card = Path(api.hf_hub_download(repo_id, "README.md")).read_text()
        assert "How to build it." in card
        assert "license: mit" in card
        assert "<!-- begin" in card


class TestFailedPushes:
    """A push that fails leaves neither a repo nor a branch behind that it made."""

    @pytest.fixture(autouse=True)
    def steps(self, hub, impatient):
        yield
        hub._faults.clear()

    @pytest.mark.parametrize("step", ["preupload", "commit/main", "validate-yaml"])
    def test_a_new_repo_goes_away_again(self, translator, repo_id, api, hub, step):
        path = step if step == "validate-yaml" else f"{repo_id}/{step}"
        hub.fail(path, status=500, times=20)
        refused(HubUnavailableError, translator.push_to_hub, repo_id)
        assert not api.repo_exists(repo_id)
        assert (translator.repo_id, translator.commit) == (None, None)

    def test_a_new_repo_that_cannot_be_looked_at_goes_away_too(self, translator, repo_id, api, hub):
        hub.fail(f"/api/models/{repo_id}", status=500, times=9, method="GET")
        refused(HubUnavailableError, translator.push_to_hub, repo_id)
        hub._faults.clear()
        assert not api.repo_exists(repo_id)

    def test_a_new_branch_goes_away_again(self, pushed, api, hub):
        hub.fail(f"{pushed}/commit/dev", status=500, times=20)
        refused(HubUnavailableError, fitted(1).push_to_hub, pushed, revision="dev")
        with pytest.raises(RevisionNotFoundError):
            api.model_info(pushed, revision="dev")

    def test_what_was_there_before_stays(self, pushed, translator, api, hub):
        api.create_branch(pushed, branch="dev")
        for branch in ("main", "dev"):
            hub.fail(f"{pushed}/commit/{branch}", status=500, times=20)
            refused(HubUnavailableError, fitted(1).push_to_hub, pushed, revision=branch)
            assert same(AutoTranslator.from_pretrained(pushed, revision=branch), translator)

    def test_an_interrupt_takes_the_new_repo_back_too(self, translator, repo_id, api, monkeypatch):
        def interrupted(*arguments, **keywords):
            raise KeyboardInterrupt

        monkeypatch.setattr(hub_module, "commit_files", interrupted)
        with pytest.raises(KeyboardInterrupt):
            translator.push_to_hub(repo_id)
        assert not api.repo_exists(repo_id)

    def test_a_repo_that_cannot_be_deleted_is_named(self, translator, repo_id, hub):
        hub.fail(f"{repo_id}/commit/main", status=500, times=20)
        hub.fail("/api/repos/delete", status=500, times=20)
        with pytest.raises(HubUnavailableError) as failure:
            translator.push_to_hub(repo_id)
        (note,) = failure.value.__notes__
        assert f"the repo {repo_id!r} was made for this push and could not be deleted" in note

    def test_a_push_that_was_never_sent_names_no_repo_that_is_left(
        self, translator, repo_id, monkeypatch
    ):
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(HubUnavailableError, match=repo_id) as failure:
            translator.push_to_hub(repo_id)
        assert not hasattr(failure.value, "__notes__")

    def test_a_commit_whose_answer_got_lost_is_not_deleted(
        self, translator, repo_id, api, monkeypatch
    ):
        original = hub_module.commit_files

        def lost(*arguments, **keywords):
            original(*arguments, **keywords)
            raise HubUnavailableError("the answer got lost")

        monkeypatch.setattr(hub_module, "commit_files", lost)
        with pytest.raises(HubUnavailableError, match="got lost") as failure:
            translator.push_to_hub(repo_id)
        assert "holds a commit, so it was kept" in failure.value.__notes__[0]
        assert same(AutoTranslator.from_pretrained(repo_id), translator)

    @pytest.mark.slow
    def test_a_server_without_xet_is_said_and_nothing_stays(self, repo_id, api):
        code = f"""
            import numpy as np
            from hf_latent_bridge import OrthoTranslator
            from hf_latent_bridge.errors import HubUnavailableError
            x = np.random.default_rng(0).standard_normal((50, 4))
            try:
                OrthoTranslator().fit(x, x).push_to_hub({repo_id!r})
            except HubUnavailableError as error:
                print("refused:", error)
        """
        output = python(code, HF_HUB_DISABLE_XET="0").stdout
        assert output.startswith(f"refused: the upload to {repo_id!r} on http://127.0.0.1:")
        assert "HF_HUB_DISABLE_XET=1" in output
        assert not api.repo_exists(repo_id)


@pytest.mark.slow
class TestASilentHub:
    """Nothing waits without end for a server that accepts and does not answer."""

    CALLS = (
        "AutoTranslator.from_pretrained('alice/silent')",
        "AutoTranslator.from_pretrained('alice/commit')",  # the commit is told, and no more
        "AutoTranslator.from_pretrained('alice/half-commit')",
        "AutoTranslator.from_pretrained('alice/half-file')",
        "load_encoder('alice/silent')",
        "load_encoder('alice/commit')",
        "load_decoder('alice/silent')",
        "load_pairs('alice/silent', split='train', source='text')",
        "load_pairs('alice/commit', split='train', source='text')",
        "LinearTranslator().fit(x, x).push_to_hub('alice/commit')",
    )

    # or it pauses for some seconds before each of its tries, and tells its maker how it went
    QUICK_XET: ClassVar = {
        "HF_HUB_DISABLE_XET": "0",
        "HF_XET_CLIENT_RETRY_BASE_DELAY": "50ms",
        "HF_XET_TELEMETRY_ENABLED": "false",
    }

    @staticmethod
    def told(calls, here):
        """What each call says in a process of its own, where they wait at the same time."""
        code = f"""
            from concurrent.futures import ThreadPoolExecutor
            import numpy as np
            from hf_latent_bridge import *
            from hf_latent_bridge.errors import HubUnavailableError
            x = np.random.default_rng(0).standard_normal((50, 4))
            def told(call):
                try:
                    return str(eval(call))
                except HubUnavailableError as error:
                    return " ".join(["refused:", *str(error).split(), *notes(error)])
            def notes(error):
                return getattr(error, "__notes__", [])
            with ThreadPoolExecutor({len(calls)}) as calls:
                print(*calls.map(told, {calls}), sep="\\n")
        """
        lines = python(code, **here, **LIMITS).stdout.splitlines()
        return dict(zip(calls, lines, strict=True))

    @staticmethod
    def answers(server):
        info = json.dumps({"id": "alice/x", "sha": COMMIT, "siblings": []}).encode()
        created = json.dumps({"url": f"{server.url}/alice/commit"}).encode()
        missing = answer(b"", status="404 Not Found", X_Error_Code="EntryNotFound")
        head = answer(b"x" * 100, sent=0, ETag='"e"', X_Repo_Commit=COMMIT)
        return {
            "POST /api/repos/create": answer(created),
            "GET /api/(models|datasets)/alice/(commit|half-file)": answer(info),
            "GET /api/models/alice/half-commit": answer(info, sent=20),
            "HEAD /alice/half-file": head,
            "HEAD /alice/commit/resolve/.*README": missing,
            "GET /alice/half-file": answer(b"x" * 100, sent=50),
        }

    def test_every_call_is_given_up_and_names_the_server(self, tmp_path):
        """In another process, whose limits are a second each."""
        with StuckServer() as server:
            server.answers = self.answers(server)
            here = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
            lines = self.told(self.CALLS, here)
        for call, line in lines.items():
            assert line.startswith("refused: "), call
            assert server.url in line, call
        left = "the repo 'alice/commit' was made for this push and could not be deleted"
        assert [left in line for line in lines.values()] == [False] * 9 + [True]

    def test_xet_is_given_up_too(self, tmp_path):
        calls = (
            "AutoTranslator.from_pretrained('alice/xet')",
            "LinearTranslator().fit(x, x).push_to_hub('alice/xet')",
        )
        with StuckServer() as server:
            server.answers = self.xet_answers(server)
            here = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path)}
            lines = self.told(calls, here | self.QUICK_XET)
        for line in lines.values():
            assert line.startswith("refused: ")
            assert "through Xet failed" in line
            assert "'alice/xet'" in line
        assert sum("/cas/" in request for request in server.requests) > 1

    @staticmethod
    def xet_answers(server):
        """A Hub that keeps its files in a Xet that says nothing."""
        info = {"id": "alice/xet", "sha": COMMIT, "siblings": []}
        until = int(time.time()) + 3600
        access = {"accessToken": "a", "exp": until, "casUrl": f"{server.url}/cas"}
        told = {"X_Xet_Cas_Url": access["casUrl"], "X_Xet_Access_Token": "a"}
        token = answer(json.dumps(access).encode(), X_Xet_Token_Expiration=str(until), **told)
        route = f"{server.url}/api/models/alice/xet/xet-read-token/{COMMIT}"
        names = ("README.md", "config.json", "model.safetensors")
        modes = [{"path": name, "uploadMode": "lfs", "shouldIgnore": False} for name in names]
        head = {"ETag": '"e"', "X_Repo_Commit": COMMIT, "X_Xet_Hash": "ab" * 32}
        return {
            "POST /api/repos/create": answer(
                json.dumps({"url": f"{server.url}/alice/xet"}).encode()
            ),
            "GET /api/models/alice/xet/xet": token,
            "GET /api/models/alice/xet": answer(json.dumps(info).encode()),
            "HEAD /alice/xet": answer(b"x" * 9, sent=0, X_Xet_Refresh_Route=route, **head),
            "POST /api/validate-yaml": answer(b"{}"),
            "POST /api/models/alice/xet/preupload": answer(json.dumps({"files": modes}).encode()),
            "POST /alice/xet.git": answer(b'{"transfer": "xet", "objects": []}'),
        }

    def test_the_command_line_gives_up_in_one_line(self, tmp_path):
        with StuckServer() as server:
            here = {"HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path), **LIMITS}
            run = warm.finished(
                *("-m", "hf_latent_bridge", "info", "alice/x"),
                check=False,
                env=os.environ | here,
                loaded=warm.BASE,
            )
        assert run.returncode == 1
        (line,) = run.stderr.splitlines()
        assert server.url in line

    def test_requests_of_others_keep_their_own_timeouts(self, pushed, api, monkeypatch):
        """After a load, the client that the process shares limits nothing by itself."""
        AutoTranslator.from_pretrained(pushed, force_download=True)
        seen = []
        session = get_session()
        monkeypatch.setitem(
            session.event_hooks,
            "request",
            [*session.event_hooks["request"], lambda r: seen.append(r.extensions["timeout"])],
        )
        api.model_info(pushed)
        assert [set(timeouts.values()) for timeouts in seen] == [{None}]


class TestSaving:
    def test_equal_translators_give_equal_bytes(self, tmp_path):
        for name in ("a", "b"):
            fitted().save_pretrained(tmp_path / name)
        for file in ("config.json", "model.safetensors", "README.md"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def test_a_loaded_translator_saves_the_bytes_it_was_loaded_from(self, saved, tmp_path):
        AutoTranslator.from_pretrained(saved).save_pretrained(tmp_path / "again")
        for file in ("config.json", "model.safetensors", "README.md"):
            assert (saved / file).read_bytes() == (tmp_path / "again" / file).read_bytes()

    def test_exactly_three_files_are_written(self, saved):
        assert {path.name for path in saved.iterdir()} == {
            "README.md",
            "config.json",
            "model.safetensors",
        }

    def test_modes_follow_the_umask(self, translator, tmp_path):
        old = os.umask(0o027)
        try:
            translator.save_pretrained(tmp_path / "saved")
        finally:
            os.umask(old)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "saved").iterdir()}
        assert modes == {0o640}

    def test_a_save_replaces_an_older_one(self, saved):
        fitted(1, LinearTranslator).save_pretrained(saved)
        assert same(AutoTranslator.from_pretrained(saved), fitted(1, LinearTranslator))

    def test_parent_folders_are_made(self, translator, tmp_path):
        translator.save_pretrained(tmp_path / "a/b/c")
        assert same(AutoTranslator.from_pretrained(tmp_path / "a/b/c"), translator)

    def test_a_file_in_the_place_of_the_folder_is_refused(self, translator, tmp_path):
        (tmp_path / "file").write_text("mine")
        with pytest.raises(NotADirectoryError, match="is a file"):
            translator.save_pretrained(tmp_path / "file")
        assert (tmp_path / "file").read_text() == "mine"

    @pytest.mark.parametrize("step", [0, 1, 2, 3])
    def test_a_disk_that_fails_in_the_middle_leaves_the_old_translator_or_the_new_one(
        self, saved, translator, monkeypatch, step
    ):
        original, done = Path.replace, []

        def replace(self, target):
            if len(done) == step:
                raise OSError(28, "No space left on device")
            done.append(target)
            return original(self, target)

        monkeypatch.setattr(Path, "replace", replace)
        with pytest.raises(OSError, match="No space"):
            fitted(1).save_pretrained(saved)
        monkeypatch.undo()
        expected = fitted(1) if step else translator  # the first names what the others move
        assert same(AutoTranslator.from_pretrained(saved), expected)
        assert len(list(saved.iterdir())) == (4 if step else 3)
        fitted(2).save_pretrained(saved)
        assert same(AutoTranslator.from_pretrained(saved), fitted(2))
        assert len(list(saved.iterdir())) == 3

    @pytest.mark.slow
    def test_of_savers_at_once_every_reader_sees_one(self, tmp_path):
        """Two processes save different maps into one folder, again and again, while we load."""
        code = """
            import sys, numpy as np
            from hf_latent_bridge import OrthoTranslator
            x = np.random.default_rng(0).standard_normal((50, 4))
            one = OrthoTranslator(scaling="none").fit(x, x * float(sys.argv[1]))
            for _ in range(8):
                one.save_pretrained(sys.argv[2])
        """
        words = "-c", textwrap.dedent(code)
        folder, outcomes = tmp_path / "both", set()
        with Warm(*words, 1, folder) as one, Warm(*words, -1, folder) as other:
            while one.poll() is None or other.poll() is None:
                outcomes.add(outcome(folder))
            outcomes.add(outcome(folder))
        assert (one.returncode, other.returncode) == (0, 0)
        assert outcomes <= {"nothing yet", "1", "-1"}
        assert outcomes & {"1", "-1"}
        assert len(list(folder.iterdir())) == 3


def outcome(folder):
    """Which map a folder holds: the sign of its diagonal must agree throughout."""
    try:
        loaded = AutoTranslator.from_pretrained(folder)
    except RepoNotFoundError:
        return "nothing yet"
    weight = loaded.map_.weight.double()
    for name, sign in (("1", 1), ("-1", -1)):
        if torch.allclose(weight, sign * torch.eye(4, dtype=torch.float64), atol=1e-5):
            return name
    return f"a mix: {weight}"


@pytest.mark.slow
class TestWithoutANetwork:
    @pytest.fixture
    def names(self, pushed):
        """A repo that the cache holds, and one that it does not."""
        AutoTranslator.from_pretrained(pushed)
        return pushed, f"{pushed}-missing"

    def attempts(self, names, **environment):
        """What another process gets: a number of pairs, or a refusal."""
        code = f"""
            from hf_latent_bridge import AutoTranslator
            from hf_latent_bridge.errors import HubUnavailableError
            def attempt(name, call):
                try:
                    print(name, call())
                except HubUnavailableError as error:
                    print(name, "refused:", error)
            load = AutoTranslator.from_pretrained
            attempt("cached", lambda: load({names[0]!r}).n_pairs_)
            attempt("missing", lambda: load({names[1]!r}).n_pairs_)
            attempt("push", lambda: load({names[0]!r}).push_to_hub({names[1]!r}))
        """
        run = python(code, **environment)
        assert "Traceback" not in run.stderr
        assert not any(token in run.stdout + run.stderr for token in TOKENS)
        return dict(line.split(" ", 1) for line in run.stdout.splitlines())

    def check(self, lines, names):
        assert lines["cached"] == "50"
        for line in (lines["missing"], lines["push"]):
            assert line.startswith("refused: the Hub at http://127.0.0.1:")
            assert "was not reached" in line
            assert names[1] in line

    def test_a_closed_port_leaves_what_is_cached(self, names):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.check(self.attempts(names, HF_ENDPOINT=f"http://127.0.0.1:{port}"), names)

    def test_offline_mode_leaves_what_is_cached(self, names):
        self.check(self.attempts(names, HF_HUB_OFFLINE="1"), names)


def test_threads_load_at_once(pushed, translator, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        loads = [
            pool.submit(AutoTranslator.from_pretrained, pushed, cache_dir=tmp_path)
            for _ in range(8)
        ]
        assert all(same(load.result(60), translator) for load in loads)
