"""Reading the JSON of a PerplexityReport, which may come from anybody: each figure is checked, and all of it against its seal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hf_langcore.errors import InputError
from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.sealing import SEAL, is_intact
from hf_langcore.strict_json import parse_json, read_json

FORMAT_VERSION = 1

_KEYS = {
    "format_version",
    "settings",
    "condition_settings",
    "conditions",
    SEAL,
    "generations",
}  # the last of `langcore scale`
_SCORE_KEYS = {"nll", "perplexity", "tokens", "bytes"}
_LIMIT = 1 << 25
_MOST = 10**15
_CLOSE = 1e-6  # other programs may compute exp a little differently


class ReportContent(NamedTuple):
    """What a file says.

    Attributes:
        conditions: Condition -> language -> score.
        settings: Of the first condition.
        condition_settings: Condition -> what is different from `settings`.
    """

    conditions: dict[str, dict[str, LanguageScore]]
    settings: dict[str, Any]
    condition_settings: dict[str, dict[str, Any]]


def read_report(source: str | Path) -> ReportContent:
    """Read what `PerplexityReport.to_json` wrote: a path, or the text itself. Reports of before there were seals are read.

    Raises:
        InputError: It is no report, damaged, or of a newer format.
    """
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    try:
        values = parse_json(str(source)) if is_text else read_json(Path(source), limit=_LIMIT)
        return _content(values)
    except (ValueError, OSError) as error:
        where = "The text" if is_text else repr(str(source)[:200])
        raise InputError(
            f"{where} is no perplexity report as written by to_json: {str(error)[:300]}. Measure again, or copy the file again."
        ) from error


def _content(values: Any) -> ReportContent:
    version = _dict(values, "a report").get("format_version", FORMAT_VERSION)
    if type(version) is not int or version != FORMAT_VERSION:
        raise ValueError(
            f"it has format version {repr(version)[:80]}, this hf_langcore reads {FORMAT_VERSION}: update it"
        )
    if not is_intact(values, may_lack=True):
        raise ValueError("its content has another checksum than it names: it was damaged or altered")
    unknown = sorted(values.keys() - _KEYS)
    if unknown:
        raise ValueError(f"the key {unknown[0][:80]!r} is not known")
    conditions = {
        name: {language: _score(score) for language, score in _dict(scores, "a condition").items()}
        for name, scores in _dict(values.get("conditions"), "conditions").items()
    }
    changed = _dict(values.get("condition_settings") or {}, "condition_settings")
    return ReportContent(
        conditions,
        _dict(values.get("settings") or {}, "settings"),
        {name: _dict(own, "settings of a condition") for name, own in changed.items()},
    )


def _dict(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} should be a JSON object, got {type(value).__name__}")  # noqa: TRY004 one kind of error
    return value


def _score(value: Any) -> LanguageScore:
    """A figure that can be one, and whose perplexity, where it is given, follows from it."""
    fields = _dict(value, "a figure")
    unknown = sorted(fields.keys() - _SCORE_KEYS)
    if unknown:
        raise ValueError(f"a figure has the unknown field {unknown[0][:80]!r}")
    size = fields.get("bytes")
    score = LanguageScore(_loss(fields), _count(fields, "tokens"), None if size is None else _count(fields, "bytes"))
    _require_perplexity(fields, score)
    return score


def _loss(fields: Mapping[str, Any]) -> float:
    value: Any = fields.get("nll")
    if value == "inf":
        return math.inf
    if type(value) not in {int, float} or not 0 <= value <= _MOST:
        raise ValueError(f'nll should be a number of at least 0, or "inf", got {repr(value)[:80]}')
    return float(value)


def _count(fields: Mapping[str, Any], name: str) -> int:
    value: Any = fields.get(name)
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{name} should be a whole number of at least 0, got {repr(value)[:80]}")
    return int(value)


def _require_perplexity(fields: Mapping[str, Any], score: LanguageScore) -> None:
    """Older reports have none."""
    if "perplexity" not in fields:
        return
    given = fields["perplexity"]
    number = math.inf if given == "inf" else given
    if type(number) not in {int, float} or not _is_close(number, score.perplexity):
        raise ValueError(f"perplexity should be {score.perplexity!r}, as follows from nll, got {repr(given)[:80]}")


def _is_close(given: float, expected: float) -> bool:
    try:
        return math.isclose(given, expected, rel_tol=_CLOSE)
    except OverflowError:
        return False
