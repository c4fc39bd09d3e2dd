"""The tab "Across models": its rankings are the library's, and the API gives the same."""

from tabs.across import search_across

from hf_latent_bridge import AutoTranslator, load_decoder, load_encoder, stitch


def test_the_rankings_are_the_librarys_own(parts):
    query = "the red dog runs"
    own, translated, _, _ = search_across(parts, query)
    translator = AutoTranslator.from_pretrained("acme/minilm-to-mpnet")
    index = load_decoder("acme/news-index")
    expected = stitch(load_encoder(translator.target_), None, index)(query, top_k=5)
    assert [found["row"] for found in own["found"]] == [hit["row"] for hit in expected]
    expected = stitch(load_encoder(translator.source_), translator, index)(query, top_k=5)
    assert [found["row"] for found in translated["found"]] == [hit["row"] for hit in expected]


def test_the_api_gives_what_the_tab_shows(parts, space):
    query = "a bird sings"
    answer = space.predict(query, api_name="/search")
    assert list(answer[:3]) == list(search_across(parts, query)[:3])
