"""The command line does what its help says, and refuses in one line."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import warm
import write_docs
from huggingface_hub import ModelCard
from processes import PATIENCE, Process, finished

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    OrthoTranslator,
    SpaceSpec,
    __version__,
    compose,
    evaluate_latents,
)
from hf_latent_bridge.encoders.image import IMAGE
from hf_latent_bridge.encoders.modality import MODALITIES
from hf_latent_bridge.translators.base import TRANSLATORS, methods
from hf_latent_bridge.vectors.formats import FORMATS, VectorFormat

# encoders with random weights tell nothing about each other
pytestmark = pytest.mark.filterwarnings("ignore::hf_latent_bridge.errors.UnrelatedPairsWarning")

COMMANDS = ("fit", "evaluate", "translate", "push", "info")


@pytest.fixture
def saved(tmp_path):
    """A saved translator from width 4 to width 3."""
    x = np.random.default_rng(0).standard_normal((50, 4), dtype=np.float32)
    source = SpaceSpec(4, repo_id="alice/a", modality="text")
    OrthoTranslator(scaling="center").fit(x, x[:, :3], source=source).save_pretrained(
        tmp_path / "saved"
    )
    return tmp_path / "saved"


@pytest.fixture
def encoders():
    """The options that name two tiny encoders, their pairs and a method that these determine."""
    names = tiny_models.bert_repo(), tiny_models.sentence_repo(seed=1)
    method = ["--type", "affine", "--param", "alpha=0.1"]
    return ["--source", names[0], "--target", names[1], *data(), *method]


def data():
    return ["--dataset", tiny_models.text_dataset_repo(), "--source-column", "text"]


def process(*arguments, **options):
    """The arguments that start the command line as a process of its own."""
    command = [sys.executable, "-m", "hf_latent_bridge", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return Process(command, **pipes, **options)


class TestFit:
    def test_it_saves_a_translator_that_names_its_spaces(self, facts, encoders, tmp_path):
        told = facts("fit", *encoders, "--split", "train", "--output", tmp_path / "out")
        loaded = AutoTranslator.from_pretrained(tmp_path / "out")
        assert type(loaded) is AffineTranslator
        assert loaded.n_pairs_ == told["n_pairs"] == 200
        assert loaded.source_.repo_id == encoders[1]
        assert loaded.source_.revision == tiny_models.commit_of(encoders[1])
        assert told["source"] == loaded.source_.to_dict()
        assert told["output"] == str(tmp_path / "out")
        assert told["metrics"] == {}

    def test_it_reports_on_a_held_out_split_and_saves_the_report(self, run, encoders, tmp_path):
        options = ["--split", "train", "--evaluate-split", "test", "--output", tmp_path / "out"]
        code, out, _ = run(
            "fit", *encoders, *options, "--param", "scaling=center", "--max-pairs", 150
        )
        assert code == 0
        loaded = AutoTranslator.from_pretrained(tmp_path / "out")
        assert loaded.n_pairs_ == 150
        assert (loaded.alpha, loaded.scaling) == (0.1, "center")
        assert loaded.metrics_["n_pairs"] == 60
        assert f"{loaded.metrics_['translated']['cosine']:.3f}" in out
        assert "saved in" in out
        assert "## Results" in (tmp_path / "out/README.md").read_text()

    @pytest.mark.parametrize(
        ("options", "telling"),
        [
            (["--type", "procrustes"], "--type must be one of affine, kernel, l_ortho, linear, "),
            (["--type", "composed"], "ortho, shared, spectral, auto, got 'composed'"),
            (["--param", "alpha"], "--param takes NAME=VALUE, got 'alpha'"),
            (["--param", "gamma=1"], "has no parameters ['gamma']"),
            (["--param", "scaling=huge"], "scaling must be one of"),
            (
                ["--type", "affine", "--param", "alpha=big"],
                "alpha must be 'auto' or a finite number >= 0, got 'big'",
            ),
        ],
    )
    def test_a_wrong_method_is_told_before_anything_is_loaded(
        self, refusal, hub, tmp_path, options, telling
    ):
        wanted = ["--source", "a/b", "--target", "a/b", "--dataset", "a/b"]
        asked = len(hub.log)
        line = refusal(
            "fit", *wanted, "--source-column", "text", "--output", tmp_path / "out", *options
        )
        assert telling in line
        assert len(hub.log) == asked
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("options", "telling"),
        [
            (["--split", "trian"], "'trian'"),
            (["--split", "train", "--evaluate-split", "tset"], "'tset'"),
            (["--split", "train", "--source-column", "txt"], "'txt'"),
            (["--split", "train", "--target-column", "fr"], "'fr'"),
            (["--split", "train", "--dataset", "alice/none"], "alice/none"),
        ],
    )
    def test_wrong_pairs_are_told_before_an_encoder_is_loaded(
        self, refusal, tmp_path, options, telling
    ):
        wanted = ["--source", "alice/none", "--target", "alice/none", *data()]
        assert telling in refusal("fit", *wanted, *options, "--output", tmp_path / "out")

    def test_a_missing_library_names_the_pip_command(self, refusal, tmp_path, monkeypatch):
        wanted = ["--source", "alice/none", "--target", "alice/none", *data()]
        monkeypatch.setitem(sys.modules, "datasets", None)
        line = refusal("fit", *wanted, "--split", "train", "--output", tmp_path / "out")
        assert "pip install" in line
        assert "hf-latent-bridge[encoders]" in line

    def test_a_missing_encoder_is_named(self, refusal, tmp_path):
        wanted = ["--source", "alice/none", "--target", "alice/none", *data()]
        line = refusal("fit", *wanted, "--split", "train", "--output", tmp_path / "out")
        assert "'alice/none'" in line

    def test_a_file_as_output_is_told_first(self, refusal, encoders, tmp_path):
        (tmp_path / "file").write_text("mine")
        line = refusal("fit", *encoders, "--split", "train", "--output", tmp_path / "file")
        assert f"a folder to save into is needed, and {tmp_path / 'file'} is a file" in line

    @pytest.mark.slow
    def test_quiet_means_quiet(self, encoders, tmp_path):
        """With an empty cache, where every library below has something to show."""
        environment = os.environ | {"HF_HOME": str(tmp_path / "home")}
        environment.pop("HF_HUB_DISABLE_PROGRESS_BARS")
        environment["PYTHONWARNINGS"] = "ignore:these 200 pairs explain no more"
        options = ["--split", "train", "--output", tmp_path / "out", "--quiet", "--json"]
        with process("fit", *encoders, *options, env=environment) as run:
            out, err = run.communicate(timeout=PATIENCE)
        assert (run.returncode, err) == (0, "")
        assert json.loads(out)["n_pairs"] == 200


class TestEvaluate:
    def test_it_tells_what_evaluate_tells(self, facts, encoders, tmp_path):
        facts("fit", *encoders, "--split", "train", "--output", tmp_path / "out")
        report = facts("evaluate", tmp_path / "out", *data(), "--split", "test")
        assert report["n_pairs"] == 60
        assert report.keys() >= {"translated", "untranslated", "shuffled"}
        sample = facts("evaluate", tmp_path / "out", *data(), "--split", "test", "--max-pairs", 7)
        assert sample["n_pairs"] == 7

    def test_a_missing_encoder_is_named(self, refusal, saved):
        assert "alice/a" in refusal("evaluate", saved, *data(), "--split", "test")

    def test_it_saves_into_the_folder_or_pushes_to_the_repo(
        self, run, facts, encoders, tmp_path, repo_id, api
    ):
        facts("fit", *encoders, "--split", "train", "--output", tmp_path / "out")
        facts("push", tmp_path / "out", repo_id)
        quick = [*data(), "--split", "test", "--bootstrap", 20, "--permutations", 19]
        told = facts("evaluate", tmp_path / "out", *quick, "--save")
        loaded = AutoTranslator.from_pretrained(tmp_path / "out")
        assert told == loaded.metrics_ | {"saved": str(tmp_path / "out")}
        assert (told["n_bootstrap"], told["n_permutations"]) == (20, 19)
        assert run("evaluate", tmp_path / "out", *quick, "--save")[1].endswith(
            f"\nsaved in {tmp_path / 'out'}\n"
        )
        told = facts("evaluate", repo_id, *quick, "--push")
        assert told["url"].endswith(api.model_info(repo_id).sha)
        assert AutoTranslator.from_pretrained(repo_id).metrics_ == loaded.metrics_
        results = ModelCard.load(repo_id).data.eval_results
        assert {r.metric_type: r.metric_value for r in results} == told["translated"]

    def test_a_place_that_does_not_fit_is_told_before_anything_is_encoded(
        self, refusal, saved, repo_id
    ):
        wanted = ["--dataset", "alice/none", "--source-column", "text"]
        assert "use --save" in refusal("evaluate", saved, *wanted, "--push")
        assert "--create-pr is for --push" in refusal("evaluate", saved, *wanted, "--create-pr")
        AutoTranslator.from_pretrained(saved).push_to_hub(repo_id)
        assert "use --push" in refusal("evaluate", repo_id, *wanted, "--save")


class TestTranslate:
    @pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
    def test_it_translates_a_file(self, facts, saved, tmp_path, dtype):
        x = np.random.default_rng(1).standard_normal((5, 4)).astype(dtype)
        np.save(tmp_path / "in.npy", x)
        told = facts("translate", saved, tmp_path / "in.npy", tmp_path / "out.npy")
        assert told == {
            "output": str(tmp_path / "out.npy"),
            "shape": [5, 3],
            "dtype": dtype,
            "kept": [],
            "dropped": [],
            "commit": None,
        }
        result = np.load(tmp_path / "out.npy")
        assert result.dtype == dtype
        np.testing.assert_array_equal(result, AutoTranslator.from_pretrained(saved).transform(x))

    @pytest.mark.slow
    def test_its_options_reach_the_translation(self, facts, refusal, saved, tmp_path):
        x = np.random.default_rng(1).standard_normal((5, 4))
        lines = (f'{{"x": {row}, "y": {row}, "id": 1}}\n' for row in x.tolist())
        (tmp_path / "in.jsonl").write_text("".join(lines))
        names = tmp_path / "in.jsonl", tmp_path / "out.safetensors"
        assert "name one as column" in refusal("translate", saved, *names)
        options = ["--column", "x", "--dtype", "float16", "--processes", 2, "--restart"]
        options += ["--chunk-size", 2, "--checkpoint-every", 2, "--timeout", 300]
        assert facts("translate", saved, *names, *options)["shape"] == [5, 3]
        told = json.loads((tmp_path / "out.safetensors.manifest.json").read_text())
        assert (told["rows"], told["dtype"], told["dropped"]) == (5, "float16", ["y", "id"])

    def test_a_scale_of_floating_numbers_is_refused(self, refusal, saved, tmp_path):
        np.save(tmp_path / "in.npy", np.ones((3, 4)))
        names = tmp_path / "in.npy", tmp_path / "out.npy"
        told = refusal("translate", saved, *names, "--scale", 0.5)
        assert "in.npy holds floating numbers, and a scale is for integers" in told

    def test_columns_that_the_output_has_no_room_for_are_told(self, run, saved, tmp_path):
        (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "b", "vector": [1.5, 2, 3, 4]}\n')
        code, out, _ = run("translate", saved, tmp_path / "in.jsonl", tmp_path / "out.npy")
        assert code == 0
        assert out.endswith("dropped, as this format has no room for them: id, text\n")
        code, out, _ = run("translate", saved, tmp_path / "in.jsonl", tmp_path / "out.csv")
        assert "dropped" not in out

    def test_a_format_that_is_not_written_lists_those_that_are(self, refusal, saved, tmp_path):
        np.save(tmp_path / "in.npy", np.ones((2, 4)))
        line = refusal("translate", saved, tmp_path / "in.npy", tmp_path / "out.xlsx")
        assert "out.xlsx is not written" in line
        assert ".npy, .npz, .safetensors" in line

    def test_people_get_a_sentence(self, run, saved, tmp_path):
        np.save(tmp_path / "in.npy", np.ones((1500, 4)))
        code, out, _ = run("translate", saved, tmp_path / "in.npy", tmp_path / "out.npy")
        assert (code, out) == (0, f"1,500 latents (dim=3) in {tmp_path / 'out.npy'}\n")

    @pytest.mark.parametrize(
        ("array", "telling"),
        [
            (np.ones((2, 5)), "5 features"),
            (np.array([{}], dtype=object), "not a whole .npy file of numbers"),
            (np.full((2, 4), np.nan), "NaN"),
        ],
    )
    def test_latents_that_do_not_fit_are_refused(self, refusal, saved, tmp_path, array, telling):
        np.save(tmp_path / "in.npy", array)
        assert telling in refusal("translate", saved, tmp_path / "in.npy", tmp_path / "out.npy")
        assert not (tmp_path / "out.npy").exists()

    def test_missing_files_and_folders_are_named(self, refusal, saved, tmp_path):
        np.save(tmp_path / "in.npy", np.ones((2, 4)))
        assert "no.npy" in refusal("translate", saved, tmp_path / "no.npy", tmp_path / "out.npy")
        line = refusal("translate", saved, tmp_path / "in.npy", tmp_path / "no" / "out.npy")
        assert "no folder" in line
        line = refusal("translate", saved, tmp_path / "in.npy", tmp_path / "in.npy")
        assert "same file" in line
        line = refusal("translate", tmp_path / "x", tmp_path / "in.npy", tmp_path / "out.npy")
        assert "neither an existing folder nor a repo id" in line


class TestPush:
    def test_it_publishes_the_folder(self, facts, saved, repo_id, api):
        told = facts("push", saved, repo_id, "--private", "--tag", "a", "--tag", "b")
        info = api.model_info(repo_id)
        assert told == {
            "repo_id": repo_id,
            "commit": info.sha,
            "url": f"{api.endpoint}/{repo_id}/commit/{info.sha}",
        }
        assert info.private
        assert {"a", "b"} <= set(info.tags)
        assert AutoTranslator.from_pretrained(repo_id).n_pairs_ == 50

    def test_words_in_the_folders_card_are_published(self, facts, saved, repo_id):
        with (saved / "README.md").open("a") as file:
            file.write("\nMy own words.\n")
        facts("push", saved, repo_id)
        assert "My own words." in ModelCard.load(repo_id).text

    def test_it_prints_the_address(self, run, saved, repo_id, api):
        code, out, _ = run("push", saved, repo_id, "--commit-message", "First")
        assert (code, out) == (
            0,
            f"{api.endpoint}/{repo_id}/commit/{api.model_info(repo_id).sha}\n",
        )
        assert api.list_repo_commits(repo_id)[0].title == "First"

    def test_a_pull_request_has_its_own_address(self, run, saved, repo_id, api):
        api.create_repo(repo_id)
        _, out, _ = run("push", saved, repo_id, "--create-pr")
        assert out == f"{api.endpoint}/{repo_id}/discussions/1\n"

    def test_a_branch_is_made(self, facts, saved, repo_id, api):
        facts("push", saved, repo_id, "--revision", "dev")
        assert "config.json" not in api.list_repo_files(repo_id)
        assert "config.json" in api.list_repo_files(repo_id, revision="dev")

    def test_a_missing_folder_never_asks_the_hub(self, refusal, tmp_path, hub):
        asked = len(hub.log)
        assert "there is no folder" in refusal("push", "minilm-to-mpent", "alice/x")
        assert len(hub.log) == asked

    def test_someone_elses_repo_is_refused(self, refusal, saved):
        assert "'bob/x'" in refusal("push", saved, "bob/x")


class TestInfo:
    def test_it_tells_what_the_config_says(self, facts, saved, repo_id, api):
        AutoTranslator.from_pretrained(saved).push_to_hub(repo_id)
        assert facts("info", repo_id, "--revision", "main") == {
            "translator_type": "ortho",
            "params": {"scale": False, "scaling": "center", "unit_norm": "none"},
            "source": {"dim": 4, "repo_id": "alice/a", "modality": "text"},
            "target": {"dim": 3},
            "items": None,
            "n_pairs": 50,
            "dataset": {},
            "metrics": {},
            "selection": None,
            "commit": api.model_info(repo_id).sha,
        }

    def test_people_get_one_fact_a_line(self, run, saved):
        code, out, err = run("info", saved)
        assert (code, err) == (0, "")
        assert out.splitlines()[:4] == [
            "translator_type  ortho",
            "params           scale=False, scaling=center, unit_norm=none",
            "source           dim=4, repo_id=alice/a, modality=text",
            "target           dim=3",
        ]
        assert "dataset          -" in out

    def test_results_are_shown_as_their_scores(self, run, tmp_path):
        x = np.random.default_rng(0).standard_normal((60, 2))
        translator = TRANSLATORS["ortho"]().fit(x, x)
        report = evaluate_latents(translator, x, x, n_bootstrap=10, n_permutations=10)
        translator.save_pretrained(tmp_path, metrics=report)
        line = next(line for line in run("info", tmp_path)[1].splitlines() if "metrics" in line)
        expected = "n_pairs=60, cosine=1, r2=1, recall@1=1, recall@10=1, mrr=1"
        assert sorted(line.split(maxsplit=1)[1].split(", ")) == sorted(expected.split(", "))

    def test_the_steps_of_a_composition_are_told(self, run, tmp_path):
        x = np.random.default_rng(0).standard_normal((60, 2))
        step = TRANSLATORS["linear"]().fit(x, x)
        compose(step, step).save_pretrained(tmp_path)
        out = run("info", tmp_path)[1]
        assert out.count("translator_type=linear") == 2
        assert "{" not in out

    def test_small_numbers_are_not_rounded_away(self, run, tmp_path):
        x = np.random.default_rng(0).standard_normal((20, 2))
        TRANSLATORS["affine"](alpha=0.0001).fit(x, x).save_pretrained(tmp_path)
        assert "alpha=0.0001," in run("info", tmp_path)[1]

    @pytest.mark.parametrize("name", ["alice/none", "./none"])
    def test_a_missing_translator_is_named(self, refusal, name):
        assert repr(name) in refusal("info", name)

    def test_a_message_of_several_lines_is_told_in_one(self, refusal, saved):
        (saved / "config.json").write_text('{"a":\n\n!}')
        assert "not valid JSON" in refusal("info", saved)


class TestUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["fly"],
            ["info"],
            ["info", "a", "b"],
            ["info", "a", "--token", "hf_x"],
            ["push", "folder"],
            ["fit", "--source", "a"],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--batch-size", "0"],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--max-pairs", "-1"],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--seed", "x"],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--seed", "-1"],
            ["gate", "--translator", "a", "--seed", str(2**64)],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--device", "warp"],
            ["evaluate", "a", "--dataset", "d", "--source-column", "c", "--device", "cuda:99"],
        ],
    )
    def test_bad_usage_exits_with_2(self, run, arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert err.startswith("usage: latent-bridge")
        assert "Traceback" not in err

    @pytest.mark.parametrize("blank", ["", " "])
    @pytest.mark.parametrize(
        ("name", "arguments"),
        [
            ("translator", ("info", None)),
            ("revision", ("info", "me/a-to-b", "--revision", None)),
            ("input", ("translate", "me/a-to-b", None, "out.npy")),
            ("output", ("translate", "me/a-to-b", "in.npy", None)),
            ("folder", ("push", None, "me/a-to-b")),
            ("tag", ("push", ".", "me/a-to-b", "--tag", "news", "--tag", None)),
            ("cache-dir", ("cache", "clear", "--cache-dir", None)),
            ("encoder", ("cache", "clear", "--encoder", None)),
        ],
    )
    def test_an_empty_argument_is_not_the_current_folder(self, refusal, name, arguments, blank):
        filled = [blank if argument is None else argument for argument in arguments]
        assert refusal(*filled).startswith(f"{name} must not be empty: give a value")

    @pytest.mark.parametrize("command", ["info", "push"])
    def test_what_one_process_does_is_not_done_by_several(self, refusal, command, monkeypatch):
        monkeypatch.setenv("WORLD_SIZE", "2")
        names = ["a", "b"][: 1 + (command == "push")]
        assert f"{command} is the work of one process" in refusal(command, *names)

    def test_the_version_is_told(self, run):
        assert run("--version") == (0, f"latent-bridge {__version__}\n", "")

    @pytest.mark.parametrize("command", COMMANDS)
    def test_the_help_of_each_command_has_an_example(self, run, command):
        code, out, _ = run(command, "--help")
        assert code == 0
        assert f"example:\n  latent-bridge {command} " in out

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_option_is_explained(self, command):
        for action in write_docs.commands()[command]._actions:
            assert action.help, action.dest

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_example_is_good_usage(self, command):
        parser = write_docs.commands()[command]
        words = parser.epilog.removeprefix("example:\n").replace("\\\n", " ").split()
        assert words[:2] == ["latent-bridge", command]
        parser.parse_args(words[2:])

    def test_the_help_names_every_type(self, run):
        _, out, _ = run("fit", "--help")
        text = " ".join(out.split())
        assert all(re.search(rf"\b{name}\b", text) for name in methods())

    def test_the_help_names_whatever_is_registered(self, run, monkeypatch):
        monkeypatch.setitem(TRANSLATORS, "toy", AffineTranslator)
        monkeypatch.setitem(FORMATS, "toy", VectorFormat("toy", (".toy",), "a toy", open))
        monkeypatch.setitem(MODALITIES, "smell", IMAGE)
        _, out, _ = run("fit", "--help")
        assert re.search(r"\btoy\b", out)
        assert ".toy" in out
        assert re.search(r"image,\s+smell,\s+text", out)

    def test_a_warning_is_one_line_and_the_hook_is_put_back(self, run, monkeypatch, tmp_path):
        import warnings

        from hf_latent_bridge import cli

        def warn(args):
            warnings.warn("few pairs", UserWarning, stacklevel=1)
            return {}, "done"

        verb = cli._COMMANDS["info"]
        monkeypatch.setitem(cli._COMMANDS, "info", (warn, *verb[1:]))
        hook = warnings.showwarning
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert run("info", "x") == (0, "done\n", "latent-bridge: warning: few pairs\n")
        assert warnings.showwarning is hook
        assert cli.commands.info is verb[0]


@pytest.mark.slow
class TestProcesses:
    def test_a_refusal_is_one_line_and_exit_1(self):
        run = warm.finished("-m", "hf_latent_bridge", "info", "alice/none", check=False)
        assert (run.returncode, run.stdout) == (1, "")
        assert len(run.stderr.splitlines()) == 1, run.stderr
        assert run.stderr.startswith("latent-bridge: error: no repo 'alice/none' on http://")

    def test_the_installed_command_works(self, saved):
        command = [Path(sys.executable).with_name("latent-bridge"), "info", saved, "--json"]
        out = finished(command).stdout
        assert json.loads(out)["n_pairs"] == 50

    def test_an_interrupt_exits_with_130(self):
        """Interrupted while a Hub that never answers is waited for."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
            command = ["-m", "hf_latent_bridge", "info", "alice/x"]
            environment = os.environ | {"HF_ENDPOINT": endpoint}
            with warm.Warm(*command, env=environment, loaded=warm.BASE) as run:
                connection, _ = silent.accept()
                run.send_signal(signal.SIGINT)
                out, err = run.communicate(timeout=PATIENCE)
                connection.close()
        assert (run.returncode, out, err) == (130, "", "latent-bridge: interrupted\n")

    def test_building_the_parser_loads_no_torch(self):
        code = (
            "import sys; from hf_latent_bridge import cli; cli.build_parser(); print(*sys.modules)"
        )
        command = [sys.executable, "-c", code]
        out = finished(command).stdout
        assert "hf_latent_bridge.cli" in out
        assert not {"torch", "huggingface_hub", "pyarrow"} & set(out.split())
