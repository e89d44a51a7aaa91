"""The filtered copy: a folder with the report, the clean rows, and the removed rows with the reasons."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from hf_langcore.auditing.findings import Finding
from hf_langcore.auditing.report import AuditReport
from hf_langcore.errors import CorpusError
from hf_langcore.files import replace_file

REASONS = "audit"
"""The column that `flagged.jsonl` adds: the row's position and what was found."""


def write_audit(folder: str | Path, report: AuditReport, rows: Any, *, source: str | Path | None = None) -> None:
    """Write `report.json`, `report.md`, `clean.jsonl` and `flagged.jsonl`; the source stays as it is.

    Rows keep their columns and their order. Lines of a .jsonl source are copied as they are, byte by byte.

    Args:
        folder: Where to; made if it is missing.
        report: Of these rows.
        rows: The rows that were audited.
        source: The file that they came from, if they came from one.

    Raises:
        CorpusError: The rows are others than those of the report, by their number.
    """
    root = Path(folder)
    flagged = set(report.flagged)
    reasons: dict[int, list[Finding]] = {}
    for one in report.findings:
        reasons.setdefault(one.row, []).append(one)

    def clean(number: int, _row: Any, line: str) -> str | None:
        return None if number in flagged else line

    def removed(number: int, row: Any, _line: str) -> str | None:
        return _dumped({**row, REASONS: _reasons(number, reasons[number])}) if number in flagged else None

    for name, choose in (("flagged.jsonl", removed), ("clean.jsonl", clean)):
        copy = partial(_copy, rows=rows, source=source, expected=report.rows, choose=choose)
        replace_file(root / name, copy)
    report.to_markdown(root / "report.md")
    report.to_json(root / "report.json")


def _copy(
    path: Path, rows: Any, source: str | Path | None, expected: int, choose: Callable[[int, Any, str], str | None]
) -> None:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as out:
        for number, (row, line) in enumerate(_with_lines(rows, source, expected)):
            count += 1
            chosen = choose(number, row, line)
            if chosen is not None:
                out.write(chosen + "\n")
    if count != expected:
        raise CorpusError(f"The report is of {expected} rows, and there are {count} now. Audit the data set again.")


def _with_lines(rows: Any, source: str | Path | None, expected: int) -> Iterator[tuple[Any, str]]:
    """Each row and the line that says it: the source's own, or a new one."""
    if source is not None and Path(source).suffix == ".jsonl":
        with Path(source).open(encoding="utf-8-sig", newline="\n") as lines:
            if sum(1 for _ in _filled(lines)) == expected:
                lines.seek(0)
                yield from zip(rows, _filled(lines), strict=False)
                return
    for row in rows:
        yield row, _dumped(row)


def _filled(lines: IO[str]) -> Iterator[str]:
    return (line.rstrip("\r\n") for line in lines if line.strip())


def _dumped(row: Any) -> str:
    text = json.dumps(dict(row), ensure_ascii=False, default=str)
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return json.dumps(dict(row), default=str)
    return text


def _reasons(number: int, found: list[Finding]) -> dict[str, Any]:
    keys = ("check", "kind", "part", "detail", "excerpt")
    return {"row": number, "reasons": [{key: getattr(one, key) for key in keys} for one in found]}
