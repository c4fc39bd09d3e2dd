"""Text and image: texts find pictures and pictures find texts, through two unimodal encoders."""

from typing import Any

import gradio as gr
import look
from gradio.context import Context
from limits import ENCODING, MAX_TEXT, check_picture, picture_upload
from PIL import Image
from repos import Repos
from results import Results

from tabs.pictures import retrieval
from tabs.pictures.retrieval import Bars, Facts, Ranked, Shown

EXAMPLES = (
    "the flag of a country",
    "a road sign",
    "something to eat",
    "a computer",
    "an animal in a cartoon",
)
LABELS = "animal, person, flower, vehicle, building, food, sign, flag"
CODE = """\
from datasets import load_dataset
from hf_latent_bridge import AutoTranslator, load_decoder, load_encoder, stitch, zero_shot

to_picture = AutoTranslator.from_pretrained("{namespace}/title-to-picture")
texts, pictures = load_encoder(to_picture.source_), load_encoder(to_picture.target_)
find_pictures = stitch(texts, to_picture, load_decoder("{namespace}/picture-index"))
print(find_pictures("a road sign", top_k=8))

to_title = AutoTranslator.from_pretrained("{namespace}/picture-to-title")
picture = load_dataset("{namespace}/demo-pictures", split="test")[0]["image"]
find_captions = stitch(pictures, to_title, load_decoder("{namespace}/title-index"))
print(find_captions(picture, top_k=5))
label = zero_shot(pictures, to_title, texts, ["animal", "vehicle", "flower"])
print(label(picture, top_k=3))
"""


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "**MPNet** has never seen a picture and **EfficientNet** has never read a word. A linear "
        "map fitted on titled drawings joins the two: a text finds pictures, a picture finds "
        "titles, often wrong but far above chance. All that is searched comes from folders that "
        "the fit has not seen."
    )
    _text_to_pictures(repos)
    _picture_to_texts(repos)
    look.code(CODE.format(namespace=repos.settings.namespace))


def _text_to_pictures(repos: Repos) -> None:
    with gr.Row(equal_height=True):
        query = gr.Textbox(
            label="Text",
            placeholder="What should the picture show?",
            max_length=MAX_TEXT,
            scale=5,
            min_width=320,
        )
        button = gr.Button("Find pictures", variant="primary", scale=1, min_width=120)
    found = _gallery("Pictures found, with title and cosine", 4, 660, render=False)
    facts = look.facts()
    results = Results(found, facts)

    def find_pictures(text: str) -> tuple[Shown, Facts]:
        return retrieval.find_by_text(repos, text)

    results.examples(EXAMPLES, query, find_pictures, **ENCODING)
    results.notice.render()
    facts.render()
    found.render()
    results.on([button.click, query.submit], find_pictures, query, **ENCODING)
    results.endpoint(find_pictures, query, **ENCODING)


def _picture_to_texts(repos: Repos) -> None:
    with gr.Row(equal_height=True):
        samples = _gallery("Pick a picture", 6, 380)
        picture = picture_upload(label="or upload one", height=380, scale=1, min_width=220)
    with gr.Row(equal_height=True):
        labels = gr.Textbox(
            LABELS,
            label="Labels",
            info="2 to 20, one a line or between commas",
            lines=2,
            max_length=MAX_TEXT,
            scale=5,
            min_width=320,
        )
        button = gr.Button("Label", variant="primary", scale=1, min_width=120)
    facts, times = look.facts(), look.facts()
    captions, bars = look.ranked("Captions"), look.bars("Your labels", height=480)
    results = Results(captions, facts, bars, times)
    results.notice.render()
    facts.render()
    times.render()
    with gr.Row():
        captions.render()
        bars.render()

    def find_captions(picture: str | None) -> tuple[Ranked, Facts]:
        return retrieval.find_by_picture(repos, check_picture(picture))

    def label_picture(picture: str | None, labels: str) -> tuple[Bars, Facts]:
        return retrieval.label_picture(repos, check_picture(picture), labels)

    def see(picture: str | None, labels: str) -> tuple[Ranked, Facts, Bars, Facts]:
        return *find_captions(picture), *label_picture(picture, labels)

    def label(picture: str | None, labels: str) -> list[Any]:
        return [gr.skip(), gr.skip(), *label_picture(picture, labels)]

    def pick(event: gr.SelectData, labels: str) -> tuple[Image.Image, Ranked, Facts, Bars, Facts]:
        item, _ = retrieval.choose_pictures(repos)[event.index]
        found = retrieval.find_by_picture(repos, item)
        return item, *found, *retrieval.label_picture(repos, item, labels)

    def fill() -> list[Any]:
        return [retrieval.choose_pictures(repos), *[gr.skip()] * len(results.shown)]

    results.endpoint(find_captions, picture, [captions, facts], **ENCODING)
    results.endpoint(label_picture, [picture, labels], [bars, times], **ENCODING)
    results.on(picture.upload, see, [picture, labels], **ENCODING)
    results.on([button.click, labels.submit], label, [picture, labels], **ENCODING)
    results.on(samples.select, pick, labels, [picture], **ENCODING)
    if isinstance(tab := Context.block, gr.Tab):  # nothing is loaded before someone looks
        results.on(tab.select, fill, None, [samples], show_progress="hidden", **ENCODING)


def _gallery(label: str, columns: int, height: int, *, render: bool = True) -> gr.Gallery:
    return gr.Gallery(
        label=label,
        columns=columns,
        height=height,
        format="png",
        allow_preview=False,
        object_fit="contain",
        interactive=False,
        buttons=[],
        elem_classes="tiles",
        scale=3,
        render=render,
    )
