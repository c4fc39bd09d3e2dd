"""Writes this folder; PYTHONPATH is a checkout of 0.1.0 and the scripts folder in it.

It was run once and is kept to show how the files came about. Later versions only read them.
"""

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from local_hub import LocalHub

HUB = LocalHub().start()
HOME = tempfile.TemporaryDirectory()
os.environ.update(HUB.environment(Path(HOME.name)), HF_TOKEN="hf_alice")

import datasets  # noqa: E402
from huggingface_hub import snapshot_download  # noqa: E402

import hf_latent_bridge as bridge  # noqa: E402

HERE = Path(__file__).parent
SOURCE = bridge.SpaceSpec(
    6,
    repo_id="me/small-encoder",
    revision="1" * 40,
    modality="text",
    pooling="mean",
    normalize=True,
    max_length=128,
)
TARGET = bridge.SpaceSpec(4, repo_id="me/large-encoder", revision="2" * 40, modality="text")
OWN_TEXT = "Written by hand: trained for the shop's product titles.\n"
draw = np.random.default_rng(0)
X = draw.normal(size=(40, 6)) + 0.3
Y = X @ draw.normal(size=(6, 4)) + 0.05 * draw.normal(size=(40, 4)) + 1.0
QUERIES = draw.normal(size=(5, 6))
TARGETS = draw.normal(size=(5, 4))
IMAGES = draw.uniform(size=(3, 1, 8, 8)).astype(np.float32)
expected: dict[str, np.ndarray] = {"source": QUERIES, "target": TARGETS, "images": IMAGES}
answers: dict[str, object] = {}

TRANSLATORS = {
    "affine": bridge.AffineTranslator(),
    "affine_ridge": bridge.AffineTranslator(alpha=0.1, scaling="center", normalize="source"),
    "affine_gradient": bridge.AffineTranslator(
        solver="gradient", steps=20, lr=0.01, seed=3, normalize="both"
    ),
    "linear": bridge.LinearTranslator(),
    "linear_plain": bridge.LinearTranslator(scaling="none", normalize="target"),
    "l_ortho": bridge.LOrthoTranslator(),
    "l_ortho_center": bridge.LOrthoTranslator(scaling="center", normalize="both"),
    "ortho": bridge.OrthoTranslator(),
    "ortho_scale": bridge.OrthoTranslator(scale=True, scaling="none", normalize="both"),
}


def keep(name: str, translator: bridge.Translator) -> None:
    translator.save_pretrained(HERE / name)
    expected[name] = translator.transform(QUERIES)
    if name != "linear_plain":
        expected[f"{name}_inverse"] = translator.inverse_transform(TARGETS)


def write_translators() -> None:
    for name, translator in TRANSLATORS.items():
        keep(name, translator.fit(X, Y, source=SOURCE, target=TARGET))
    keep("unknown_spaces", bridge.OrthoTranslator().fit(X.astype(np.float32), Y.astype(np.float32)))
    for dtype in ("float16", "bfloat16", "float64"):
        translator = bridge.AffineTranslator(alpha=0.01).fit(X, Y, source=SOURCE, target=TARGET)
        keep(f"affine_{dtype}", translator.to(dtype=getattr(torch, dtype)))


def write_evaluated() -> None:
    columns = {"x": X.tolist(), "y": Y.tolist()}
    datasets.Dataset.from_dict(columns).push_to_hub("alice/pairs", split="train")
    pairs = bridge.load_pairs("alice/pairs", split="train", source="x", target="y").sample(30)
    translator = bridge.fit_translator(bridge.OrthoTranslator(), None, None, pairs)
    report = bridge.evaluate(
        translator, None, None, pairs.sample(20), n_bootstrap=20, n_permutations=20
    )
    translator.metrics_ = report.to_dict()
    keep("evaluated", translator)
    card = HERE / "evaluated" / "README.md"
    card.write_text(f"{card.read_text()}\n{OWN_TEXT}")
    loaded = bridge.AutoTranslator.from_pretrained(HERE / "evaluated")
    loaded.push_to_hub("alice/evaluated", tags=["shop"])
    download("alice/evaluated", "pushed")
    expected["pushed"] = expected["evaluated"]


def download(repo_id: str, name: str) -> None:
    """The files of a repo as they are on the Hub."""
    source = Path(snapshot_download(repo_id, ignore_patterns=[".gitattributes"]))
    shutil.copytree(source, HERE / name, dirs_exist_ok=True)


def write_decoders() -> dict[str, bridge.Decoder]:
    labels = ["news" if row.sum() > 4 else "sports" for row in Y]
    head = bridge.fit_head(Y, labels, space=TARGET)
    numbers = [int(row[0] > 1) + int(row[1] > 1) for row in Y]
    mlp = bridge.fit_head(Y, numbers, space=TARGET, hidden=5, seed=1)
    layers = torch.nn.Sequential(torch.nn.Linear(4, 3))
    several = bridge.Head(layers, ["a", "b", "c"], TARGET, "multi_label_classification")
    regression = bridge.Head(
        torch.nn.Sequential(torch.nn.Linear(4, 1)), ["price"], TARGET, "regression"
    )
    items = [{"title": f"Überschrift {n}", "n": n} for n in range(len(Y))]
    decoders = {
        "head": head,
        "head_mlp": mlp,
        "head_multi_label": several,
        "head_regression": regression,
        "index": bridge.LatentIndex.from_latents(Y, items, space=TARGET),
        "index_dot": bridge.LatentIndex.from_latents(Y, list(range(len(Y))), metric="dot"),
        "index_faiss": bridge.LatentIndex.from_latents(
            Y, [f"item {n}" for n in range(len(Y))], space=TARGET, metric="euclidean", faiss="Flat"
        ),
        "labels": bridge.LabelDecoder(Y[:3].astype(np.float32), ["sports", "news", "art"], TARGET),
    }
    for name, decoder in decoders.items():
        decoder.save_pretrained(HERE / name)
        answers[name] = decoder(TARGETS, top_k=2 if name != "head_regression" else 1)
    return decoders


def write_autoencoder_and_stitched(head: bridge.Decoder) -> None:
    pictures = torch.from_numpy(draw.uniform(size=(12, 1, 8, 8)).astype(np.float32))
    both = bridge.fit_autoencoder(pictures, latent_dim=6, widths=(2,), epochs=1)
    both.encoder.push_to_hub("alice/autoencoder-encoder")
    both.decoder.space = both.encoder.space
    download("alice/autoencoder-encoder", "conv_encoder")
    both.decoder.save_pretrained(HERE / "conv_decoder")
    expected["conv_encoder"] = both.encoder.encode(IMAGES).numpy()
    expected["conv_decoder"] = both.decoder(QUERIES).numpy()
    first = bridge.OrthoTranslator().fit(X, X[:, ::-1].copy(), source=both.encoder.space)
    second = bridge.OrthoTranslator(normalize="both").fit(X, Y, target=TARGET)
    parts = {"translator_1": first, "translator_2": second, "head": head}
    for name, part in parts.items():
        part.push_to_hub(f"alice/{name}")
        download(f"alice/{name}", f"stitched_{name}")
    model = bridge.stitch(both.encoder, [first, second], head)
    model.save_pretrained(HERE / "stitched")
    answers["stitched"] = model(IMAGES, top_k=2)


def write_moments() -> None:
    for name, full in (("moments", False), ("moments_full", True)):
        moments = bridge.PairedMoments.from_batch(
            torch.from_numpy(X), torch.from_numpy(Y), full_syy=full
        )
        moments.save(HERE / f"{name}.safetensors")
        expected[name] = bridge.OrthoTranslator().fit_moments(moments).transform(QUERIES)


def main() -> None:
    assert bridge.__version__ == "0.1.0", bridge.__file__
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    write_translators()
    write_evaluated()
    decoders = write_decoders()
    write_autoencoder_and_stitched(decoders["head"])
    write_moments()
    np.savez(HERE / "expected.npz", **expected)
    text = json.dumps(answers, indent=1, ensure_ascii=False)
    (HERE / "expected.json").write_text(f"{text}\n", encoding="utf-8")
    print(bridge.__file__)


main()
