"""Zero-shot stitching: a head classifies latents of an encoder that it was not trained on."""

from typing import Any

import gradio as gr
import look
from limits import ENCODING, MAX_TEXT
from methods import label, methods
from repos import Repos
from results import Results

from tabs.stitching.classification import ANCHORS, READERS, Bars, Facts, classify_by_each

EXAMPLES = (
    "The striker scored twice in the last ten minutes and the visitors won the derby.",
    "Shares in the airline fell by a tenth after it warned of lower profits this year.",
    "The new handset holds ten thousand songs and finds any wireless network by itself.",
    "Her first film took three prizes at the festival, best director among them.",
    "The minister told parliament that he would resign if the vote on the bill were lost.",
)
CODE = """\
from hf_latent_bridge import AffineTranslator, AutoTranslator, fit_translator
from hf_latent_bridge import load_decoder, load_encoder, load_pairs, stitch

encoder = load_encoder(AutoTranslator.from_pretrained("{namespace}/minilm-to-mpnet").source_)
head = load_decoder("{namespace}/news-head")                # trained on MPNet's latents alone
anchors = load_pairs(                                   # latents of the same texts by both
    "{namespace}/demo-news", split="train", source="source", target="target", max_pairs=500
)
translator = fit_translator(AffineTranslator(alpha=0.1), encoder.space, head.space, anchors)
classify = stitch(encoder, translator, head)            # nothing is trained
print(classify("The striker scored twice in the last ten minutes.", top_k=5))
"""


def build(repos: Repos) -> None:
    """Adds the tab."""
    look.lede(
        "A classifier head was trained on the latents of **one** encoder. Here **another** encoder "
        "reads your text, a map fitted on a few anchors (texts that both have encoded) carries its "
        "latents over, and the same head classifies them. Neither encoder nor head is trained."
    )
    text = gr.Textbox(
        label="Text",
        placeholder="A sentence or two of news",
        lines=2,
        max_lines=6,
        max_length=MAX_TEXT,
    )
    reader, method, anchors = _settings()
    button = gr.Button("Classify", variant="primary")
    inputs = [text, reader, method, anchors]
    shown = [look.bars(title, height=330) for title in ("Native", "Stitched", "Untranslated")]
    times = look.facts()
    results = Results(*shown, times)

    def classify(
        text: str, reader: str, method: str, anchors: int
    ) -> tuple[Bars, Bars, Bars, Facts]:
        return classify_by_each(repos, text, reader, method, anchors)

    def repeat(text: str, reader: str, method: str, anchors: int) -> Any:
        if not text:
            return [gr.skip()] * len(results.shown)
        return classify_by_each(repos, text, reader, method, anchors)

    results.examples([[text, None, None, None] for text in EXAMPLES], inputs, classify, **ENCODING)
    results.notice.render()
    times.render()
    with gr.Row():
        for bars in shown:
            bars.render()
    results.on([button.click, text.submit], classify, inputs, **ENCODING)
    settings = [setting.input for setting in (reader, method, anchors)]
    results.on(settings, repeat, inputs, trigger_mode="always_last", **ENCODING)
    results.endpoint(classify, inputs, **ENCODING)
    look.code(CODE.format(namespace=repos.settings.namespace))


def _settings() -> tuple[gr.Radio, gr.Radio, gr.Radio]:
    with gr.Row():
        reader = gr.Radio(
            [(f"{name} reads, head of {head}", name) for name, head in READERS.items()],
            value="MiniLM",
            label="Encoder",
            scale=3,
        )
        method = gr.Radio(
            [(label(method), name) for name, method in methods().items()],
            value="affine",
            label="Method",
            scale=3,
        )
        anchors = gr.Radio(
            [(f"{n:,}", n) for n in ANCHORS], value=500, label="Anchors (texts)", scale=3
        )
    return reader, method, anchors
