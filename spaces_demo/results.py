"""Shows on the page what a form found or, in its place, why there is nothing; the API gets errors.

Gradio itself shows an error as a notice that goes after some seconds, above the old results.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr
from limits import FAILED, answering

NOTICE = """
{{#if value.reason}}<section class="result" role="alert">
<h2>{{value.title}}</h2><p class="warning">⚠ {{value.reason}}</p></section>{{/if}}
"""
_STATE = ("value", "visible", "interactive")  # of a component, which a failure restores

Answer = Callable[..., Any]


class Results:
    """The components that show what a form found, and the notice that takes their place.

    Attributes:
        shown: The components; a failure makes each what it was at first.
        notice: Says what failed; not rendered yet, and hidden while nothing has failed.
    """

    def __init__(self, *shown: gr.blocks.Block) -> None:
        self.shown = list(shown)
        self.notice = gr.HTML(
            _reason(""), html_template=NOTICE, visible=False, js_on_load=None, render=False
        )

    def endpoint(self, function: Answer, inputs: Any, outputs: Any = None, **event: Any) -> None:
        """Adds the function to the API under its own name; a failure is an error there.

        Args:
            function: Takes a visitor's input.
            inputs: Components.
            outputs: Components; None for those that are shown.
            event: Options, such as the concurrency.
        """
        given = self.shown if outputs is None else outputs
        gr.on([], answering(function), inputs, given, api_name=function.__name__, **event)

    def on(
        self,
        triggers: Any,
        function: Answer,
        inputs: Any = None,
        filled: Sequence[gr.blocks.Block] = (),
        **event: Any,
    ) -> Any:
        """Shows what the function returns, or why it failed, when something happens on the page.

        Args:
            triggers: Events, such as `button.click`.
            function: Returns a value for each component.
            inputs: Components.
            filled: Components of the form that the function fills first; a failure keeps them.
            event: Options, such as the concurrency.

        Returns:
            The event, which further steps may follow.
        """
        return gr.on(triggers, **self._shown_by(function, inputs, filled), **event)

    def examples(
        self,
        values: Sequence[Any],
        form: Any,
        function: Answer,
        *,
        inputs: Any = None,
        filled: Sequence[gr.blocks.Block] = (),
        labels: list[str] | None = None,
        **event: Any,
    ) -> None:
        """Adds inputs that run at a click.

        Args:
            values: One for each example; a list if it fills several components.
            form: The component or components that an example fills.
            function: Runs at the click.
            inputs: Its inputs; None for `form`.
            filled: As for `on`.
            labels: A name for each example; None to show its values.
            event: Options, such as the concurrency.
        """
        examples = gr.Examples(
            [value if isinstance(value, list) else [value] for value in values],
            form,
            label="Try one",
            example_labels=labels,
            cache_examples=False,
            api_visibility="private",
        )
        shown = self._shown_by(function, form if inputs is None else inputs, filled)
        examples.load_input_event.then(**shown, **event)

    def answers(self, function: Answer, filled: Sequence[gr.blocks.Block] = ()) -> Answer:
        """The function as an event of the page calls it, which never raises.

        Args:
            function: Returns a value for each component.
            filled: As for `on`.

        Returns:
            A function that returns one value more, for the notice.
        """
        own, alone = answering(function), len(filled) + len(self.shown) == 1

        @functools.wraps(own)
        def answer(*args: Any, **kwargs: Any) -> list[Any]:
            try:
                found = own(*args, **kwargs)
            except gr.Error as error:
                kept = [gr.skip()] * len(filled)
                return [*kept, *map(_emptied, self.shown), _told(str(error.message))]
            return [*([found] if alone else found), _told("")]

        return answer

    def _shown_by(self, function: Answer, inputs: Any, filled: Sequence[Any]) -> dict[str, Any]:
        """The arguments of an event."""
        return {
            "fn": self.answers(function, filled),
            "inputs": inputs,
            "outputs": [*filled, *self.shown, self.notice],
            "api_name": f"{function.__name__}_on_page",  # or it would take an endpoint's name
            "api_visibility": "private",
        }


def _emptied(component: gr.blocks.Block) -> Any:
    """The component as it was at first."""
    return gr.update(**{key: getattr(component, key) for key in _STATE if hasattr(component, key)})


def _told(reason: str) -> Any:
    return gr.update(value=_reason(reason), visible=bool(reason))


def _reason(reason: str) -> dict[str, str]:
    return {"title": FAILED, "reason": reason}
