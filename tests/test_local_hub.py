"""The embedded Hub behaves as the Hub does, towards the clients that people use."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import pytest
import torch
from datasets import Dataset, DatasetDict, load_dataset
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    EvalResult,
    HfApi,
    HfFileSystem,
    ModelCard,
    ModelCardData,
    get_safetensors_metadata,
    hf_hub_download,
    metadata_update,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from local_hub import LocalHub
from local_hub.store import Store
from processes import Process
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import AutoModel, BertConfig, BertModel, BertTokenizerFast

SCRIPT = Path(__file__).parents[1] / "scripts" / "local_hub"


def refusal(call, *arguments, **keywords):
    """The HTTP status with which the Hub refuses a call."""
    with pytest.raises(HfHubHTTPError) as refused:
        call(*arguments, **keywords)
    return refused.value.response.status_code


@pytest.fixture
def repo(api, repo_id):
    """A fresh model repo."""
    api.create_repo(repo_id)
    return repo_id


@pytest.fixture
def upload(api, repo):
    """Commit one file to the fresh repo."""

    def upload(content, path, user=api, **keywords):
        return user.upload_file(
            path_or_fileobj=content, path_in_repo=path, repo_id=repo, **keywords
        )

    return upload


@pytest.fixture
def download(repo, tmp_path):
    """Read one file of the fresh repo through a cache of its own."""

    def download(path, **keywords):
        keywords = {"cache_dir": tmp_path / "cache"} | keywords
        return Path(hf_hub_download(repo, path, **keywords)).read_bytes()

    return download


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "sub" / "notes.txt").write_text("hello")
    save_file({"w": torch.arange(12.0).reshape(3, 4)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def bob():
    return HfApi(token="hf_bob")


class TestUsersAndRepos:
    def test_a_token_names_its_user(self, api):
        assert api.whoami()["name"] == "alice"

    def test_an_unknown_token_is_refused(self):
        assert refusal(HfApi(token="hf_unknown").whoami) == 401

    def test_a_repo_exists_from_creation_to_deletion(self, api, repo_id):
        assert not api.repo_exists(repo_id)
        assert api.create_repo(repo_id).repo_id == repo_id
        assert api.repo_exists(repo_id)
        api.delete_repo(repo_id)
        assert not api.repo_exists(repo_id)

    def test_a_second_creation_is_refused_unless_exist_ok(self, api, repo):
        assert refusal(api.create_repo, repo) == 409
        assert api.create_repo(repo, exist_ok=True).repo_id == repo

    def test_only_own_namespaces_may_be_written(self, api):
        assert refusal(api.create_repo, "bob/not-mine") == 403
        assert api.create_repo("sentence-transformers/mine").repo_id.endswith("/mine")
        api.delete_repo("sentence-transformers/mine")

    @pytest.mark.parametrize("create_pr", [False, True])
    def test_a_read_only_token_cannot_write(self, upload, create_pr):
        reader = HfApi(token="hf_reader")
        assert refusal(upload, b"x", "x.txt", user=reader, create_pr=create_pr) == 403

    def test_an_added_organisation_may_publish(self, hub, repo_id):
        hub.add_user("hf_carol", "carol", orgs=["company"])
        carol, name = HfApi(token="hf_carol"), f"company/{repo_id.split('/')[1]}"
        carol.create_repo(name)
        assert carol.repo_exists(name)

    def test_what_is_not_implemented_says_so(self, api, repo):
        with pytest.raises(
            HfHubHTTPError, match=r"not implemented in the local Hub: GET .*/likers"
        ):
            list(api.list_repo_likers(repo))

    def test_a_client_that_wants_xet_is_told_how_to_do_without(self, hub, repo):
        reply = httpx2.get(f"{hub.url}/api/models/{repo}/xet-write-token/main")
        assert "HF_HUB_DISABLE_XET=1" in reply.headers["x-error-message"]

    def test_a_bug_shows_as_a_500_with_its_traceback(self, hub, capsys):
        headers = {"Authorization": "Bearer hf_alice"}
        reply = httpx2.post(f"{hub.url}/api/repos/create", content=b"not json", headers=headers)
        assert reply.status_code == 500
        assert "Traceback" in capsys.readouterr().err

    def test_an_unknown_search_filter_is_refused_not_ignored(self, api):
        with pytest.raises(HfHubHTTPError, match="not implemented in the local Hub"):
            list(api.list_models(inference="warm"))


class TestFiles:
    def test_an_uploaded_folder_comes_back_whole(self, api, repo, folder, tmp_path):
        api.upload_folder(repo_id=repo, folder_path=folder)
        snapshot = Path(snapshot_download(repo, cache_dir=tmp_path / "cache"))
        assert (snapshot / "sub" / "notes.txt").read_text() == "hello"
        assert load_file(snapshot / "model.safetensors")["w"].shape == (3, 4)

    def test_a_snapshot_takes_only_what_the_patterns_allow(self, api, repo, folder, tmp_path):
        api.upload_folder(repo_id=repo, folder_path=folder)
        target = tmp_path / "local"
        snapshot_download(repo, local_dir=target, allow_patterns=["*.json"])
        assert [path.name for path in target.iterdir() if path.is_file()] == ["config.json"]

    def test_weights_are_lfs_files_and_text_is_not(self, api, repo, folder):
        api.upload_folder(repo_id=repo, folder_path=folder)
        siblings = api.model_info(repo, files_metadata=True).siblings
        assert {file.rfilename for file in siblings if file.lfs} == {"model.safetensors"}

    def test_an_unchanged_folder_makes_no_commit(self, api, repo, folder):
        first = api.upload_folder(repo_id=repo, folder_path=folder)
        assert api.upload_folder(repo_id=repo, folder_path=folder).oid == first.oid

    def test_a_missing_file_and_a_missing_revision_are_told_apart(self, download):
        with pytest.raises(EntryNotFoundError):
            download("missing.json")
        with pytest.raises(RevisionNotFoundError):
            download("config.json", revision="missing")

    def test_a_tree_lists_files_and_folders(self, api, repo, folder):
        api.upload_folder(repo_id=repo, folder_path=folder)
        top = {".gitattributes", "config.json", "model.safetensors", "sub"}
        assert {node.path for node in api.list_repo_tree(repo)} == top
        every = {node.path for node in api.list_repo_tree(repo, recursive=True)}
        assert every == top | {"sub/notes.txt"}
        assert [node.path for node in api.list_repo_tree(repo, "sub")] == ["sub/notes.txt"]

    def test_paths_info_leaves_out_what_is_missing(self, api, repo, folder):
        api.upload_folder(repo_id=repo, folder_path=folder)
        found = api.get_paths_info(repo, ["sub", "config.json", "missing"])
        assert {node.path for node in found} == {"sub", "config.json"}

    def test_a_token_is_never_sent_to_where_lfs_files_are(self, hub, upload, download):
        before = len(hub.log)
        upload(b"lfs", "a.bin")
        assert download("a.bin") == b"lfs"
        moved = [line for line in hub.log[before:] if re.fullmatch(r"/_lfs/\w{64}", line.path)]
        assert {line.method for line in moved} == {"PUT", "GET"}
        assert not any(line.authorized or line.host.startswith("127.") for line in moved)

    @pytest.mark.parametrize("name", ["a.txt", "a.bin"])
    @pytest.mark.parametrize(
        ("asked", "status", "part"),
        [
            ("bytes=2-4", 206, b"234"),
            ("bytes=7-", 206, b"789"),
            ("bytes=-2", 206, b"89"),
            ("bytes=8-99", 206, b"89"),
            ("bytes=10-", 416, b""),
        ],
    )
    def test_ranges_are_served(self, hub, repo, upload, name, asked, status, part):
        upload(b"0123456789", name)
        reply = httpx2.get(
            f"{hub.url}/{repo}/resolve/main/{name}", headers={"Range": asked}, follow_redirects=True
        )
        assert (reply.status_code, reply.content) == (status, part)

    def test_headers_name_the_commit_and_the_content(self, hub, repo, upload):
        commit = upload(b"text", "a.txt").oid
        reply = httpx2.head(f"{hub.url}/{repo}/resolve/main/a.txt")
        assert reply.headers["x-repo-commit"] == commit
        assert (
            reply.headers["etag"] == f'"{hashlib.sha1(b"blob 4" + bytes(1) + b"text").hexdigest()}"'
        )
        assert reply.content == b""

    def test_a_file_of_many_chunks_comes_back_whole(self, upload, download):
        content = os.urandom(12_345_678)
        upload(content, "big.safetensors")
        assert download("big.safetensors") == content

    def test_a_safetensors_header_is_read_by_ranges(self, api, repo, folder):
        api.upload_folder(repo_id=repo, folder_path=folder)
        assert get_safetensors_metadata(repo).parameter_count == {"F32": 12}


class TestCommits:
    def test_operations_add_copy_and_delete(self, api, repo, upload):
        upload(b"b", "folder/b.txt")
        upload(b"weights", "w.safetensors")
        operations = [
            CommitOperationAdd("a.txt", b"a"),
            CommitOperationCopy("w.safetensors", "copy.safetensors"),
            CommitOperationCopy("folder/b.txt", "copy.txt"),
            CommitOperationDelete("folder/"),
            CommitOperationDelete("w.safetensors"),
        ]
        api.create_commit(repo, operations, commit_message="many")
        expected = {".gitattributes", "a.txt", "copy.safetensors", "copy.txt"}
        assert set(api.list_repo_files(repo)) == expected

    def test_a_commit_on_an_outdated_parent_is_refused(self, upload):
        parent = upload(b"1", "a.txt").oid
        upload(b"2", "a.txt")
        assert refusal(upload, b"3", "a.txt", parent_commit=parent) == 412

    def test_deleting_a_missing_file_is_refused(self, api, repo):
        with pytest.raises(EntryNotFoundError):
            api.delete_file("missing.txt", repo)

    def test_history_is_newest_first(self, api, repo, upload):
        upload(b"1", "a.txt", commit_message="first")
        upload(b"2", "a.txt", commit_message="second", commit_description="why")
        commits = api.list_repo_commits(repo)
        assert [commit.title for commit in commits] == ["second", "first", "initial commit"]
        assert commits[0].message == "why"

    def test_each_revision_serves_its_own_content(self, api, repo, upload, download):
        commit = upload(b"old", "a.txt").oid
        api.create_tag(repo, tag="v1")
        upload(b"new", "a.txt")
        assert download("a.txt") == b"new"
        assert download("a.txt", revision="v1") == b"old"
        assert download("a.txt", revision=commit) == b"old"

    def test_a_branch_grows_apart_from_main(self, api, repo, upload):
        api.create_branch(repo, branch="feature/x")
        upload(b"x", "x.txt", revision="feature/x")
        assert "x.txt" in api.list_repo_files(repo, revision="feature/x")
        assert "x.txt" not in api.list_repo_files(repo)

    @pytest.mark.slow
    def test_long_histories_are_paged(self, hub, api, repo, upload):
        for number in range(60):
            upload(b"%d" % number, "a.txt")
        assert len(api.list_repo_commits(repo)) == 61


class TestPullRequests:
    @pytest.fixture
    def proposal(self, bob, upload):
        return upload(b"x", "x.txt", user=bob, create_pr=True)

    def test_a_stranger_may_only_propose(self, bob, upload):
        assert refusal(upload, b"x", "x.txt", user=bob) == 403

    def test_a_proposal_leaves_main_alone(self, api, repo, proposal):
        assert proposal.pr_revision == "refs/pr/1"
        assert "x.txt" in api.list_repo_files(repo, revision="refs/pr/1")
        assert "x.txt" not in api.list_repo_files(repo)

    def test_only_its_author_and_the_owner_may_change_a_proposal(self, hub, bob, upload, proposal):
        hub.add_user("hf_mallory", "mallory")
        for user in (bob, HfApi(token="hf_alice")):
            upload(user.token.encode(), "x.txt", user=user, revision="refs/pr/1")
        mallory = HfApi(token="hf_mallory")
        assert refusal(upload, b"z", "x.txt", user=mallory, revision="refs/pr/1") == 403


class TestAccess:
    @pytest.mark.parametrize("token", [False, "hf_bob"])
    def test_a_private_repo_is_hidden(self, api, repo, upload, download, token):
        upload(b"{}", "config.json")
        api.update_repo_settings(repo, private=True)
        with pytest.raises(RepositoryNotFoundError):
            download("config.json", token=token)
        with pytest.raises(RepositoryNotFoundError):
            HfApi(token=token).model_info(repo)
        assert download("config.json", token="hf_alice") == b"{}"

    @pytest.mark.parametrize("token", [False, "hf_bob"])
    def test_a_gated_repo_shows_its_metadata_but_not_its_files(
        self, api, repo, upload, download, token
    ):
        upload(b"{}", "config.json")
        api.update_repo_settings(repo, gated="manual")
        assert HfApi(token=token).model_info(repo).gated == "manual"
        with pytest.raises(GatedRepoError):
            download("config.json", token=token)


class TestCardsAndSearch:
    @pytest.fixture
    def published(self, repo):
        data = ModelCardData(
            library_name="hf-latent-bridge",
            tags=["a-rare-tag"],
            license="apache-2.0",
            language="en",
            pipeline_tag="feature-extraction",
            base_model=["acme/source", "acme/target"],
            base_model_relation="adapter",
            datasets=["acme/pairs"],
            model_name="bridge",
            eval_results=[
                EvalResult(
                    task_type="feature-extraction",
                    dataset_type="acme/pairs",
                    dataset_name="pairs",
                    metric_type="cosine",
                    metric_value=0.91,
                )
            ],
        )
        card = ModelCard(f"---\n{data}\n---\n# Bridge\n")
        card.validate()
        card.push_to_hub(repo)
        yield repo
        HfApi().delete_repo(repo)

    @pytest.mark.parametrize(
        "query",
        [
            {"filter": "a-rare-tag"},
            {"filter": ["hf-latent-bridge", "base_model:acme/source"]},
            {"filter": "base_model:adapter:acme/target"},
            {"filter": ["a-rare-tag", "license:apache-2.0"], "pipeline_tag": "feature-extraction"},
            {"trained_dataset": "acme/pairs", "author": "alice"},
        ],
    )
    def test_a_card_makes_a_model_findable(self, api, published, query):
        assert [model.id for model in api.list_models(**query)] == [published]

    def test_a_search_finds_part_of_a_name(self, api, repo):
        assert repo in [model.id for model in api.list_models(search=repo[-5:])]

    def test_model_info_has_what_the_card_says(self, api, published):
        info = api.model_info(published)
        assert info.library_name == "hf-latent-bridge"
        assert info.card_data.eval_results[0].metric_value == 0.91

    def test_a_list_shows_cards_only_on_demand(self, api, published):
        (short,) = api.list_models(filter="a-rare-tag")
        (full,) = api.list_models(filter="a-rare-tag", full=True, cardData=True)
        (some,) = api.list_models(filter="a-rare-tag", expand=["cardData"])
        assert short.card_data is None
        assert full.card_data.base_model_relation == some.card_data.base_model_relation == "adapter"
        assert some.tags is None

    def test_lists_are_paged_and_sorted(self, hub, api, repo, repo_id):
        api.create_repo(f"{repo}-newer")
        url = f"{hub.url}/api/models?author=alice&sort=createdAt&limit=1"
        first = httpx2.get(url)
        second = httpx2.get(first.links["next"]["url"])
        assert [page.json()[0]["id"] for page in (first, second)] == [f"{repo}-newer", repo]

    def test_changed_metadata_changes_the_tags(self, api, published):
        metadata_update(published, {"tags": ["another"]}, overwrite=True)
        assert "another" in api.model_info(published).tags

    def test_a_broken_card_is_refused(self, api, repo, upload):
        with pytest.raises(ValueError, match="Invalid metadata"):
            upload(b"---\na: [\n---\n", "README.md")

    def test_a_license_must_be_text(self):
        with pytest.raises(ValueError, match="license"):
            ModelCard("---\nlicense: 3\n---\n").validate()


class TestFaults:
    def test_a_fault_strikes_as_often_as_asked(self, hub, upload, download):
        upload(b"x", "a.bin")
        hub.fail("/_lfs/", 503, times=1, method="GET")
        with pytest.raises(HfHubHTTPError):
            download("a.bin")
        assert download("a.bin") == b"x"

    def test_the_client_falls_back_on_its_cache(self, hub, upload, download):
        upload(b"x", "a.txt")
        download("a.txt")
        hub.fail("/resolve/", 500, method="HEAD")
        assert download("a.txt") == b"x"

    def test_an_upload_with_the_wrong_content_is_refused(self, hub):
        reply = httpx2.put(f"{hub.url}/_lfs/{'0' * 64}", content=b"x")
        assert reply.status_code == 400

    def test_an_upload_cut_off_midway_leaves_nothing(self, hub):
        name = hashlib.sha256(bytes(1000)).hexdigest()
        with socket.create_connection(("127.0.0.1", hub.port)) as connection:
            head = f"PUT /_lfs/{name} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
            connection.sendall(head.encode() + bytes(500))
            wait_until(lambda: list((hub.store.root / "incoming").iterdir()))
        wait_until(lambda: not list((hub.store.root / "incoming").iterdir()))
        assert httpx2.get(f"{hub.url}/_lfs/{name}").status_code == 404

    def test_a_commit_cut_off_midway_is_not_made(self, hub, api, repo):
        header = json.dumps({"key": "header", "value": {"summary": "half"}}) + "\n"
        file = json.dumps({"key": "file", "value": {"path": "a.txt", "content": "a"}}) + "\n"
        head = (
            f"POST /api/models/{repo}/commit/main HTTP/1.1\r\nHost: localhost\r\n"
            "Authorization: Bearer hf_alice\r\nContent-Length: 1000\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", hub.port)) as connection:
            connection.sendall((head + header + file).encode())
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(1000):
                pass
        assert [commit.title for commit in api.list_repo_commits(repo)] == ["initial commit"]


@pytest.mark.slow
class TestPersistence:
    @pytest.fixture
    def start_process(self, tmp_path):
        """Start a server as a process of its own; gives it and its address."""
        with contextlib.ExitStack() as stack:

            def start():
                command = [sys.executable, SCRIPT, "--port", "0", "--root", tmp_path]
                process = Process(command, stdout=subprocess.PIPE, text=True)
                stack.enter_context(process)
                stack.callback(process.kill)
                return process, re.search(r"http://[\d.:]+\d", process.stdout.readline())[0]

            yield start

    def test_a_restarted_server_serves_the_same_commits(self, tmp_path):
        with LocalHub(tmp_path) as hub:
            api = HfApi(hub.url, token="hf_alice")
            before = publish(api, "alice/kept")
            api.create_tag("alice/kept", tag="v1")
            file = CommitOperationAdd("b.txt", b"proposed")
            api.create_commit("alice/kept", [file], commit_message="b", create_pr=True)
        with LocalHub(tmp_path) as hub:
            api = HfApi(hub.url, token="hf_alice")
            assert api.model_info("alice/kept", revision="v1").sha == before
            assert "b.txt" in api.list_repo_files("alice/kept", revision="refs/pr/1")
            assert len(api.list_repo_commits("alice/kept")) == 2

    def test_a_folder_that_version_0_1_0_wrote_is_served(self, tmp_path):
        with LocalHub(tmp_path) as hub:
            before = publish(HfApi(hub.url, token="hf_alice"), "alice/kept")
        file = tmp_path / "state.json"
        state = json.loads(file.read_text())
        for repo in state["repos"]:
            del repo["pull_requests"]
            repo.update(discussions=[{"num": 1, "head": None}], access={"bob": "accepted"})
        file.write_text(json.dumps({**state, "moved": {}}))
        with LocalHub(tmp_path) as hub:
            assert HfApi(hub.url, token="hf_alice").model_info("alice/kept").sha == before

    def test_the_clients_cache_stays_valid_over_a_restart(self, tmp_path):
        wanted = {"repo_id": "alice/kept", "cache_dir": tmp_path / "cache", "token": "hf_alice"}
        with LocalHub(tmp_path / "hub") as hub:
            publish(HfApi(hub.url, token="hf_alice"), "alice/kept")
            first = snapshot_download(**wanted, endpoint=hub.url)
        with LocalHub(tmp_path / "hub") as hub:
            assert snapshot_download(**wanted, endpoint=hub.url) == first
            assert hf_hub_download(**wanted, endpoint=hub.url, filename="a.bin").startswith(first)
            assert not [line for line in hub.log if line.method == "GET" and "/_lfs" in line.path]
            assert [line.path for line in hub.log if "/resolve/" in line.path] == [
                "/alice/kept/resolve/main/a.bin"
            ]
            assert hub.log[-1].method == "HEAD"

    def test_a_folder_serves_one_server_at_a_time(self, tmp_path):
        with LocalHub(tmp_path), pytest.raises(RuntimeError, match="in use by another local Hub"):
            LocalHub(tmp_path)
        with LocalHub(tmp_path) as hub:
            assert hub.port

    def test_an_interrupted_save_leaves_the_old_state(self, tmp_path, monkeypatch):
        with LocalHub(tmp_path) as hub:
            publish(HfApi(hub.url, token="hf_alice"), "alice/kept")

        def interrupt(*paths):
            raise KeyboardInterrupt

        store = Store(tmp_path)
        store.repos.clear()
        monkeypatch.setattr("os.replace", interrupt)
        with pytest.raises(KeyboardInterrupt):
            store.save()
        monkeypatch.undo()
        store.close()
        with LocalHub(tmp_path) as hub:
            assert HfApi(hub.url, token="hf_alice").file_exists("alice/kept", "a.bin")

    @pytest.mark.slow
    def test_a_killed_server_leaves_a_loadable_state(self, start_process, tmp_path):
        for _ in range(3):
            process, url = start_process()
            HfApi(url, token="hf_alice").create_repo("alice/kept", exist_ok=True)
            acknowledged = []
            writer = threading.Thread(target=commit_until_killed, args=(url, acknowledged))
            writer.start()
            wait_until(lambda acknowledged=acknowledged: len(acknowledged) > 5)
            process.kill()
            process.wait(60)
            writer.join(60)
            assert not writer.is_alive()
            with LocalHub(tmp_path) as hub:
                (repo,) = hub.store.repos.values()
                history = [commit.oid for commit in repo.history(repo.main)]
                assert set(acknowledged) <= set(history)
                for entry in repo.main.tree.values():
                    assert len(hub.store.blobs.read(entry)) == entry.size

    @pytest.mark.slow
    def test_the_command_refuses_a_folder_in_use_and_stops_on_ctrl_c(self, start_process, tmp_path):
        process, url = start_process()
        command = [sys.executable, SCRIPT, "--port", "0", "--root", tmp_path]
        second = subprocess.run(command, check=False, stderr=subprocess.PIPE, timeout=60)
        assert second.returncode == 1
        assert b"in use by another local Hub" in second.stderr
        assert httpx2.get(f"{url}/api/models").json() == []
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert output.endswith("Stopped.\n")


@pytest.mark.slow
class TestLibraries:
    def test_the_file_system_reads_and_writes(self, api, repo_id, tmp_path):
        api.create_repo(repo_id, repo_type="space", space_sdk="gradio")
        assert api.space_info(repo_id).sdk == "gradio"
        files = HfFileSystem(token="hf_alice", skip_instance_cache=True)
        with files.open(f"spaces/{repo_id}/app.py", "w") as file:
            file.write("print(1)")
        assert f"spaces/{repo_id}/app.py" in files.ls(f"spaces/{repo_id}", detail=False)
        assert files.read_text(f"spaces/{repo_id}/app.py") == "print(1)"

    def test_transformers_pushes_and_loads(self, repo_id):
        pushed = tiny_bert()
        pushed.push_to_hub(repo_id)
        loaded = AutoModel.from_pretrained(repo_id)
        weights = [m.embeddings.word_embeddings.weight for m in (pushed, loaded)]
        assert torch.equal(*weights)

    def test_sentence_transformers_pushes_and_loads(self, repo_id, tmp_path):
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "small", "test"]
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
        tiny_bert().save_pretrained(tmp_path / "bert")
        bert = Transformer(str(tmp_path / "bert"))
        pushed = SentenceTransformer(modules=[bert, Pooling(16)], device="cpu")
        pushed.push_to_hub(repo_id)
        loaded = SentenceTransformer(repo_id, device="cpu")
        sentences = ["a small test", "a test"]
        assert (pushed.encode(sentences) == loaded.encode(sentences)).all()

    def test_datasets_pushes_loads_and_streams(self, repo_id, tmp_path):
        rows = Dataset.from_dict({"text": [f"t{i}" for i in range(20)], "label": list(range(20))})
        rows.push_to_hub(repo_id)
        loaded = load_dataset(repo_id, split="train", cache_dir=str(tmp_path))
        assert loaded.to_dict() == rows.to_dict()
        streamed = load_dataset(repo_id, split="train", streaming=True)
        assert [row["text"] for row in streamed] == rows["text"][:]

    def test_datasets_finds_configs_and_splits(self, api, repo_id, tmp_path):
        rows = Dataset.from_dict({"n": [1, 2, 3]})
        splits = DatasetDict({"train": rows, "test": rows.select([0])})
        splits.push_to_hub(repo_id, "small", private=True)
        api.create_tag(repo_id, tag="v1", repo_type="dataset")
        loaded = load_dataset(repo_id, "small", revision="v1", cache_dir=str(tmp_path))
        assert {name: split.num_rows for name, split in loaded.items()} == {"train": 3, "test": 1}


def tiny_bert():
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=8,
    )
    return BertModel(config)


def publish(api, repo_id):
    """Commit a regular and an LFS file; return the commit id."""
    api.create_repo(repo_id)
    files = [CommitOperationAdd("a.txt", b"text"), CommitOperationAdd("a.bin", b"binary")]
    return api.create_commit(repo_id, files, commit_message="publish").oid


def commit_until_killed(url, acknowledged):
    """Commit again and again, and note which commits the server confirmed."""
    while True:
        file = {"path": f"{len(acknowledged)}.txt", "content": os.urandom(50).hex()}
        lines = [
            {"key": "header", "value": {"summary": "more"}},
            {"key": "file", "value": file},
        ]
        try:
            reply = httpx2.post(
                f"{url}/api/models/alice/kept/commit/main",
                content="\n".join(map(json.dumps, lines)),
                headers={"Authorization": "Bearer hf_alice"},
            )
        except httpx2.TransportError:
            return
        acknowledged.append(reply.json()["commitOid"])


def wait_until(condition):
    """Wait for something that another thread or process brings about."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("waited in vain")
