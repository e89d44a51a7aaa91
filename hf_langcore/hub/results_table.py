"""Evaluation results as Markdown: for each model and text one table of languages and conditions."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from itertools import groupby

from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.markdown import table
from hf_langcore.hub.marks import Marks

_LARGE = 10_000
_DIGEST = 8  # digits of a mask's digest that tell masks of one table apart

_Column = tuple[str, str | None]


RESULTS_MARKS = Marks("core-mask-results")
"""Around the results in a mask's card, so that a push of results renews them without touching the rest."""


def results_section(records: Iterable[EvalRecord], *, core_mask: str | None = None) -> str:
    """What a mask's card says of results; nothing where there are none.

    Args:
        records: All results of the repository.
        core_mask: Digest of the card's own mask; figures of others are marked.
    """
    listed = list(records)
    shown = results_table(listed, core_mask=core_mask).strip()
    if not shown:
        return ""
    words = (
        "From `eval/results.json`, which also says which texts, how many tokens and which versions a figure is about."
    )
    others = {record.core_mask for record in listed} - {None, core_mask}
    if core_mask is not None and others:
        words += " Columns that name a mask are about **another mask** than this one."
    return f"## Results\n\n{words}\n\n{shown}"


def results_table(records: Iterable[EvalRecord], *, core_mask: str | None = None) -> str:
    """Perplexity per language and condition, and bits per byte of the first condition where the bytes are known.

    Args:
        records: The figures; where they are of several masks, each column says of which.
        core_mask: Digest of the mask that they stand beside, which needs no mention; other masks are mentioned always.
    """
    groups = [list(group) for _, group in groupby(sorted(records, key=_group_key), key=_group_key)]
    masks = {record.core_mask for group in groups for record in group} - {None}
    mentioned = masks - {core_mask} if core_mask or len(masks) > 1 else set()
    captions = [_caption(group[0]) for group in groups]
    sections = []
    for group, caption in zip(groups, captions, strict=True):
        text = f"{caption}{_text(group[0])}" if captions.count(caption) > 1 else caption
        sections.append(_section(group, text, mentioned))
    return "\n".join(sections)


def _group_key(record: EvalRecord) -> tuple[str, ...]:
    parts = (record.model, record.model_revision, record.adapter, record.dataset, record.dataset_revision)
    return tuple(part or "" for part in (*parts, record.dataset_split, record.text_sha256))


def _section(records: Sequence[EvalRecord], caption: str, mentioned: Collection[str | None]) -> str:
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
    titles = _titles(columns, mentioned)
    head = ["language", "tokens", *titles, *([f"bits per byte, {titles[0]}"] * shows_bytes)]
    return f"{caption}:\n\n{table(head, rows, right=len(head) - 1)}\n"


def _column(record: EvalRecord) -> _Column:
    return record.condition, record.core_mask


def _titles(columns: Sequence[_Column], mentioned: Collection[str | None]) -> list[str]:
    """The conditions' names; with the digests of masks that are to be mentioned, or that alone tell two columns apart."""
    names = [name for name, _ in columns]
    return [
        f"{name} ({f'mask {digest[:_DIGEST]}' if digest else 'no mask'})"
        if digest in mentioned or names.count(name) > 1
        else name
        for name, digest in columns
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
    return " ".join(parts)


def _text(record: EvalRecord) -> str:
    """What tells two texts of one name apart."""
    parts = {"revision": record.dataset_revision, "text": record.text_sha256 and record.text_sha256[:_DIGEST]}
    said = ", ".join(f"{name} `{value}`" for name, value in parts.items() if value)
    return f" ({said or 'text not noted'})"
