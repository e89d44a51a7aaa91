"""CompressionReport: how few bits per byte models need, language by language, beside general compressors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hf_langcore.compression.archivers import Archived
from hf_langcore.errors import InputError
from hf_langcore.evaluation.language_score import number_or_inf
from hf_langcore.files import json_text
from hf_langcore.printing import markdown_table, printed, table_with_total

_BYTE = 8
_CAPTION = (
    "Bits of code per byte of text, and bytes of code in per cent of the bytes of text. Models: ideal code length. "
    "Compressors: all documents of a language in one file."
)


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A text that was really compressed and decompressed.

    Attributes:
        original: Bytes of the text, line breaks between documents included.
        compressed: Bytes of the compressed data, header and checksums included.
        identical: What came out is what went in, byte for byte.
        seconds: Wall time of both ways.
    """

    original: int
    compressed: int
    identical: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class LanguageCompression:
    """How a model compresses the text of one language.

    Attributes:
        bits: Ideal code length, the sum of -log2 p over all tokens; infinite for a model that excludes a token.
        bytes: UTF-8 bytes of the text.
        tokens: Number of tokens, which depends on the tokenizer.
        round_trip: The text really coded; None where that was not asked for.
    """

    bits: float
    bytes: int
    tokens: int
    round_trip: RoundTrip | None = None

    @property
    def bits_per_byte(self) -> float:
        """Bits of code per byte of text."""
        return self.bits / self.bytes

    @property
    def ratio(self) -> float:
        """Bytes of text per byte of code; larger is better."""
        return _BYTE * self.bytes / self.bits if self.bits else math.inf

    @property
    def percent(self) -> float:
        """Bytes of code in per cent of the bytes of text, the inverse of `ratio`."""
        return 100 * self.bits / (_BYTE * self.bytes)


@dataclass(frozen=True)
class CompressionReport:
    """Compression by one or several models of the same texts.

    Attributes:
        conditions: Model or condition -> language -> figures.
        archived: Language -> compressor -> bytes it needs.
        model_bytes: Model or condition -> bytes of its weights.
        settings: Model or condition -> what was measured and how; `text_sha256` is of the texts themselves, so that models with
            different tokenizers can be compared.
    """

    conditions: Mapping[str, Mapping[str, LanguageCompression]]
    archived: Mapping[str, Mapping[str, Archived]] = field(default_factory=dict)
    model_bytes: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def compare(cls, reports: Mapping[str, CompressionReport]) -> CompressionReport:
        """Put reports of one model each side by side.

        Raises:
            InputError: There are none, one has several models, or their texts differ.
        """
        if not reports:
            raise InputError('compare needs reports, such as {"small": report, "large": other}; got none.')
        texts = {one.settings[one._name()].get("text_sha256") for one in reports.values()}  # noqa: SLF001
        if len(texts) > 1:
            raise InputError(
                "The reports were measured on different texts, so their figures cannot be compared. Measure all models with the same "
                "corpora, max_bytes and seed."
            )
        first = next(iter(reports.values()))
        return cls(
            {name: one.only() for name, one in reports.items()},
            first.archived,
            {name: one.model_bytes[one._name()] for name, one in reports.items()},  # noqa: SLF001
            {name: one.settings[one._name()] for name, one in reports.items()},  # noqa: SLF001
        )

    @property
    def languages(self) -> list[str]:
        """The languages, in order."""
        return list(next(iter(self.conditions.values())))

    @property
    def bits_per_byte(self) -> dict[str, float]:
        """Language -> bits per byte of the only model."""
        return {language: one.bits_per_byte for language, one in self.only().items()}

    @property
    def ratio(self) -> dict[str, float]:
        """Language -> bytes of text per byte of code of the only model."""
        return {language: one.ratio for language, one in self.only().items()}

    def total(self, condition: str | None = None) -> LanguageCompression:
        """All languages together: sums of bits and bytes."""
        scores = list((self.only() if condition is None else self.conditions[condition]).values())
        return LanguageCompression(
            sum(one.bits for one in scores), sum(one.bytes for one in scores), sum(one.tokens for one in scores)
        )

    def adjusted_percent(self, condition: str | None = None) -> float:
        """Bytes of all code and of the model's weights in per cent of the bytes of text.

        Who gets compressed data needs the model, too; it pays only for texts that are much larger than the model.
        """
        name = self._name() if condition is None else condition
        total = self.total(name)
        return total.percent + 100 * self.model_bytes[name] / total.bytes

    def only(self) -> Mapping[str, LanguageCompression]:
        """The figures of the only model.

        Raises:
            InputError: There are several.
        """
        return self.conditions[self._name()]

    def _name(self) -> str:
        if len(self.conditions) != 1:
            raise InputError(f"This report has {list(self.conditions)}; take one from .conditions.")
        return next(iter(self.conditions))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        return {
            "settings": {name: dict(values) for name, values in self.settings.items()},
            "model_bytes": dict(self.model_bytes),
            "conditions": {
                name: {language: _one(score) for language, score in scores.items()}
                for name, scores in self.conditions.items()
            },
            "archived": {
                language: {name: asdict(sizes) for name, sizes in found.items()}
                for language, found in self.archived.items()
            },
            "total": {name: _figures(self.total(name)) for name in self.conditions},
            "adjusted_percent": {name: number_or_inf(self.adjusted_percent(name)) for name in self.conditions},
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        return json_text(self.to_dict(), path)

    def to_markdown(self) -> str:
        """A Markdown table, one row a language, all languages last."""
        return markdown_table(*_cells(self))

    def __str__(self) -> str:
        return printed(self)

    def __rich__(self) -> Any:
        """The table that rich prints."""
        return table_with_total("Compression", *_cells(self), caption=_caption(self))


def _one(score: LanguageCompression) -> dict[str, Any]:
    trip = {} if score.round_trip is None else {"round_trip": asdict(score.round_trip)}
    return {**_figures(score), **trip}


def _figures(score: LanguageCompression) -> dict[str, Any]:
    return {
        "bits": number_or_inf(score.bits),
        "bytes": score.bytes,
        "tokens": score.tokens,
        "bits_per_byte": number_or_inf(score.bits_per_byte),
        "ratio": number_or_inf(score.ratio),
        "percent": number_or_inf(score.percent),
    }


def _cells(report: CompressionReport) -> tuple[list[str], list[list[str]]]:
    """Titles and rows."""
    models = list(report.conditions)
    compressors = list(next(iter(report.archived.values()), {}))
    header = ["language", "bytes", *(f"{name}: bits per byte" for name in models)]
    header += [*(f"{name} %" for name in models), *(f"{name} %" for name in compressors)]
    rows = [_row(report, language, models, compressors) for language in report.languages]
    return header, [*rows, _total(report, models, compressors)]


def _row(report: CompressionReport, language: str, models: list[str], compressors: list[str]) -> list[str]:
    scores = [report.conditions[name][language] for name in models]
    size = scores[0].bytes
    archived = [f"{100 * report.archived[language][name].whole / size:.1f}" for name in compressors]
    return [
        language,
        f"{size:,}",
        *(_figure(score.bits_per_byte, 3) for score in scores),
        *(_figure(score.percent, 1) for score in scores),
        *archived,
    ]


def _total(report: CompressionReport, models: list[str], compressors: list[str]) -> list[str]:
    totals = [report.total(name) for name in models]
    size = totals[0].bytes
    archived = [
        f"{100 * sum(found[name].whole for found in report.archived.values()) / size:.1f}" for name in compressors
    ]
    return [
        "all",
        f"{size:,}",
        *(_figure(total.bits_per_byte, 3) for total in totals),
        *(_figure(total.percent, 1) for total in totals),
        *archived,
    ]


def _caption(report: CompressionReport) -> str:
    adjusted = ", ".join(f"{name} {_figure(report.adjusted_percent(name), 1)} %" for name in report.conditions)
    return f"{_CAPTION} With the weights of the model added: {adjusted}."


def _figure(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}" if math.isfinite(value) else "inf"
