"""Autoencoders: the encoder of one reads a picture, and the decoder of another draws it."""

from typing import Any

import gradio as gr
import look
from gradio.context import Context
from limits import ENCODING, check_picture, picture_upload
from methods import methods
from PIL import Image
from repos import Repos
from results import Results

from tabs.autoencoders.reconstruction import (
    ANCHORS,
    PUBLISHED,
    Facts,
    Shown,
    choose_items,
    reconstruct_by_each,
)

CODE = """\
from datasets import load_dataset
from hf_latent_bridge import AutoTranslator, ConvEncoder, load_decoder, stitch

translator = AutoTranslator.from_pretrained("{namespace}/autoencoder-a-to-b")
space = translator.source_                                  # A's latents
encoder = ConvEncoder.from_pretrained(space.repo_id, revision=space.revision)
decoder = load_decoder("{namespace}/autoencoder-b")             # draws from B's latents
redraw = stitch(encoder, translator, decoder)
pictures = load_dataset("{namespace}/demo-fashion", split="test")["image"][:8]
print(redraw(pictures).shape)
"""


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "Two autoencoders were trained apart, from different random weights: to the decoder of "
        "**B**, the 64 numbers that the encoder of **A** gives for a picture are noise, as its "
        "*untranslated* drawing shows. One affine map of these numbers, and B draws what A saw. "
        "Neither networks nor map were fitted on the pictures below."
    )
    with gr.Row(equal_height=True):
        items = _gallery("Pick a picture", 200)
        picture = picture_upload(
            "pixels", label="or upload one", height=200, scale=1, min_width=220
        )
    method, anchors = _settings()
    facts = look.facts()
    drawn = _gallery("Drawn, and the mean squared error", None, "large", render=False)
    results = Results(drawn, facts)
    results.notice.render()
    drawn.render()
    facts.render()

    def fill() -> list[Any]:
        return [choose_items(repos), *[gr.skip()] * len(results.shown)]

    def reconstruct(picture: str | None, method: str, anchors: float) -> tuple[Shown, Facts]:
        return reconstruct_by_each(repos, check_picture(picture), method, anchors)

    def pick(event: gr.SelectData, method: str, anchors: float) -> tuple[Image.Image, Shown, Facts]:
        item = choose_items(repos)[event.index]
        return item, *reconstruct_by_each(repos, item, method, anchors)

    def repeat(picture: str | None, method: str, anchors: float) -> Any:
        if picture is None:
            return gr.skip(), gr.skip()
        return reconstruct(picture, method, anchors)

    inputs = [picture, method, anchors]
    if isinstance(tab := Context.block, gr.Tab):  # nothing is loaded before someone looks
        results.on(tab.select, fill, None, [items], show_progress="hidden", **ENCODING)
    results.on(items.select, pick, [method, anchors], [picture], **ENCODING)
    results.on([method.input, anchors.release], repeat, inputs, **ENCODING)
    results.on(picture.upload, reconstruct, inputs, **ENCODING)
    results.endpoint(reconstruct, inputs, **ENCODING)
    look.code(CODE.format(namespace=repos.settings.namespace))


def _gallery(
    label: str, height: int | None, size: str = "small", *, render: bool = True
) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        height=height,
        format="png",
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        buttons=[],
        elem_classes=["pixels", size],
        scale=3,
        render=render,
    )


def _settings() -> tuple[gr.Radio, gr.Slider]:
    with gr.Row():
        method = gr.Radio(
            [("published (affine)", PUBLISHED), *((name, name) for name in methods())],
            value=PUBLISHED,
            label="Translator",
            info="The published one, or one of this method that is fitted now",
            scale=2,
            min_width=320,
        )
        anchors = gr.Slider(
            *ANCHORS,
            value=500,
            step=50,
            label="Anchors",
            info="How many pictures to fit it on",
            min_width=260,
        )
    return method, anchors
