"""Shows how far a demo is whose repos are still being made; what is there can be used meanwhile."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
from settings import Settings

SECONDS = 2.0  # between two looks at the file
BANNER = """
{{#if value.now}}<section class="result preparing">
<p>This demo is being prepared: {{value.now}}, {{value.left}}. Tabs that are ready can be used.</p>
<progress max="100" value="{{value.percent}}" aria-label="being prepared"></progress>
</section>{{/if}}
"""
DONE: dict[str, Any] = {"percent": 100, "now": "", "left": "", "waiting": []}


def status(file: Path | None) -> dict[str, Any]:
    """What `scripts/demo.py` wrote last; `DONE` where nothing is being made."""
    if file is None or not file.is_file():
        return DONE
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def build(settings: Settings) -> None:
    """Adds the banner, if this is a demo that is being prepared."""
    first = status(settings.progress)
    if not first["now"]:
        return
    banner = gr.HTML(first, html_template=BANNER, js_on_load=None)
    timer = gr.Timer(SECONDS)

    def look() -> tuple[gr.HTML, gr.Timer]:
        now = status(settings.progress)
        making = bool(now["now"])
        return gr.HTML(now, visible=making), gr.Timer(SECONDS, active=making)

    timer.tick(
        look,
        None,
        [banner, timer],
        api_visibility="private",
        show_progress="hidden",
        queue=False,
    )
