"""AuditReport: what was found, as numbers, JSON, Markdown and a console table."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hf_langcore.auditing.findings import KINDS, Finding
from hf_langcore.auditing.outliers import Scored
from hf_langcore.files import replace_text
from hf_langcore.printing import printed

FORMAT_VERSION = 1

_EXAMPLES = 3
_PERCENTILES = (1, 25, 50, 75, 99)


@dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
        rows: Number of rows that were read.
        findings: Everything found, row by row.
        languages: Language -> rows that are surely in it, most frequent first; empty without that check.
        scores: Perplexity of each row that has trained tokens; empty without a model.
        settings: Form of the rows, checks, thresholds, expected languages, model.
    """

    rows: int
    findings: Sequence[Finding]
    languages: Mapping[str, int] = field(default_factory=dict)
    scores: Sequence[Scored] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def flagged(self) -> list[int]:
        """Positions of the rows with at least one finding, from 0."""
        return sorted({one.row for one in self.findings})

    def of_row(self, row: int) -> list[Finding]:
        """What was found in one row."""
        return [one for one in self.findings if one.row == row]

    def counts(self) -> dict[str, dict[str, int]]:
        """Check -> kind -> number of rows, kinds that were found only."""
        found: dict[str, dict[str, int]] = {}
        for check, kinds in KINDS.items():
            rows = {kind: len({one.row for one in self.findings if one.kind == kind}) for kind in kinds}
            if any(rows.values()):
                found[check] = {kind: count for kind, count in rows.items() if count}
        return found

    def shares(self) -> dict[str, float]:
        """Kind -> share of the rows that have it."""
        return {kind: count / self.rows for kinds in self.counts().values() for kind, count in kinds.items()}

    def worst(self, kind: str, limit: int = _EXAMPLES) -> list[Finding]:
        """The worst findings of a kind."""
        found = [one for one in self.findings if one.kind == kind]
        return sorted(found, key=lambda one: (-one.score, one.row))[:limit]

    def perplexity(self) -> dict[str, float]:
        """Token-weighted perplexity of all scored rows, their number, and percentiles of the rows' perplexities."""
        finite = [one for one in self.scores if math.isfinite(one.nll)]
        if not finite:
            return {}
        tokens = sum(one.tokens for one in finite)
        found = {"rows": float(len(finite)), "tokens": float(tokens)}
        found["perplexity"] = _exp(sum(one.nll * one.tokens for one in finite) / tokens)
        middle = np.percentile([one.nll for one in finite], _PERCENTILES)
        return found | {f"p{place}": _exp(float(nll)) for place, nll in zip(_PERCENTILES, middle, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "format_version": FORMAT_VERSION,
            "rows": self.rows,
            "flagged_rows": len(self.flagged),
            "counts": self.counts(),
            "shares": self.shares(),
            "languages": dict(self.languages),
            "perplexity": self.perplexity(),
            "settings": dict(self.settings),
            "findings": [_json(asdict(one)) for one in self.findings],
        }

    def to_json(self, path: str | Path | None = None) -> str:
        """As JSON text; also written to `path` where one is given."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        return _written(text, path)

    def to_markdown(self, path: str | Path | None = None, *, examples: int = _EXAMPLES) -> str:
        """A table of counts and the worst examples of each kind; also written to `path` where one is given."""
        lines = [
            "# Noise audit",
            "",
            self._summary(),
            "",
            "| check | kind | rows | share |",
            "| --- | --- | ---: | ---: |",
        ]
        lines += [f"| {check} | {kind} | {count:,} | {share} |" for check, kind, count, share in self._cells()]
        for kind in self.shares():
            lines += ["", f"## {kind}", ""]
            lines += [
                f"- row {one.row}, {one.part}: {_escaped(one.detail)}{_quoted(one.excerpt)}"
                for one in self.worst(kind, examples)
            ]
        return _written("\n".join(lines) + "\n", path)

    def __rich__(self) -> Any:
        """The table that rich prints: one line a kind with its worst example."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title="Noise audit", caption=self._summary(), header_style="bold", title_justify="left")
        for name in ("check", "kind"):
            table.add_column(name, no_wrap=True)
        for name in ("rows", "share"):
            table.add_column(name, justify="right", no_wrap=True)
        table.add_column("worst example", ratio=1)
        for check, kind, count, share in self._cells():
            one = self.worst(kind, 1)[0]
            example = Text(f"row {one.row}: {one.detail}\n{one.excerpt}".strip())
            table.add_row(check, kind, f"{count:,}", share, example)
        return table

    def __str__(self) -> str:
        return printed(self, width=110)

    def __repr__(self) -> str:
        return f"AuditReport({len(self.flagged)} of {self.rows} rows flagged, {len(self.findings)} findings)"

    def _cells(self) -> Iterator[tuple[str, str, int, str]]:
        for check, kinds in self.counts().items():
            for kind, count in kinds.items():
                yield check, kind, count, f"{count / self.rows:.2%}"

    def _summary(self) -> str:
        flagged = len(self.flagged)
        parts = [f"{flagged:,} of {self.rows:,} rows flagged ({flagged / self.rows:.2%})" if self.rows else "no rows"]
        expected = self.settings.get("expected_languages")
        if expected:
            parts.append(
                f"{'declared' if self.settings.get('declared') else 'inferred'} languages: {', '.join(expected)}"
            )
        perplexity = self.perplexity()
        if perplexity:
            parts.append(f"perplexity {perplexity['perplexity']:.4g} over {perplexity['tokens']:,.0f} tokens")
        return "; ".join(parts)


def _written(text: str, path: str | Path | None) -> str:
    if path is not None:
        replace_text(Path(path), text)
    return text


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _json(values: dict[str, Any]) -> dict[str, Any]:
    """Infinite scores become strings, and lone surrogates, which UTF-8 cannot hold, their escapes."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _escaped(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("|", "\\|").replace("<", "&lt;")


def _quoted(text: str) -> str:
    return f": `` {_plain(text).replace('``', '` `')} ``" if text else ""
