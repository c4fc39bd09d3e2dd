"""Autoencoders: one network looks at a picture, another, which never met it, draws what it saw."""

from typing import Any

import gradio as gr
import look
from gradio.context import Context
from limits import ENCODING, answering, check_picture, picture_upload
from parts import Parts
from PIL import Image
from reconstruction import (
    ANCHORS,
    METHODS,
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


def build(parts: Parts) -> None:
    """Adds the tab."""
    look.lede(
        "Two autoencoders were trained apart, from different random weights: to the decoder of "
        "**B**, the 64 numbers that the encoder of **A** gives for a picture are noise. One affine "
        "map of these numbers, fitted on pictures that both have seen, and B draws what A saw."
    )
    with gr.Row(equal_height=True):
        items = _gallery("Pick a picture that nothing was trained or fitted on", 10, 230)
        picture = picture_upload(
            label="or upload one of a single thing",
            height=230,
            elem_classes="pixels",
            scale=1,
            min_width=220,
        )
    method, anchors = _settings()
    shown = _gallery("Drawn by each, with its mean squared error (pixels are 0 to 1)", 5, 270)
    facts = look.facts()
    facts.render()
    outputs = [shown, facts]

    @answering
    def fill() -> Shown:
        return choose_items(parts)

    @answering
    def reconstruct(picture: str | None, method: str, anchors: float) -> tuple[Shown, Facts]:
        return reconstruct_by_each(parts, check_picture(picture), method, anchors)

    @answering
    def pick(event: gr.SelectData, method: str, anchors: float) -> tuple[Image.Image, Shown, Facts]:
        item, _ = choose_items(parts)[event.index]
        return item, *reconstruct_by_each(parts, item, method, anchors)

    @answering
    def repeat(picture: str | None, method: str, anchors: float) -> Any:
        if picture is None:
            return gr.skip(), gr.skip()
        return reconstruct_by_each(parts, check_picture(picture), method, anchors)

    private: dict[str, Any] = {"api_visibility": "private", **ENCODING}
    inputs = [picture, method, anchors]
    if isinstance(tab := Context.block, gr.Tab):  # nothing is loaded before someone looks
        tab.select(fill, None, items, show_progress="hidden", **private)
    items.select(pick, [method, anchors], [picture, *outputs], **private)
    gr.on([method.input, anchors.release], repeat, inputs, outputs, **private)
    picture.upload(reconstruct, inputs, outputs, api_name="reconstruct", **ENCODING)
    look.code(CODE.format(namespace=parts.settings.namespace))


def _gallery(label: str, columns: int, height: int) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        columns=columns,
        height=height,
        format="png",
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        buttons=[],
        elem_classes="pixels",
        scale=3,
    )


def _settings() -> tuple[gr.Radio, gr.Slider]:
    with gr.Row():
        method = gr.Radio(
            [("published (affine)", PUBLISHED), *((name, name) for name in METHODS)],
            value=PUBLISHED,
            label="Translator",
            info="The published one, or one of this method that is fitted now",
            scale=2,
        )
        anchors = gr.Slider(
            *ANCHORS, value=500, step=50, label="Anchors", info="How many pictures to fit it on"
        )
    return method, anchors
