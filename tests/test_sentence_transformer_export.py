"""A translated encoder, exported, gives the same vectors where this library is not installed."""

import pytest
import tiny_classifiers
import tiny_images
import tiny_models
import torch
import warm

from hf_latent_bridge import (
    LinearTranslator,
    SpaceSpec,
    compose,
    load_encoder,
    to_sentence_transformer,
)
from hf_latent_bridge.errors import EncoderError, NotFittedError, SpaceMismatchError

pytestmark = pytest.mark.slow

TEXTS = list(tiny_models.TEXTS)

BLOCKED = """
import sys
sys.modules["hf_latent_bridge"] = None
from sentence_transformers import SentenceTransformer
import torch
model = SentenceTransformer(sys.argv[1], device="cpu")
texts = sys.argv[3:]
torch.save(model.encode(texts, convert_to_tensor=True, show_progress_bar=False), sys.argv[2])
"""


def translator(space, *, unit_norm="none", out=10, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(60, space.dim, generator=draw)
    y = x @ torch.randn(space.dim, out, generator=draw) + torch.randn(60, out, generator=draw)
    return LinearTranslator(unit_norm=unit_norm).fit(x, y, source=space)


def encode_elsewhere(name, tmp_path):
    path = tmp_path / "vectors.pt"
    warm.finished("-c", BLOCKED, name, path, *TEXTS)
    return torch.load(path)


@pytest.mark.parametrize("unit_norm", ["both"])
def test_it_gives_the_same_vectors_where_this_library_is_not_installed(unit_norm, tmp_path):
    encoder = load_encoder(tiny_models.sentence_repo(normalize=True))
    made = translator(encoder.space, unit_norm=unit_norm)
    to_sentence_transformer(encoder, made).save_pretrained(str(tmp_path / "model"))
    got = encode_elsewhere(tmp_path / "model", tmp_path)
    torch.testing.assert_close(got, made.transform(encoder.encode(TEXTS)), rtol=1e-4, atol=1e-5)


def test_pushed_to_the_hub_it_loads_from_there(repo_id, tmp_path):
    encoder = load_encoder(tiny_models.sentence_repo())
    made = translator(encoder.space)
    to_sentence_transformer(encoder, made).push_to_hub(repo_id, token="hf_alice")
    got = encode_elsewhere(repo_id, tmp_path)
    torch.testing.assert_close(got, made.transform(encoder.encode(TEXTS)), rtol=1e-4, atol=1e-5)
    assert load_encoder(repo_id).space.dim == 10


@pytest.mark.parametrize(
    ("repo", "pooling"),
    [
        (tiny_models.bert_repo, "mean"),
        (tiny_models.bert_repo, "cls"),
        (tiny_models.gpt2_repo, "last"),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("unit_norm", ["none", "source", "target", "both"])
def test_a_plain_transformers_encoder_is_exported_with_its_pooling_and_norms(
    repo, pooling, norm, unit_norm
):
    encoder = load_encoder(repo(), pooling=pooling, normalize=norm)
    made = translator(encoder.space, unit_norm=unit_norm)
    model = to_sentence_transformer(encoder, made)
    got = model.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False)
    expected = made.transform(encoder.encode(TEXTS))
    torch.testing.assert_close(got.clone(), expected, rtol=1e-4, atol=1e-5)


def test_exactly_one_dense_module_is_appended_and_the_encoder_stays_as_it_was():
    encoder = load_encoder(tiny_models.sentence_repo())
    before = [type(module).__name__ for module in encoder.model]
    chain = [translator(encoder.space), translator(SpaceSpec(10), seed=1, out=4)]
    model = to_sentence_transformer(encoder, chain)
    assert [type(module).__name__ for module in model] == [*before, "Dense"]
    assert [type(module).__name__ for module in encoder.model] == before
    got = model.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False).clone()
    expected = compose(*chain).transform(encoder.encode(TEXTS))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_a_norm_between_two_translators_is_exported_too():
    encoder = load_encoder(tiny_models.sentence_repo())
    chain = [
        translator(encoder.space, unit_norm="target"),
        translator(SpaceSpec(10), seed=1, out=4),
    ]
    model = to_sentence_transformer(encoder, chain)
    assert [type(m).__name__ for m in model][-3:] == ["Dense", "Normalize", "Dense"]
    got = model.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False).clone()
    expected = chain[1].transform(chain[0].transform(encoder.encode(TEXTS)))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_half_precision_models_stay_in_half_precision():
    encoder = load_encoder(tiny_models.sentence_repo(), dtype=torch.bfloat16)
    made = translator(encoder.space)
    model = to_sentence_transformer(encoder, made)
    assert model[-1].linear.weight.dtype == torch.bfloat16
    got = model.encode(TEXTS, convert_to_tensor=True, show_progress_bar=False).clone()
    expected = made.transform(encoder.encode(TEXTS))
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.01)


def test_a_translator_of_another_encoder_or_none_is_refused():
    encoder = load_encoder(tiny_models.sentence_repo())
    with pytest.raises(SpaceMismatchError, match="the encoder gives latents of alice/tiny-sbert"):
        to_sentence_transformer(encoder, translator(SpaceSpec(16, repo_id="me/other")))
    with pytest.raises(NotFittedError):
        to_sentence_transformer(encoder, LinearTranslator())


NO_TEXT_ENCODERS = {
    "callable": (lambda: len, "got builtin_function_or_method"),
    "image encoder": (lambda: load_encoder(tiny_images.image_repo("vit")), "got ImageEncoder of"),
    "classifier": (
        lambda: load_encoder(tiny_classifiers.text_folder(), pooling="classifier"),
        "got ClassifierEncoder of",
    ),
    "text tower": (
        lambda: load_encoder(tiny_images.clip_repo(), modality="text"),
        "got the text tower of a dual encoder, alice/tiny-clip@",
    ),
    "image tower": (
        lambda: load_encoder(tiny_images.siglip_repo(), modality="image"),
        "got the image tower of a dual encoder, alice/tiny-siglip@",
    ),
    "one model of both": (
        lambda: load_encoder(tiny_images.sentence_clip_repo(), modality="text"),
        "the model of alice/tiny-clip-sentence.* also reads image",
    ),
}


@pytest.mark.parametrize("name", NO_TEXT_ENCODERS)
def test_what_does_not_read_texts_alone_is_refused_by_name(name):
    make, message = NO_TEXT_ENCODERS[name]
    encoder = make()
    space = getattr(encoder, "space", SpaceSpec(16))
    with pytest.raises(EncoderError, match=f"only an encoder of texts alone.*: {message}"):
        to_sentence_transformer(encoder, translator(space))


def test_an_export_that_gives_other_vectors_is_refused_instead_of_returned():
    def shift(module, inputs, output):  # which no saved file holds
        output.last_hidden_state = output.last_hidden_state + 1
        return output

    encoder = load_encoder(tiny_models.bert_repo(), pooling="cls")
    encoder.model.register_forward_hook(shift)
    with pytest.raises(EncoderError, match="cannot be exported: sentence-transformers gives other"):
        to_sentence_transformer(encoder, translator(encoder.space))


def test_a_repos_own_prompt_goes_along(tmp_path):
    from sentence_transformers import SentenceTransformer

    prompted = SentenceTransformer(str(tiny_models.sentence_folder()), device="cpu")
    prompted.prompts, prompted.default_prompt_name = {"query": "the old tree "}, "query"
    prompted.save_pretrained(str(tmp_path / "encoder"))
    encoder = load_encoder(tmp_path / "encoder")
    made = translator(encoder.space)
    to_sentence_transformer(encoder, made).save_pretrained(str(tmp_path / "model"))
    got = encode_elsewhere(tmp_path / "model", tmp_path)
    expected = made.transform(encoder.encode(TEXTS))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    plain = made.transform(load_encoder(tiny_models.sentence_folder()).encode(TEXTS))
    assert not torch.allclose(got.cpu(), plain.cpu(), atol=1e-2)


@pytest.mark.parametrize("repo", [tiny_models.sentence_repo, tiny_models.bert_repo])
def test_a_limit_of_tokens_goes_along(repo, tmp_path):
    from sentence_transformers import SentenceTransformer

    encoder = load_encoder(repo(), max_length=6)
    made = translator(encoder.space)
    to_sentence_transformer(encoder, made).save_pretrained(str(tmp_path))
    got = SentenceTransformer(str(tmp_path), device="cpu").encode(TEXTS, convert_to_tensor=True)
    expected = made.transform(encoder.encode(TEXTS))
    torch.testing.assert_close(got.clone(), expected, rtol=1e-4, atol=1e-5)
    whole = made.transform(load_encoder(repo()).encode(TEXTS))
    assert not torch.allclose(got.cpu(), whole.cpu(), atol=1e-2)


def test_half_of_an_encoder_decoder_is_refused_instead_of_exported_with_random_weights(tmp_path):
    from transformers import T5Config, T5Model

    tokenizer = tiny_models.word_tokenizer()
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2}
    T5Model(T5Config(vocab_size=len(tokenizer), **sizes)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    with pytest.raises(EncoderError, match="lacks weights of its model, which would be random"):
        to_sentence_transformer(encoder, translator(encoder.space))
