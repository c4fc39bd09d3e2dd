"""Batches of encoders: cut by tokens, made ahead, and of no influence on the result."""

import functools
import threading

import pytest
import torch
import torch._dynamo
from tiny_models import (
    DE,
    EN,
    TEXTS,
    bert_repo,
    gpt2_repo,
    sentence_repo,
    sentences,
    word_tokenizer,
)

from hf_latent_bridge import load_encoder
from hf_latent_bridge.encoders.batching import cut, prefetch, text_batches, token_budget
from hf_latent_bridge.encoders.tokens import faster
from hf_latent_bridge.errors import EncoderError, InvalidPairsError, NoTokensError

CLOSE = {"atol": 1e-4, "rtol": 1e-3}


def words(texts):
    """A tokenizer of one token per word, padded on the right."""
    lengths = torch.tensor([len(text.split()) for text in texts])
    mask = (torch.arange(int(lengths.max())) < lengths[:, None]).long()
    return {"input_ids": mask * 7, "attention_mask": mask, "kind": "words"}


def test_every_text_comes_once_in_batches_within_the_budget():
    texts = ["w " * n for n in (3, 1, 90, 2, 2, 40, 1, 7)] * 40
    seen = []
    for rows, inputs in text_batches(texts, words, 60):
        n, width = inputs["input_ids"].shape
        assert n * width <= 60 or n == 1
        assert inputs["attention_mask"].sum(1).tolist() == [len(texts[r].split()) for r in rows]
        assert inputs["attention_mask"].any(0).all()
        assert inputs["kind"] == "words"
        seen += rows
    assert sorted(seen) == list(range(len(texts)))


def test_padding_on_the_left_is_cut_off_too():
    def left(texts):
        return {k: v.flip(1) if k != "kind" else v for k, v in words(texts).items()}

    for _, inputs in text_batches(["w " * n for n in (9, 1, 5, 2)], left, 9):
        assert inputs["attention_mask"].any(0).all()
        assert inputs["attention_mask"][:, -1].all()


def test_parts_keep_to_the_budget_and_the_number():
    parts = list(cut([9, 4, 4, 4, 1, 1, 1, 0], 8, most=3))
    assert [list(part) for part in parts] == [[0], [1, 2], [3, 4], [5, 6, 7]]


def test_no_budget_can_be_had_for_no_items():
    with pytest.raises(ValueError, match=r"batch_size must be an integer of at least 1.*, got 0"):
        load_encoder(bert_repo()).encode(TEXTS, batch_size=0)
    assert token_budget(2, torch.device("cuda")) > token_budget(2, torch.device("cpu"))


def test_the_next_batch_is_made_by_another_thread_while_the_last_one_is_used():
    made, threads = [], set()

    def items():
        for number in range(9):
            made.append(number)
            threads.add(threading.current_thread())
            yield number

    taken = prefetch(items())
    assert next(taken) == 0
    assert list(taken) == list(range(1, 9))
    assert made == list(range(9))
    assert threading.current_thread() not in threads


def test_an_error_of_the_thread_reaches_the_caller_in_its_place():
    def items():
        yield 1
        raise InvalidPairsError("item 7 is bad")

    taken = prefetch(items())
    assert next(taken) == 1
    with pytest.raises(InvalidPairsError, match="item 7"):
        next(taken)


@pytest.mark.parametrize("repo", [bert_repo, gpt2_repo, sentence_repo])
def test_neither_order_nor_values_depend_on_the_batches(repo):
    texts = [*sentences(120, EN), *TEXTS, *sentences(60, DE)]
    encoder = load_encoder(repo())
    one, many = encoder.encode(texts, batch_size=1), encoder.encode(texts, batch_size=100)
    torch.testing.assert_close(one, many, **CLOSE)
    alone = torch.cat([encoder.encode([text]) for text in texts[::20]])
    torch.testing.assert_close(many[::20], alone, **CLOSE)


@pytest.mark.parametrize("repo", [bert_repo, gpt2_repo, sentence_repo])
def test_a_fast_tokenizer_is_asked_itself_and_gives_the_same(repo):
    encoder = load_encoder(repo(), max_length=16)
    texts = [*sentences(30, EN), "a " * 99, " x[SEP]y ", "\u00c9t\u00e9"]
    model_inputs = encoder._inputs(texts)
    asked = []
    tool = encoder.preparer.tool or encoder.model.tokenizer
    tool.__class__ = type("Counted", (type(tool),), {"__call__": lambda *a, **k: asked.append(a)})
    again = encoder._inputs(texts)
    assert asked == []
    assert model_inputs.keys() == again.keys()


def test_a_tokenizer_that_pads_on_the_left_is_used_as_it_is():
    tokenizer = word_tokenizer()

    def left(texts):
        return dict(tokenizer(texts, padding=True, padding_side="left", return_tensors="pt"))

    def right(texts):
        return dict(tokenizer(texts, padding=True, return_tensors="pt"))

    assert faster(left, tokenizer, None) is left
    assert faster(lambda texts: {"input_ids": texts}, tokenizer, None)(["a"]) == {
        "input_ids": ["a"]
    }
    fast = faster(right, tokenizer, None)
    assert fast is not right
    for texts in (TEXTS, TEXTS[:1], sentences(50, DE)):
        found, wanted = fast(list(texts)), right(list(texts))
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_long_texts_are_cut_where_the_tokenizer_cuts_them():
    tokenizer = word_tokenizer()

    def cut(texts):
        options = {"padding": True, "truncation": True, "max_length": 8, "return_tensors": "pt"}
        return dict(tokenizer(texts, **options))

    fast = faster(cut, tokenizer, 8)
    words = " ".join(sentences(40, EN))
    texts = [words, words.replace(" ", ""), "wwwwwwwwwwwwwwwwwwwwwwwwwwwwww " * 3, "a", "a " * 60]
    texts += [words[start:] for start in range(60)]
    texts += [" " * 50 + "a cat", "a dog" + " " * 50 + "one cat sings two birds one tree"]
    assert fast is not cut
    found, wanted = fast(texts), cut(texts)
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_a_batch_that_does_not_fit_is_halved():
    encoder = load_encoder(bert_repo())
    expected, sizes = encoder.encode(TEXTS), []

    def small_memory(module, args, inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("too many")

    encoder.model.register_forward_pre_hook(small_memory, with_kwargs=True)
    torch.testing.assert_close(encoder.encode(TEXTS), expected, **CLOSE)
    assert max(sizes) > 2
    encoder.model.register_forward_pre_hook(
        lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError)
    )
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode(TEXTS[:1])


def test_a_text_without_tokens_is_named_by_its_row():
    with pytest.raises(InvalidPairsError, match="item 2: '' holds nothing"):
        load_encoder(gpt2_repo()).encode(["a dog", "one cat", "", "tree"])


def test_a_sentence_transformers_default_prompt_is_kept(tmp_path):
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(
        sentence_repo(), device="cpu", prompts={"q": "one bird sings "}, default_prompt_name="q"
    )
    reference.save(str(tmp_path))
    expected = reference.encode(list(TEXTS), convert_to_tensor=True)
    torch.testing.assert_close(load_encoder(tmp_path).encode(TEXTS), expected, **CLOSE)
    plain = load_encoder(sentence_repo()).encode(TEXTS)
    assert not torch.allclose(expected.cpu(), plain.cpu(), atol=1e-2)


@pytest.mark.parametrize("repo", [bert_repo, sentence_repo])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_nearly_the_same_latents_in_the_models_own_dtype(repo, dtype):
    full = load_encoder(repo()).encode(TEXTS)
    mixed = load_encoder(repo(), autocast=dtype).encode(TEXTS)
    assert mixed.dtype == torch.float32
    assert not torch.equal(mixed, full)
    assert torch.nn.functional.cosine_similarity(mixed, full).min() > 0.99


def test_an_autocast_that_no_device_has_is_refused():
    with pytest.raises(EncoderError, match=r"float16 or torch.bfloat16, got torch.float64"):
        load_encoder(bert_repo(), autocast=torch.float64)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_a_bag_of_words_that_needs_no_padding_is_encoded_too(batch_size, tmp_path):
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    torch.manual_seed(0)
    words = StaticEmbedding(word_tokenizer().backend_tokenizer, embedding_dim=5)
    reference = SentenceTransformer(modules=[words], device="cpu")
    reference.save(str(tmp_path))
    latents = load_encoder(tmp_path).encode(TEXTS, batch_size=batch_size)
    expected = reference.encode(list(TEXTS), convert_to_tensor=True)
    torch.testing.assert_close(latents, expected, **CLOSE)
    with pytest.raises(NoTokensError, match=r"max_length=9 .* cuts nothing by tokens"):
        load_encoder(tmp_path, max_length=9)


@pytest.mark.slow
def test_a_compiled_model_gives_the_same_latents(monkeypatch):
    counters = torch._dynamo.utils.counters["stats"]
    # graphs are captured as ever; that C++ is not generated saves half a minute
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    compiled = load_encoder(bert_repo(), compile=True)
    expected = load_encoder(bert_repo()).encode(TEXTS)
    before = counters["unique_graphs"]
    torch.testing.assert_close(compiled.encode(TEXTS), expected, **CLOSE)
    assert counters["unique_graphs"] > before


def test_closing_it_does_not_wait_for_what_the_thread_still_makes():
    release = threading.Event()

    def items():
        yield 1
        release.wait(120)
        yield 2

    taken = prefetch(items())
    assert next(taken) == 1
    closer = threading.Thread(target=taken.close)
    closer.start()
    closer.join(60)
    assert not closer.is_alive()
    release.set()
