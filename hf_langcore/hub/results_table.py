"""Evaluation results as Markdown: for each model and text one table of languages and conditions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.markdown import table
from hf_langcore.hub.marks import Marks

_LARGE = 10_000
_DIGEST = 8  # digits of a mask's digest that tell masks of one table apart

_Column = tuple[str, str | None]


RESULTS_MARKS = Marks("core-mask-results")
"""Around the results in a mask's card, so that a push of results renews them without touching the rest."""


def results_section(records: Iterable[EvalRecord]) -> str:
    """What a mask's card says of results; nothing where there are none."""
    shown = results_table(records).strip()
    if not shown:
        return ""
    words = (
        "From `eval/results.json`, which also says which texts, how many tokens and which versions a figure is about."
    )
    return f"## Results\n\n{words}\n\n{shown}"


def results_table(records: Iterable[EvalRecord]) -> str:
    """Perplexity per language and condition, and bits per byte of the first condition where the bytes are known."""
    ordered = sorted(records, key=_group_key)
    return "\n".join(_section(list(group)) for _, group in groupby(ordered, key=_group_key))


def _group_key(record: EvalRecord) -> tuple[str, ...]:
    parts = (record.model, record.model_revision, record.adapter, record.dataset, record.dataset_revision)
    return tuple(part or "" for part in (*parts, record.dataset_split, record.text_sha256))


def _section(records: Sequence[EvalRecord]) -> str:
    in_order = sorted(records, key=lambda record: record.is_edited)
    columns: list[_Column] = list(dict.fromkeys(_column(record) for record in in_order))
    cells = {(record.language, _column(record)): record for record in in_order}
    languages = list(dict.fromkeys(record.language for record in records))
    shows_bytes = any(_bits(cells.get((language, columns[0]))) for language in languages)
    rows = [
        [
            language,
            *_tokens(cells, language, columns),
            *(_figure(cells.get((language, column))) for column in columns),
            *([_bits(cells.get((language, columns[0])))] * shows_bytes),
        ]
        for language in languages
    ]
    titles = _titles(columns)
    head = ["language", "tokens", *titles, *([f"bits per byte, {titles[0]}"] * shows_bytes)]
    return f"{_caption(records[0])}\n\n{table(head, rows, right=len(head) - 1)}\n"


def _column(record: EvalRecord) -> _Column:
    return record.condition, record.core_mask


def _titles(columns: Sequence[_Column]) -> list[str]:
    """The conditions' names; of two masks with conditions of one name, each with its digest."""
    names = [name for name, _ in columns]
    return [
        name if names.count(name) == 1 else f"{name} ({(digest or 'no mask')[:_DIGEST]})" for name, digest in columns
    ]


def _tokens(cells: dict[tuple[str, _Column], EvalRecord], language: str, columns: Sequence[_Column]) -> list[str]:
    found = [cells[language, column].tokens for column in columns if (language, column) in cells]
    return [f"{found[0]:,}"]


def _figure(record: EvalRecord | None) -> str:
    if record is None:
        return ""
    value = record.perplexity
    if math.isinf(value):
        return "inf"
    return f"{value:,.2f}" if value < _LARGE else f"{value:.2e}"


def _bits(record: EvalRecord | None) -> str:
    bits = None if record is None else record.bits_per_byte
    return "" if bits is None else f"{bits:.3f}"


def _caption(record: EvalRecord) -> str:
    parts = [f"Perplexity of `{record.model}`"]
    parts += [f"at revision `{record.model_revision}`"] if record.model_revision else []
    parts += [f"with adapter {record.adapter}"] if record.adapter else []
    if record.dataset is not None:
        parts.append(f"on {record.dataset}{f', {record.dataset_split}' if record.dataset_split else ''}")
    return f"{' '.join(parts)}:"
