"""The card says what a stranger needs, is valid metadata, and keeps what people wrote."""

import os
import re

import numpy as np
import pytest
import warm
import yaml
from huggingface_hub import ModelCard

from hf_latent_bridge import (
    AffineTranslator,
    AutoTranslator,
    LinearTranslator,
    OrthoTranslator,
    SpaceSpec,
)
from hf_latent_bridge.errors import ConfigError
from hf_latent_bridge.hub.cards import describe_dataset, merge_card, render_card

COMMIT = "0123456789abcdef" * 2 + "01234567"
SCORES = {"cosine": 0.75, "r2": 0.5, "recall@1": 0.125, "recall@10": 0.25, "mrr": 0.1875}
CHANCE = {"cosine": 0.01, "r2": -1.5, "recall@1": 0.001, "recall@10": 0.01, "mrr": 0.005}


def fitted(kind=OrthoTranslator, named=True, **params):
    x = np.random.default_rng(0).standard_normal((1200, 4), dtype=np.float32)
    names = [{"repo_id": f"alice/{name}", "revision": COMMIT} if named else {} for name in "ab"]
    source = SpaceSpec(4, modality="text", pooling="mean", normalize=True, **names[0])
    translator = kind(**params).fit(x, x[:, :3], source=source, target=SpaceSpec(3, **names[1]))
    if named:
        translator.dataset_ = {"repo_id": "alice/news", "split": "train"}
    return translator


METRICS = {
    "n_pairs": 1000,
    "dataset": {"repo_id": "alice/news", "revision": COMMIT, "name": "en", "split": "test"},
    "translated": SCORES,
    "untranslated": CHANCE,
    "shuffled": CHANCE,
}


def card_of(translator, folder, metrics=None):
    translator.save_pretrained(folder, metrics=metrics)
    return (folder / "README.md").read_text()


def run_snippet(card, folder):
    """Run the Python block of a card in another process."""
    (code,) = re.findall("```python\n(.*?)```", card, re.DOTALL)
    return warm.finished("-c", code, cwd=folder, check=False)


class TestWhatItSays:
    def test_what_it_joins_and_at_which_commits(self, tmp_path):
        card = card_of(fitted(), tmp_path)
        assert "# a → b\n" in card
        assert f"| source | `alice/a` | `{COMMIT[:12]}` | 4 | mean | yes |" in card
        assert f"| target | `alice/b` | `{COMMIT[:12]}` | 3 | not stated | not stated |" in card

    def test_how_it_was_fitted(self, tmp_path):
        card = card_of(fitted(scaling="center"), tmp_path)
        assert "Method `ortho` with " in card
        assert "`scaling='center'`" in card
        assert "1,200 pairs of `alice/news` (split train)" in card

    def test_unnamed_spaces_are_told_by_their_width(self, tmp_path):
        card = card_of(fitted(named=False), tmp_path)
        assert "# 4-d latents → 3-d latents\n" in card
        assert "| source | not stated | not stated | 4 | mean | yes |" in card
        assert "fitted on\n1,200 pairs. The approach" in card
        assert "\n\n## Fit\n" in card

    def test_the_results_with_what_chance_gives(self, tmp_path):
        card = card_of(fitted(), tmp_path, METRICS)
        assert "On 1,000 pairs of `alice/news`" in card
        assert "| | cosine | r2 | recall@1 | recall@10 | mrr |\n|---|---|---|---|---|---|\n" in card
        assert "| translated | 0.750 | 0.500 | 0.125 | 0.250 | 0.188 |\n" in card
        assert "| shuffled | 0.010 | -1.500 | 0.001 | 0.010 | 0.005 |\n" in card

    def test_no_results_no_heading(self, tmp_path):
        assert "## Results" not in card_of(fitted(), tmp_path)

    @pytest.mark.parametrize(
        "metrics",
        [
            {"accuracy": 0.9},
            {"translated": "good"},
            {"translated": {}},
            {"translated": {"cosine": None}},
            {"translated": SCORES, "shuffled": {"cosine": 0.1}},
            {"dataset": None, "n_pairs": None, "translated": SCORES},
        ],
    )
    def test_metrics_of_ones_own_make_no_broken_card(self, tmp_path, metrics):
        card = card_of(fitted(), tmp_path, metrics)
        assert "None" not in card
        assert AutoTranslator.from_pretrained(tmp_path).metrics_ == metrics

    def test_no_blank_line_is_doubled_and_no_template_mark_left(self, tmp_path):
        for card in (
            card_of(fitted(), tmp_path / "a"),
            card_of(fitted(), tmp_path / "b", METRICS),
        ):
            assert "\n\n\n" not in card
            assert not re.search(r"\{[%{]|[%}]\}", card)
            assert card.endswith("<!-- end -->\n")

    def test_no_path_of_this_machine_is_in_it(self, tmp_path):
        translator = fitted()
        translator.source_ = SpaceSpec(4, repo_id=str(tmp_path / "model"), modality="text")
        data = yaml.safe_load(card_of(translator, tmp_path / "x").split("---")[1])
        assert data["base_model"] == ["alice/b"]
        translator.source_ = SpaceSpec(4)
        card = card_of(translator, tmp_path / "y")
        assert str(tmp_path) not in card
        assert os.path.expanduser("~") not in card

    @pytest.mark.parametrize(
        ("dataset", "text"),
        [
            ({}, ""),
            ({"source": "en", "target": "de"}, "source column en, target column de"),
            ({"repo_id": "me/x", "revision": COMMIT}, f"`me/x` (revision {COMMIT[:12]})"),
            ({"name": "en", "max_pairs": 9}, "configuration en, sample of 9"),
            ({"repo_id": "me/x"}, "`me/x`"),
            (
                {"parts": [{"repo_id": "me/x", "split": "train"}, {"repo_id": "me/y"}, {}]}
                | {"max_pairs": 9, "seed": 1, "anchors": "kmeans++"},
                "`me/x` (split train) and `me/y` and pairs of no dataset, sample of 9, seed 1, "
                "anchors kmeans++",
            ),
            (
                {"repo_id": "me/x", "deduplicated": True, "bad_rows_skipped": 1200},
                "`me/x` (without duplicates, 1,200 bad rows skipped)",
            ),
            ({"repo_id": "me/x", "split": "train", "name": None}, "`me/x` (split train)"),
        ],
    )
    def test_a_dataset_is_told_in_one_line(self, dataset, text):
        assert describe_dataset(dataset) == text


class TestMetadata:
    @pytest.fixture
    def data(self, repo_id):
        fitted().push_to_hub(repo_id, metrics=METRICS, tags=["news"])
        return ModelCard.load(repo_id, ignore_metadata_errors=False).data

    def test_it_names_library_task_and_tags(self, data):
        assert data.library_name == "hf-latent-bridge"
        assert data.pipeline_tag == "feature-extraction"
        assert data.tags == [
            "latent-translation",
            "translator:ortho",
            "source_encoder:alice/a",
            "target_encoder:alice/b",
            "news",
        ]

    def test_it_names_both_encoders_and_the_dataset(self, data):
        assert data.base_model == ["alice/a", "alice/b"]
        assert data.base_model_relation == "adapter"
        assert data.datasets == ["alice/news"]

    def test_the_model_index_holds_the_metrics(self, data):
        assert {r.metric_type: r.metric_value for r in data.eval_results} == SCORES
        (place,) = {
            (r.dataset_name, r.dataset_config, r.dataset_split, r.dataset_revision)
            for r in data.eval_results
        }
        assert place == ("alice/news", "en", "test", COMMIT)

    def test_all_datasets_of_a_fit_are_named_and_an_evaluation_of_one_repo_is_indexed(
        self, tmp_path
    ):
        translator = fitted()
        parts = [{"repo_id": name, "split": "train"} for name in ("me/x", "me/y", "me/x")]
        translator.dataset_ = {"parts": parts}
        of_one = METRICS | {"dataset": {"parts": [parts[0], parts[2]]}}
        data = ModelCard(card_of(translator, tmp_path / "one", of_one)).data
        assert data.datasets == ["me/x", "me/y"]
        assert {result.dataset_type for result in data.eval_results} == {"me/x"}
        of_two = METRICS | {"dataset": {"parts": parts}}
        assert ModelCard(card_of(translator, tmp_path / "two", of_two)).data.eval_results is None

    def test_no_licence_is_chosen_for_the_user(self, data):
        assert "license" not in data.to_dict()

    def test_one_encoder_on_both_sides_is_named_once(self, tmp_path):
        translator = fitted()
        translator.target_ = SpaceSpec(3, repo_id="alice/a")
        data = yaml.safe_load(card_of(translator, tmp_path).split("---")[1])
        assert data["base_model"] == ["alice/a"]

    def test_what_is_not_known_is_left_out(self, tmp_path):
        data = yaml.safe_load(card_of(fitted(named=False), tmp_path).split("---")[1])
        assert data.keys() == {"library_name", "pipeline_tag", "tags"}


@pytest.mark.slow
class TestTheSnippet:
    def test_the_one_for_arrays_runs_from_the_hub(self, repo_id, tmp_path):
        fitted(named=False).push_to_hub(repo_id)
        run = run_snippet(ModelCard.load(repo_id).text, tmp_path)
        assert (run.stdout, run.returncode) == ("(1, 3)\n", 0), run.stderr

    def test_the_one_for_texts_runs_with_its_encoder(self, repo_id, tmp_path):
        import tiny_models

        from hf_latent_bridge import fit_translator, load_encoder

        encoder = load_encoder(tiny_models.bert_repo(), pooling="cls")
        texts = tiny_models.sentences(40, tiny_models.EN)
        translator = AffineTranslator(alpha=0.1)
        fit_translator(translator, encoder, encoder, (texts, texts)).push_to_hub(repo_id)
        card = ModelCard.load(repo_id).text
        assert "load_encoder(translator.source_)" in card
        run = run_snippet(card, tmp_path)
        assert run.stdout.endswith("torch.Size([1, 16])\n"), run.stderr

    def test_a_folders_snippet_names_a_folder_to_fill_in(self, tmp_path):
        card = card_of(fitted(named=False), tmp_path)
        assert 'from_pretrained("path/to/this/folder")' in card


class TestPeoplesEdits:
    @pytest.fixture
    def edit(self, repo_id, api):
        """Push a translator, change its card on the Hub, push another one, read the card."""

        def edit(change, second=None):
            fitted().push_to_hub(repo_id, tags=["news"])
            text = change(api.hf_hub_download(repo_id, "README.md"))
            api.upload_file(
                path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo_id
            )
            (second or fitted(LinearTranslator)).push_to_hub(repo_id)
            return ModelCard.load(repo_id)

        return edit

    @staticmethod
    def read(path):
        with open(path, encoding="utf-8") as file:
            return file.read()

    def test_prose_around_the_generated_part_stays(self, edit):
        def change(path):
            text = self.read(path).replace("<!-- begin", "Before it.\n\n<!-- begin")
            return f"{text}\n## Licence of the data\n\nAfter it.\n"

        text = edit(change).text
        assert text.index("Before it.") < text.index("# a → b") < text.index("After it.")

    def test_the_generated_part_is_renewed(self, edit):
        card = edit(self.read)
        assert "Method `linear`" in card.text
        assert "ortho" not in card.content

    def test_edits_inside_the_marks_are_replaced(self, edit):
        card = edit(lambda path: self.read(path).replace("## Limits", "## No limits"))
        assert "## No limits" not in card.text

    def test_metadata_of_ones_own_stays(self, edit):
        def change(path):
            return self.read(path).replace("---\n", "---\nlicense: mit\nlanguage: de\n", 1)

        data = edit(change).data
        assert (data.license, data.language) == ("mit", "de")
        assert data.base_model == ["alice/a", "alice/b"]

    def test_tags_of_ones_own_stay(self, edit):
        def change(path):
            return self.read(path).replace("- news\n", "- news\n- medical\n")

        assert edit(change).data.tags == [
            "latent-translation",
            "translator:linear",
            "source_encoder:alice/a",
            "target_encoder:alice/b",
            "news",
            "medical",
        ]

    def test_windows_line_ends_change_nothing(self, edit):
        card = edit(lambda path: self.read(path).replace("\n", "\r\n") + "\r\nMine.\r\n")
        assert card.text.count("## Limits") == 1
        assert "Mine." in card.text

    def test_a_card_written_from_nothing_gets_the_generated_part_below(self, edit):
        text = edit(lambda path: "---\nlicense: mit\n---\n\n# My map\n").text
        assert text.strip().startswith("# My map\n\n<!-- begin: written by hf-latent-bridge")

    def test_a_lost_end_mark_never_costs_what_follows(self, edit, repo_id):
        def change(path):
            return self.read(path).replace("<!-- end -->", "") + "\nMy own words.\n"

        assert "My own words." in edit(change).text
        fitted(scaling="none").push_to_hub(repo_id)
        text = ModelCard.load(repo_id).text
        assert "My own words." in text
        assert "`scaling='none'`" in text

    def test_results_do_not_outlive_the_fit(self, repo_id):
        fitted().push_to_hub(repo_id, metrics=METRICS)
        fitted().push_to_hub(repo_id)
        card = ModelCard.load(repo_id)
        assert card.data.eval_results is None
        assert "## Results" not in card.text

    def test_a_push_after_an_edit_is_stable(self, edit, repo_id, api):
        card = edit(lambda path: f"{self.read(path)}\nMine.\n")
        before = api.model_info(repo_id).sha
        fitted(LinearTranslator).push_to_hub(repo_id)
        assert api.model_info(repo_id).sha == before
        assert ModelCard.load(repo_id).content == card.content

    def test_prose_in_a_folder_is_kept_by_a_save_and_by_the_first_push(self, tmp_path, repo_id):
        card_of(fitted(), tmp_path)
        with (tmp_path / "README.md").open("a") as file:
            file.write("\nMy own words.\n")
        assert "My own words." in card_of(fitted(LinearTranslator), tmp_path)
        loaded = AutoTranslator.from_pretrained(tmp_path)
        assert "My own words." in card_of(loaded, tmp_path / "elsewhere")
        loaded.push_to_hub(repo_id)
        text = ModelCard.load(repo_id).text
        assert "My own words." in text
        assert "path/to/this/folder" not in text

    def test_a_card_in_another_encoding_is_refused_and_left_alone(self, tmp_path):
        (tmp_path / "README.md").write_bytes("Übersetzer".encode("latin-1"))
        with pytest.raises(ConfigError, match="must be UTF-8"):
            fitted().save_pretrained(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["README.md"]

    @pytest.mark.parametrize(
        "header", ["a: [", "- a\n- b", "a: b: c", "tags: 3", "1: x", "eval_results: 3"]
    )
    def test_broken_metadata_is_refused_and_left_alone(self, tmp_path, header):
        card = card_of(fitted(), tmp_path)
        broken = f"---\n{header}\n---\n{card[card.index('<!-- begin') :]}"
        (tmp_path / "README.md").write_text(broken)
        with pytest.raises(ConfigError, match="must be a YAML mapping"):
            fitted(LinearTranslator).save_pretrained(tmp_path)
        assert (tmp_path / "README.md").read_text() == broken
        assert type(AutoTranslator.from_pretrained(tmp_path)) is OrthoTranslator


@pytest.mark.parametrize(
    "metrics",
    [
        {"translated": {"cosine": 0.5}, "chance": {"cosine": 1}, "intervals": {"cosine": 3}},
        {"chance": {"a": {}}, "dataset": 3},
        {"dataset": {"parts": 3, "revision": 7}},
    ],
)
def test_metrics_of_another_form_do_not_end_a_save(metrics, tmp_path):
    fitted().save_pretrained(tmp_path, metrics=metrics)
    loaded = AutoTranslator.from_pretrained(tmp_path)
    loaded.save_pretrained(tmp_path)
    assert loaded.metrics_ == metrics


def test_equal_input_gives_an_equal_card():
    config = {
        "translator_type": "ortho",
        "params": {},
        "source": {"dim": 4},
        "target": {"dim": 3},
        "n_pairs": 5,
        "dataset": {},
        "metrics": {},
    }
    first = render_card(config, repo_id="me/x")
    assert first == render_card(config, repo_id="me/x")
    assert merge_card(first, first) == first
    assert "Method `ortho`, fitted on\n5 pairs." in first
