"""The Space's repo as the embedded Hub holds it after a push."""

import ast

import publish
import pytest
import yaml
from huggingface_hub import HfApi, RepoCard, snapshot_download
from space import publish as script
from space.publish import PACKAGE, ROOT, missing_requirements, publish_space, space_files


@pytest.fixture(scope="module")
def pushed(tmp_path_factory):
    """The repo's id and its files."""
    publish_space("alice/latent-bridge", token="hf_alice")
    folder = tmp_path_factory.mktemp("space")
    snapshot_download("alice/latent-bridge", repo_type="space", local_dir=folder)
    return "alice/latent-bridge", folder


def header(folder):
    return RepoCard.load(folder / "README.md", repo_type="space").data


def test_the_repo_holds_the_app_the_library_and_the_licence(pushed):
    _, folder = pushed
    ast.parse((folder / "app.py").read_text())
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    for path in PACKAGE.rglob("*.py"):
        assert (folder / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert (folder / "hf_latent_bridge/hub/translator_card.md").exists()
    assert not list(folder.rglob("*.pyc"))


def test_everything_comes_in_one_commit(pushed, api):
    commits = api.list_repo_commits(pushed[0], repo_type="space")
    assert [commit.title for commit in commits] == ["Upload the Space", "initial commit"]


def test_the_hub_reads_the_header(pushed, api):
    data = header(pushed[1])
    assert (data.sdk, data.license, data.app_file) == ("gradio", "apache-2.0", "app.py")
    assert data.python_version == "3.11"
    assert "hf-latent-bridge" in data.tags
    info = api.space_info(pushed[0])
    assert info.sdk == "gradio"
    assert "license:apache-2.0" in info.tags


def test_the_header_names_the_parts_in_the_namespace_of_the_space(pushed):
    data = header(pushed[1])
    assert {"alice/minilm-to-mpnet", "alice/picture-index"} <= set(data.models)
    assert "sentence-transformers/all-mpnet-base-v2" in data.models
    assert data.datasets == ["alice/demo-news", "alice/demo-pictures", "alice/demo-fashion"]


def test_the_app_reads_the_namespace_from_its_settings(pushed):
    from settings import Settings

    settings = Settings.read(pushed[1] / "settings.json")
    assert settings.repo_id("news-head") == "alice/news-head"


def test_the_sdk_is_the_gradio_that_is_pinned(pushed):
    lines = (pushed[1] / "requirements.txt").read_text().splitlines()
    assert f"gradio=={header(pushed[1]).sdk_version}" in lines


def test_an_unchanged_space_makes_no_commit(pushed, api):
    before = api.space_info(pushed[0]).sha
    assert publish_space(pushed[0], token="hf_alice").oid == before
    assert api.space_info(pushed[0]).sha == before


def test_a_module_that_is_gone_is_removed_and_what_others_added_stays(api, repo_id):
    publish_space(repo_id, token="hf_alice")
    for name in ("hf_latent_bridge/old.py", "notes.txt"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo=name, repo_id=repo_id, repo_type="space")
    publish_space(repo_id, token="hf_alice")
    assert "notes.txt" in (files := api.list_repo_files(repo_id, repo_type="space"))
    assert "hf_latent_bridge/old.py" not in files


def test_a_pull_request_leaves_the_main_branch_alone(pushed, api):
    before = api.space_info(pushed[0]).sha
    commit = publish_space(pushed[0], namespace="acme", create_pr=True, token="hf_alice")
    assert commit.pr_revision == "refs/pr/1"
    assert api.space_info(pushed[0]).sha == before


def test_a_private_space_is_private(api, repo_id):
    publish_space(repo_id, private=True, token="hf_alice")
    assert api.space_info(repo_id).private


def test_the_command_says_where_the_space_is(repo_id, capsys):
    assert publish.main(["space", repo_id, "--token", "hf_alice"]) == 0
    assert capsys.readouterr().out.startswith(f"{HfApi().endpoint}/spaces/{repo_id}/commit/")


def test_a_token_that_may_not_write_is_one_clear_line_and_is_not_shown(repo_id, capsys):
    assert publish.main(["space", repo_id, "--token", "hf_bob"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert "hf_bob" not in captured.err


def test_the_requirements_cover_what_the_library_needs_at_the_tested_versions():
    assert missing_requirements() == []
    constraints = (ROOT / "constraints.txt").read_text().lower().splitlines()
    for line in (script.SPACE / "requirements.txt").read_text().lower().splitlines():
        if line[0] not in "#-":
            assert line in constraints


def test_a_dependency_that_the_space_lacks_is_named(monkeypatch, tmp_path, repo_id):
    monkeypatch.setattr(script, "SPACE", tmp_path)
    (tmp_path / "requirements.txt").write_text("torch==1.0\n")
    assert {"torch>=2.6", "safetensors>=0.8"} <= set(missing_requirements())
    with pytest.raises(ValueError, match="must name and pin"):
        publish_space(repo_id, token="hf_alice")
    assert not HfApi().repo_exists(repo_id, repo_type="space")


def test_only_the_header_changes_with_the_namespace():
    one, other = (space_files(name) for name in ("one", "other"))
    differing = {name for name in one if one[name] != other[name]}
    assert differing == {"README.md", "settings.json"}
    bodies = {files["README.md"].decode().partition("\n---\n")[2] for files in (one, other)}
    assert len(bodies) == 1
    assert yaml.safe_load(one["settings.json"])["namespace"] == "one"
