"""PerplexityReport: language x condition, as numbers, JSON, Markdown and a console table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.evaluation.figure import draw
from hf_langcore.evaluation.language_score import LanguageScore, exp_or_inf
from hf_langcore.evaluation.report_file import FORMAT_VERSION, read_report
from hf_langcore.files import replace_text
from hf_langcore.printing import markdown_table, printed, table_with_total
from hf_langcore.sealing import sealed

_LARGE = 10_000
_OF_THE_MOMENT = (
    "edits",
    "edited_masks",
    "adapters",
    "date",
)  # settings that say nothing about other conditions of a table


class PerplexityReport:
    """Perplexity of one or several conditions in one or several languages.

    `report.perplexity["zh"]`, `.nll`, `.tokens` and `.mean()` speak of the only condition; where there are several,
    take one first: `report["top 3 %"].perplexity["zh"]`. Deltas are relative to the first condition.

    Attributes:
        conditions: Condition -> language -> score.
        settings: What was measured first: model, revision, dtype, block size, stride, start token, digest of the text, open
            edits and adapters, versions, date. `settings_of` tells those of any condition.
    """

    def __init__(
        self,
        conditions: Mapping[str, Mapping[str, LanguageScore]],
        *,
        settings: Mapping[str, Any] | None = None,
        condition_settings: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if not conditions or not all(conditions.values()):
            raise InputError("A PerplexityReport needs at least one condition with one language.")
        first = list(next(iter(conditions.values())))
        for name, scores in conditions.items():
            if set(scores) != set(first):
                raise InputError(
                    f"All conditions need the same languages: the first has {first}, {name!r} has {list(scores)}."
                )
        self.conditions = {name: dict(scores) for name, scores in conditions.items()}
        self.settings = dict(settings or {})
        self._own = {name: dict(own) for name, own in (condition_settings or {}).items() if name in self.conditions}

    @classmethod
    def compare(cls, reports: Mapping[str, PerplexityReport]) -> PerplexityReport:
        """Put reports of one condition each side by side.

        Args:
            reports: Name of the condition -> report; the first is the baseline of the deltas.

        Raises:
            InputError: The languages differ, or the texts do: figures of different texts cannot be compared.
        """
        if not reports:
            raise InputError('compare needs reports, such as {"base": report, "top 3 %": other}; got none.')
        texts = {report.settings.get("text_sha256") for report in reports.values()}
        if len(texts) > 1:
            raise InputError(
                "The reports were measured on different texts, or cut differently (block_size, stride, max_tokens), so "
                "their figures cannot be compared. Measure all conditions with the same arguments."
            )
        first = next(iter(reports.values()))
        return cls(
            {name: report.only() for name, report in reports.items()},
            settings=first.settings,
            condition_settings={
                name: report.settings_of(next(iter(report.conditions))) for name, report in reports.items()
            },
        )

    def __getitem__(self, condition: str) -> PerplexityReport:
        if condition not in self.conditions:
            raise KeyError(f"no condition {condition!r}; there are {list(self.conditions)}")
        return PerplexityReport({condition: self.conditions[condition]}, settings=self.settings_of(condition))

    def settings_of(self, condition: str) -> dict[str, Any]:
        """The settings of one condition.

        Where nobody has noted those of a table's further conditions (tables that were made by hand or by older versions),
        they are the table's without what the model was: whether it was edited is not known.
        """
        if condition in self._own:
            return dict(self._own[condition])
        is_first = condition == next(iter(self.conditions))
        return {key: value for key, value in self.settings.items() if is_first or key not in _OF_THE_MOMENT}

    @property
    def languages(self) -> list[str]:
        """The languages, in order."""
        return list(next(iter(self.conditions.values())))

    @property
    def perplexity(self) -> dict[str, float]:
        """Language -> perplexity of the only condition."""
        return {language: score.perplexity for language, score in self.only().items()}

    @property
    def nll(self) -> dict[str, float]:
        """Language -> mean negative log-likelihood in nats per token of the only condition."""
        return {language: score.nll for language, score in self.only().items()}

    @property
    def tokens(self) -> dict[str, int]:
        """Language -> number of scored tokens."""
        return {language: score.tokens for language, score in next(iter(self.conditions.values())).items()}

    def mean(self, condition: str | None = None) -> float:
        """Geometric mean of the perplexities over languages, each language counting the same."""
        scores = self.only() if condition is None else self.conditions[condition]
        return exp_or_inf(sum(score.nll for score in scores.values()) / len(scores))

    def deltas(self) -> dict[str, dict[str, float]]:
        """Condition -> language -> nll minus the first condition's nll, in nats per token."""
        names = list(self.conditions)
        base = self.conditions[names[0]]
        return {
            name: {language: self.conditions[name][language].nll - base[language].nll for language in base}
            for name in names[1:]
        }

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; infinite figures become the string "inf"."""
        return {
            "format_version": FORMAT_VERSION,
            "settings": self.settings,
            "condition_settings": {name: _changed(self.settings, own) for name, own in self._own.items()},
            "conditions": {
                name: {language: score.to_dict() for language, score in scores.items()}
                for name, scores in self.conditions.items()
            },
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        values = json.loads(json.dumps(self.to_dict(), allow_nan=False))  # as a reader will see it
        text = json.dumps(sealed(values), indent=2, ensure_ascii=False) + "\n"
        if path is not None:
            replace_text(Path(path), text)
        return text

    @classmethod
    def from_json(cls, source: str | Path) -> PerplexityReport:
        """Read what `to_json` wrote: a path, or the text itself.

        Raises:
            InputError: It is no report, was damaged or altered, or is of a newer format.
        """
        found = read_report(source)
        own = {name: {**found.settings, **changed} for name, changed in found.condition_settings.items()}
        return cls(found.conditions, settings=found.settings, condition_settings=own)

    def to_markdown(self) -> str:
        """A Markdown table: one row a language, one column a condition, the geometric mean last."""
        return markdown_table(*_cells(self))

    def plot(self, path: str | Path) -> None:
        """Draw the table into a .png, .svg or .pdf file: one row a language, one mark a condition.

        Raises:
            MissingExtraError: matplotlib is not installed (`pip install "hf_langcore[report]"`).
        """
        values = {
            name: {language: one.perplexity for language, one in scores.items()}
            for name, scores in self.conditions.items()
        }
        draw(values, Path(path), caption=_caption(self))

    def __rich__(self) -> Any:
        """The table that rich prints."""
        return table_with_total("Perplexity", *_cells(self), caption=_caption(self))

    def __str__(self) -> str:
        return printed(self, width=max(100, 14 * (len(self.conditions) + 2)))

    def __repr__(self) -> str:
        means = ", ".join(f"{name} {_figure(self.mean(name))}" for name in self.conditions)
        return f"PerplexityReport({len(self.languages)} languages, geometric mean: {means})"

    def only(self) -> dict[str, LanguageScore]:
        """The scores of the only condition.

        Raises:
            InputError: There are several.
        """
        if len(self.conditions) > 1:
            raise InputError(
                f"This report has the conditions {list(self.conditions)}; take one first, such as "
                f"report[{next(iter(self.conditions))!r}]."
            )
        return next(iter(self.conditions.values()))


def _cells(report: PerplexityReport) -> tuple[list[str], list[list[str]]]:
    """Titles and rows of the table."""
    names = list(report.conditions)
    rows = [
        [
            language,
            f"{report.tokens[language]:,}",
            *(_figure(report.conditions[name][language].perplexity) for name in names),
        ]
        for language in report.languages
    ]
    total = f"{sum(report.tokens.values()):,}"
    rows.append(["mean (geometric)", total, *(_figure(report.mean(name)) for name in names)])
    return ["language", "tokens", *names], rows


def _caption(report: PerplexityReport) -> str:
    wanted = ("model", "revision", "dtype", "block_size", "stride", "start_token")
    return ", ".join(f"{key} {report.settings[key]}" for key in wanted if report.settings.get(key) is not None)


def _changed(settings: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A condition's settings that are not the table's; null is what the table has and the condition not."""
    return {key: own.get(key) for key in {**settings, **own} if own.get(key) != settings.get(key)}


def _figure(value: float) -> str:
    if math.isinf(value):
        return "inf"
    return f"{value:,.2f}" if value < _LARGE else f"{value:.2e}"
