"""The Space's README documents its API, and its examples run."""

import re
from pathlib import Path

import gradio_client
import numpy as np
import pytest

pytestmark = pytest.mark.slow

README = Path(__file__).resolve().parent.parent / "spaces_demo" / "README.md"
API = README.read_text().split("## API", 1)[1]
BLOCKS = re.findall(r"^```python\n(.*?)^```", API, re.MULTILINE | re.DOTALL)


def documented():
    return set(re.findall(r"^\| `(/\w+)` \|", API, re.MULTILINE))


def test_the_readme_names_the_spaces_endpoints_and_no_others(space):
    assert documented() == set(space.view_api(return_format="dict")["named_endpoints"])


def test_the_examples_of_the_readme_run(space, tmp_path, monkeypatch, capsys, repo_id, api):
    draw = np.random.default_rng(0)
    for name, width in (("old", 8), ("new", 12)):
        np.save(tmp_path / f"{name}.npy", draw.normal(size=(300, width)))
    monkeypatch.chdir(tmp_path)
    client = gradio_client.Client
    monkeypatch.setattr(gradio_client, "Client", lambda _: client(space.src, verbose=False))
    code = "".join(BLOCKS).replace("me/old-to-new", repo_id).replace("hf_...", "hf_alice")
    exec(compile(code, str(README), "exec"), {})
    assert "recall@1" in capsys.readouterr().out
    assert api.repo_info(repo_id).private
