"""Builds the Space: seven tabs that carry latents of one encoder into the space of another."""

import os
from typing import Any

os.environ.setdefault("HF_HUB_DOWNLOAD_TIMEOUT", "3")  # a silent Hub is given up after 12 seconds

import gradio as gr
import look
import preparing
from limits import MAX_UPLOAD, MAX_VISITORS, Refusal
from repos import Repos
from settings import Settings
from starlette.middleware import Middleware
from tabs import across
from tabs.autoencoders import tab as autoencoders
from tabs.fit_your_own import tab as fit_your_own
from tabs.fit_your_own.disk import UploadLimit
from tabs.look_inside import tab as look_inside
from tabs.migrate import tab as migrate
from tabs.pictures import tab as pictures
from tabs.stitching import tab as stitching

TITLE = "Latent Bridge"
INTRO = """\
# Latent Bridge

Two neural networks that saw similar data arrange meaning in nearly the same shape. One small map
carries what one network sees into the space of another, and what was built there works at once.
"""
DELETE_CACHE = (600, 3600)  # every ten minutes, visitors' files that are an hour old
TABS = {
    "Across models": across.build,
    "Zero-shot stitching": stitching.build,
    "Text and image": pictures.build,
    "Autoencoders": autoencoders.build,
    "Look inside": look_inside.build,
    "Fit your own": fit_your_own.build,
    "Migrate": migrate.build,
}


class Space(gr.Blocks):
    """Blocks that refuse in one sentence what an endpoint does not take; Gradio quotes it all."""

    async def preprocess_data(self, block_fn: Any, *arguments: Any, **options: Any) -> Any:
        """The inputs of an event, as its function takes them."""
        try:
            return await super().preprocess_data(block_fn, *arguments, **options)
        except gr.Error as error:
            raise Refusal(str(error.message)) from None
        except Exception:  # Gradio and pydantic raise anything
            raise Refusal(
                "This endpoint takes other values: 'Use via API', below the page, lists them."
            ) from None


def build_demo(settings: Settings | None = None) -> gr.Blocks:
    """The whole demo, with nothing loaded yet."""
    repos = Repos(settings or Settings.read())
    demo = Space(title=TITLE, analytics_enabled=False, delete_cache=DELETE_CACHE)
    with demo:
        gr.Markdown(INTRO)
        preparing.build(repos.settings)
        with gr.Tabs():
            for name, build in TABS.items():
                with gr.Tab(name):
                    build(repos)
    demo.queue(max_size=64, default_concurrency_limit=2)
    return demo


def launch_options() -> dict[str, Any]:
    """The arguments of `launch`, the same on a Space, on a desk and in a test."""
    return {
        "theme": look.theme(),
        "css": look.CSS,
        "max_file_size": MAX_UPLOAD,
        "app_kwargs": {"middleware": [Middleware(UploadLimit)]},
        "show_error": True,
        "footer_links": ["api", "settings"],
        "ssr_mode": False,
        "state_session_capacity": MAX_VISITORS,
    }


if __name__ == "__main__":
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    build_demo().launch(**launch_options())
