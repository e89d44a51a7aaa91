"""The page's answers without a browser: fields in, texts, table and messages out."""

from __future__ import annotations

import asyncio
import importlib
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from explorer import Explorer
from suggestions import Suggestion

from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.evaluation.report import PerplexityReport

gr = pytest.importorskip("gradio", reason="gradio is not installed (the extra 'space')")
app = importlib.import_module("app")  # needs gradio

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples" / "space"
PROMPT = "The teacher reads"
NORM = "model.layers.0.input_layernorm.weight"


@pytest.fixture
def page(explorer: Explorer) -> Any:
    found = (Suggestion("a norm", NORM, 3), Suggestion("a weight", "w", (4, 5), None, 0.0))
    return app.Page(explorer, (*found, Suggestion("a column", "w", 7, 1, 0.5)))


def built(page: Any, *, computed: bool) -> Any:
    """The page; outside a running loop gradio would make loops that nobody closes."""

    async def make() -> Any:
        return app.build(page, model="tiny", computed=computed)

    return asyncio.run(make())


def test_every_region_and_every_edit_has_an_answer(page: Any) -> None:
    changes = {}
    for region in app.REGIONS:
        for how in app.HOWS:
            before, after, table, said = page.region(region, how, 3.0, 0, PROMPT, 3)
            assert before.startswith(PROMPT)
            assert after.startswith(PROMPT)
            assert [row[0] for row in table] == ["de", "en", "all"]
            assert "Every bit is restored" in said
            changes[region, how] = table[-1][3]
    assert len(set(changes.values())) == len(changes), "two choices do the same"


def test_a_dimension_is_scaled_along_the_axis_that_was_chosen(page: Any) -> None:
    assert page.dimension(NORM, "3", "norm or bias", 10, PROMPT, 3)[3].startswith("1 weight edited.")
    matrix = "model.layers.0.mlp.up_proj"
    assert page.dimension(matrix, "3", "output (row)", 0, PROMPT, 3)[3].startswith("48 weights edited.")
    assert page.dimension(matrix, "3", "input (column)", 0, PROMPT, 3)[3].startswith("96 weights edited.")
    assert page.dimension(matrix, "3, 4", None, 0, PROMPT, 3)[3].startswith("1 weight edited.")


@pytest.mark.parametrize(
    "fields, message",
    [
        ((NORM, "48", None), "has dimensions 0 to 47"),
        ((NORM, "many", None), "The index is one number"),
        ((None, "0", None), "parameter"),
        (("<b>x</b>", "0", None), "&lt;b&gt;x&lt;/b&gt;"),
    ],
)
def test_what_is_refused_is_said_in_the_librarys_words(page: Any, fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(gr.Error, match=re.escape(message)) as caught:
        page.dimension(*fields, 10, PROMPT, 3)
    assert not caught.value.print_exception
    assert caught.value.duration == 30


def test_an_empty_prompt_is_refused(page: Any) -> None:
    with pytest.raises(gr.Error, match="prompt is empty"):
        page.region("the core", "set to zero", 1, 0, "", 3)


def test_warnings_of_the_library_are_shown(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(gr, "Warning", shown.append)
    page.dimension("model.embed_tokens", "3", "output (row)", 0, PROMPT, 3)
    assert len(shown) == 1
    assert "is tied to" in shown[0]
    assert "<" not in shown[0]


def test_a_found_dimension_fills_the_fields(page: Any) -> None:
    assert page.pick("a norm") == (NORM, "3", "norm or bias", 10.0)
    assert page.pick("a weight") == ("w", "4, 5", "norm or bias", 0.0)
    assert page.pick("a column") == ("w", "7", "input (column)", 0.5)
    assert page.pick("something else") == (gr.skip(),) * 4 == page.pick(None)
    assert list(app.AXES.values()) == [None, 0, 1]


def test_the_table_has_every_language_and_their_mean() -> None:
    reports = {
        "before": {
            "en": LanguageScore(math.log(4.0), 10),
            "zh": LanguageScore(math.log(100.0), 10),
        },
        "after": {"en": LanguageScore(math.log(8.0), 10), "zh": LanguageScore(math.inf, 10)},
    }
    assert app.rows(PerplexityReport(reports)) == [
        ["en", "4.00", "8.00", "x 2.00"],
        ["zh", "100", "∞", "x ∞"],
        ["all", "20.0", "∞", "x ∞"],
    ]


@pytest.mark.parametrize(
    "value, text",
    [(1.0, "1.00"), (99.94, "99.9"), (12345.6, "12,346"), (4e7, "4.0e+07"), (math.inf, "∞"), (math.nan, "∞")],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert app.number(value) == text


def test_weights_that_are_not_restored_are_shouted_about() -> None:
    assert app.status(SimpleNamespace(num_edited=1234, is_restored=True)).startswith(
        "1,234 weights edited. **Every bit"
    )
    broken = app.status(SimpleNamespace(num_edited=1, is_restored=False))
    assert broken.startswith("1 weight edited. **The weights are not what they were")


def test_both_buttons_wait_in_one_queue(page: Any) -> None:
    blocks = built(page, computed=False)
    edits = [one for one in blocks.fns.values() if one.api_name in {"region", "dimension"}]
    assert [one.concurrency_limit for one in edits] == [1, 1]
    assert len({one.concurrency_id for one in edits}) == 1
    assert {one.api_visibility for one in blocks.fns.values() if one not in edits} == {"private"}
    assert not blocks.analytics_enabled


@pytest.mark.parametrize("offered", [True, False])
def test_the_page_opens_with_a_dimension_that_can_be_edited(explorer: Explorer, offered: bool) -> None:
    column = Suggestion("a column", "model.layers.0.mlp.up_proj.weight", 7, 1, 0.5)
    page = app.Page(explorer, (column,) if offered else ())
    blocks = built(page, computed=False).blocks.values()
    given = {block.elem_id: block.value for block in blocks if hasattr(block, "value")}
    fields = [given[name] for name in ("parameter", "index", "axis", "factor")]
    if offered:
        assert fields == [column.parameter, "7", "input (column)", 0.5]
        assert page.dimension(*fields, PROMPT, 2)[3].startswith("96 weights")
    else:
        assert fields == [explorer.parameters[0], "0", "norm or bias", 10.0]


def test_a_computed_core_is_called_one(page: Any) -> None:
    def said(*, computed: bool) -> str:
        blocks = built(page, computed=computed)
        return next(block.value for block in blocks.blocks.values() if isinstance(block, gr.Markdown) and block.value)

    assert "at most 1000 tokens" in said(computed=True)
    assert "No mask was given" not in said(computed=False)
    assert "taylor top 5 %" in said(computed=False)


def test_the_spaces_card_fits_what_is_tested() -> None:
    card = yaml.safe_load((SPACE / "README.md").read_text(encoding="utf-8").split("---")[1])
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"gradio=={card['sdk_version']}" in pins
    assert card["sdk"] == "gradio"
    assert (SPACE / card["app_file"]).is_file()
    assert len(card["short_description"]) <= 60
    assert "hf_langcore" in (SPACE / "requirements.txt").read_text(encoding="utf-8").split()
