"""The tab "Across models": its rankings are the library's, and bad queries get one sentence."""

import numpy as np
import pytest
from gradio_client.exceptions import AppError
from limits import MAX_TEXT, Refusal
from repos import Repos
from settings import Settings
from tabs.across import CODE, TOP_K, VIEWS, search_across, search_shared

from hf_latent_bridge import AutoTranslator, load_decoder, load_encoder, stitch

pytestmark = pytest.mark.slow

QUERY = "the red dog runs"


def rows(ranking):
    return [found["row"] for found in ranking["found"]]


def test_the_rankings_are_the_librarys_own(repos):
    own, translated, _, _ = search_across(repos, QUERY)
    translator = AutoTranslator.from_pretrained("acme/minilm-to-mpnet")
    index = load_decoder("acme/news-index")
    expected = stitch(load_encoder(translator.target_), None, index)(QUERY, top_k=TOP_K)
    assert rows(own) == [hit["row"] for hit in expected]
    expected = stitch(load_encoder(translator.source_), translator, index)(QUERY, top_k=TOP_K)
    assert rows(translated) == [hit["row"] for hit in expected]
    assert translated["found"][0]["title"] == expected[0]["item"]["title"]
    assert translated["found"][0]["score"] == f"cosine {expected[0]['score']:.2f}"


def test_a_translated_query_finds_mostly_the_same_articles_and_an_untranslated_one_does_not(repos):
    own, translated, untranslated, _ = search_across(repos, QUERY)
    same = [len(set(rows(own)) & set(rows(other))) for other in (translated, untranslated)]
    assert same[0] >= 3 > 1 >= same[1]
    for count, ranking in zip(same, (translated, untranslated), strict=True):
        assert ranking["note"] == f"{count} of 5 are MPNet's own (overlap@5)"
        assert [found["same"] for found in ranking["found"]] == [
            row in rows(own) for row in rows(ranking)
        ]


def test_the_times_have_names_and_units(repos):
    *_, facts = search_across(repos, QUERY)
    assert [fact["name"] for fact in facts[:3]] == [
        "MiniLM encodes in",
        "translated in",
        "searched in",
    ]
    assert all(fact["value"].endswith(" ms") for fact in facts[:4])


@pytest.fixture
def either(repos):
    """The rankings of the shared space: MiniLM asks, MPNet asks."""
    return search_shared(repos, QUERY, {*rows(search_across(repos, QUERY)[0])})


def test_either_encoder_asks_the_one_index_of_both(repos, either):
    news = repos.latents("demo-news", "test")
    views = {
        name: AutoTranslator.from_pretrained("acme/news-shared", subfolder=name) for name in VIEWS
    }
    shared = [
        views[name].transform(x) for name, x in zip(VIEWS, (news.source, news.target), strict=True)
    ]
    items = np.stack([shared[row % 2][row] for row in range(len(news))])
    for name, ranking in zip(VIEWS, either, strict=True):
        latents = load_encoder(views[name].source_).encode([QUERY]).cpu().numpy()
        cosines = (views[name].transform(latents) @ items.T)[0]
        assert ranking["title"] == f"{name} asks"
        best = sorted(cosines, reverse=True)[:TOP_K]
        np.testing.assert_allclose(cosines[rows(ranking)], best, atol=1e-5)


def test_each_article_of_the_index_of_both_says_which_encoder_it_came_from(repos, either):
    news = repos.latents("demo-news", "test").rows
    for ranking in either:
        origins = [VIEWS[row % 2] for row in rows(ranking)]
        assert [found["label"] for found in ranking["found"]] == [
            f"{news[row]['label']} · encoded by {name}"
            for row, name in zip(rows(ranking), origins, strict=True)
        ]
        counts = (f"{origins.count(name)} encoded by {name}" for name in VIEWS)
        assert ranking["note"] == ", ".join(counts)
        assert len({*origins}) == 2


def test_without_the_shared_space_the_tab_works_and_says_what_is_missing():
    bare = Repos(Settings(namespace="acme", repos={"news-shared": "acme/no-space"}))
    assert len(rows(search_across(bare, QUERY)[1])) == TOP_K
    for ranking in search_shared(bare, QUERY, set()):
        assert ranking["found"] == []
        assert ranking["note"] == "This needs acme/no-space, which is not published on this Hub."


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "Please type a query"),
        (" \n\t", "Please type a query"),
        (None, "Please type a query"),
        (7, "Please type a query"),
        ("x" * (MAX_TEXT + 1), "may have 2,000 characters; this has 2,001"),
    ],
)
def test_a_bad_query_is_refused_in_a_sentence(repos, query, sentence):
    with pytest.raises(Refusal, match=sentence):
        search_across(repos, query)


def test_the_api_gives_what_the_tab_shows(repos, space):
    answer = space.predict(QUERY, api_name="/search")
    expected = search_across(repos, QUERY)
    assert list(answer[:3]) == list(expected[:3])
    assert list(answer[4:]) == search_shared(repos, QUERY, {*rows(expected[0])})


def test_the_api_refuses_ten_megabytes_of_text_in_the_same_words(space):
    with pytest.raises(AppError, match="may have 2,000 characters; this has 10,000,000"):
        space.predict("x" * 10_000_000, api_name="/search")


def test_the_code_beside_the_tab_runs(repos, capsys):
    exec(CODE.format(namespace="acme"), {})
    translated, shared = capsys.readouterr().out.splitlines()
    assert translated.startswith("[{'item': {'title':")
    assert shared.startswith("[{'item': '")
