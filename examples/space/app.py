"""A page on which anyone edits the core of a language model and sees what it then says.

    python examples/space/app.py --model my-model --mask my-core

Also a Space on the Hub as it is: see README.md beside it. Options not given on the command line come from the variables
LANGCORE_SPACE_MODEL, LANGCORE_SPACE_MASK, LANGCORE_SPACE_DATA and LANGCORE_SPACE_SCAN.
"""

import argparse
import html
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from explorer import SEARCH_TOKENS, DimensionEdit, Explorer, Outcome, RegionEdit, load_explorer, parse_index
from suggestions import Suggestion, suggested

from hf_langcore import LangCoreError, PerplexityReport

DEFAULT_MODEL = "Qwen/Qwen2.5-0.5B"
REGION, DIMENSION = "a region", "one dimension"
REGIONS = {"the core": "core", "everything else": "complement", "random weights, as many as the core": "random"}
HOWS = {"set to zero": "zero", "multiply": "scale", "add noise": "noise"}
AXES = {"norm or bias": None, "output (row)": 0, "input (column)": 1}
ERROR_SECONDS = 30
MIN_WIDTH = 300  # pixels of a continuation: a phone shows the two below each other
# Long names wrap, so that a phone never scrolls the page sideways.
CSS = ".prose, .toast-body {overflow-wrap: anywhere} #status {font-size: var(--text-lg)}"

ABOUT = """
# What a model's core does

Zero a few percent of a language model's weights, the right ones, and it forgets every language at once; zero as many random
ones and little happens. Of one model with 13 billion weights it is reported that a single one is enough. Try it here.

**Model:** `{model}` · **Core:** `{core}`{caution}
"""
CAUTION = """

*No mask was given, so this core was computed when the page started, from at most {tokens} tokens of generated sentences in each
of its languages. It is good enough to try things out, not to draw conclusions from.*"""
SMALL_PRINT = """
Perplexity is measured on {tokens} tokens per language: enough to see a collapse, too few to compare two models. Continuations
are greedy. All visitors share one model; their edits are made one after another, and each one is undone before the next.
"""


@dataclass(frozen=True, slots=True)
class Page:
    """The page's answers.

    Attributes:
        explorer: The model.
        found: Dimensions that are offered by name.
    """

    explorer: Explorer
    found: tuple[Suggestion, ...] = ()

    def region(self, region: str, how: str, amount: float, seed: float, prompt: str, length: float) -> tuple[Any, ...]:
        """Edit a region; the arguments are the page's fields."""
        edit = RegionEdit(REGIONS.get(region, region), HOWS.get(how, how), float(amount), int(seed))
        return self._answer(edit, prompt, length)

    def dimension(
        self, parameter: str, index: str, axis: str | None, factor: float, prompt: str, length: float
    ) -> tuple[Any, ...]:
        """Scale one dimension; the arguments are the page's fields."""
        with shown_errors():
            edit = DimensionEdit(parameter or "", parse_index(index), AXES.get(axis), float(factor))
        return self._answer(edit, prompt, length)

    def pick(self, label: str | None) -> tuple[Any, ...]:
        """The fields of a dimension that was chosen by its name."""
        one = next((one for one in self.found if one.label == label), None)
        if one is None:
            return gr.skip(), gr.skip(), gr.skip(), gr.skip()
        return one.parameter, one.written_index, axis_name(one.axis), one.factor

    def _answer(self, edit: RegionEdit | DimensionEdit, prompt: str, length: float) -> tuple[Any, ...]:
        with shown_errors():
            outcome = self.explorer.explore(edit, prompt, max_new_tokens=int(length))
        for note in outcome.notes:
            gr.Warning(html.escape(note))
        return outcome.before, outcome.after, rows(outcome.report), status(outcome)


def axis_name(axis: int | None) -> str:
    """What the page calls an axis."""
    return next(name for name, value in AXES.items() if value == axis)


@contextmanager
def shown_errors() -> Iterator[None]:
    """What the library refuses, the visitor reads in its own words."""
    try:
        yield
    except LangCoreError as error:
        text = html.escape(str(error))
        raise gr.Error(text, duration=ERROR_SECONDS, print_exception=False) from error


def rows(report: PerplexityReport) -> list[list[str]]:
    """The table of perplexities: one row per language, and their geometric mean."""
    before, after = report["before"], report["after"]
    figures = {
        **{language: (before.perplexity[language], after.perplexity[language]) for language in report.languages},
        "all": (before.mean(), after.mean()),
    }
    return [[name, number(one), number(two), f"x {number(two / one)}"] for name, (one, two) in figures.items()]


def number(value: float) -> str:
    """Three digits, as people read them."""
    if not math.isfinite(value):
        return "∞"
    if value >= 1e6:
        return f"{value:.1e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"


def status(outcome: Outcome) -> str:
    """What was edited, and whether it is undone."""
    edited = f"{outcome.num_edited:,} weight{'' if outcome.num_edited == 1 else 's'} edited."
    if outcome.is_restored:
        return f"{edited} **Every bit is restored**: the weights have the checksum again that they were loaded with."
    return f"{edited} **The weights are not what they were.** Restart this page before you trust what it shows."


def build(page: Page, *, model: str, computed: bool) -> gr.Blocks:
    """The page.

    Args:
        page: Its answers.
        model: What the model is called.
        computed: Whether the core was computed at the start because no mask was given.
    """
    about = ABOUT.format(
        model=model, core=page.explorer.core_mask, caution=CAUTION.format(tokens=SEARCH_TOKENS) if computed else ""
    )
    with gr.Blocks(title="hf_langcore: what a model's core does", analytics_enabled=False) as blocks:
        gr.Markdown(about)
        prompt = gr.Textbox("Fudan University is located in", label="Prompt", max_length=2000, elem_id="prompt")
        length = gr.Slider(5, 80, 30, step=1, label="Tokens to generate", elem_id="length")
        with gr.Tab("Edit " + REGION):
            region_fields = _region_fields()
            region_button = gr.Button("Edit, measure, restore", variant="primary", elem_id="edit-region")
        with gr.Tab("Edit " + DIMENSION):
            dimension_fields = _dimension_fields(page)
            dimension_button = gr.Button("Edit, measure, restore", variant="primary", elem_id="edit-dimension")
        outputs = _outputs()
        gr.Markdown(SMALL_PRINT.format(tokens=", ".join(sorted(map(str, set(page.explorer.base.tokens.values()))))))
        # One at a time for both buttons together: they edit the same model.
        once = {
            "outputs": outputs,
            "concurrency_id": "model",
            "concurrency_limit": 1,
            "show_progress_on": outputs[1:3],
        }
        region_button.click(page.region, [*region_fields, prompt, length], api_name="region", **once)
        dimension_button.click(page.dimension, [*dimension_fields, prompt, length], api_name="dimension", **once)
    return blocks


def _region_fields() -> list[Any]:
    region = gr.Radio(list(REGIONS), value=next(iter(REGIONS)), label="Which weights", elem_id="region")
    how = gr.Radio(list(HOWS), value=next(iter(HOWS)), label="What happens to them", elem_id="how")
    with gr.Row():
        amount = gr.Slider(
            0,
            10,
            1,
            step=0.1,
            label="How much",
            info="The factor, or the noise in standard deviations.",
            visible=False,
        )
        seed = gr.Number(0, precision=0, label="Seed", info="Of random weights and of noise.", visible=False)

    def shown(region: str, how: str) -> tuple[Any, Any]:
        random = REGIONS[region] == "random" or HOWS[how] == "noise"
        return gr.update(visible=HOWS[how] != "zero"), gr.update(visible=random)

    for field in (region, how):
        field.change(shown, [region, how], [amount, seed], api_visibility="private", show_progress="hidden")
    return [region, how, amount, seed]


def _dimension_fields(page: Page) -> list[Any]:
    first = page.found[0] if page.found else Suggestion("", page.explorer.parameters[0], 0)
    names = [one.label for one in page.found]
    found = gr.Dropdown(
        names, value=names[0] if names else None, label="Found dimensions", elem_id="found", visible=bool(names)
    )
    parameter = gr.Dropdown(
        page.explorer.parameters,
        value=first.parameter,
        label="Parameter",
        allow_custom_value=True,
        elem_id="parameter",
    )
    with gr.Row():
        index = gr.Textbox(first.written_index, label="Index", info="Or row, column of one weight.", elem_id="index")
        axis = gr.Radio(list(AXES), value=axis_name(first.axis), label="Axis", elem_id="axis")
    factor = gr.Slider(
        0, 10, first.factor, step=0.1, label="Factor", info="0 removes the dimension.", elem_id="factor"
    )
    fields = [parameter, index, axis, factor]
    found.input(page.pick, [found], fields, api_visibility="private", show_progress="hidden")
    return fields


def _outputs() -> list[Any]:
    with gr.Row():
        before = gr.Textbox(
            label="The model as it is", lines=4, min_width=MIN_WIDTH, interactive=False, elem_id="before"
        )
        after = gr.Textbox(label="The edited model", lines=4, min_width=MIN_WIDTH, interactive=False, elem_id="after")
    table = gr.Dataframe(
        headers=["language", "before", "after", "change"],
        label="Perplexity",
        interactive=False,
        wrap=True,
        elem_id="perplexity",
    )
    return [before, after, table, gr.Markdown(elem_id="status")]


def main() -> None:
    """Load the model, open the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = {
        name: os.environ.get(f"LANGCORE_SPACE_{name.upper()}") or None for name in ("model", "mask", "data", "scan")
    }
    parser.add_argument("--model", default=given["model"] or DEFAULT_MODEL, help="folder or Hub id of a causal LM")
    parser.add_argument(
        "--mask", default=given["mask"], help="folder or Hub id of its core mask; computed if not given"
    )
    parser.add_argument("--data", default=given["data"], help="folder with one text file per language to measure on")
    parser.add_argument(
        "--scan", default=given["scan"], help="scan.json of `langcore scan`, whose dimensions are offered"
    )
    parser.add_argument("--port", type=int, help="any free one from 7860 on if not given")
    options = parser.parse_args()

    explorer = load_explorer(options.model, options.mask, options.data)
    page = Page(explorer, suggested(options.model, explorer, options.scan))
    blocks = build(page, model=options.model, computed=options.mask is None)
    blocks.queue(max_size=20)
    blocks.launch(server_port=options.port, theme=gr.themes.Default(), css=CSS, ssr_mode=False, footer_links=["api"])


if __name__ == "__main__":
    main()
