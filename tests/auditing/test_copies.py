"""The filtered copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from hf_langcore.auditing import AuditReport, Finding, write_audit
from hf_langcore.errors import CorpusError

ROWS: list[dict[str, Any]] = [{"id": 1, "text": "one"}, {"id": 2, "text": "zwei ä"}, {"id": 3, "text": "three"}]


def report(*flagged: int, rows: int = 3) -> AuditReport:
    return AuditReport(rows, [Finding(row, "encoding", "markup", "text", "why", "where", 1.0) for row in flagged])


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_clean_and_removed_rows_make_up_the_data_set(tmp_path: Path) -> None:
    """Columns and order stay; removed rows say why."""
    write_audit(tmp_path / "out", report(1), Dataset.from_list(ROWS))
    assert lines(tmp_path / "out" / "clean.jsonl") == [ROWS[0], ROWS[2]]
    assert list(lines(tmp_path / "out" / "clean.jsonl")[0]) == ["id", "text"]
    (removed,) = lines(tmp_path / "out" / "flagged.jsonl")
    reason = {"check": "encoding", "kind": "markup", "part": "text", "detail": "why", "excerpt": "where"}
    assert removed == {**ROWS[1], "audit": {"row": 1, "reasons": [reason]}}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "clean.jsonl",
        "flagged.jsonl",
        "report.json",
        "report.md",
    ]


def test_lines_of_a_file_are_copied_byte_by_byte(tmp_path: Path) -> None:
    """Spaces, escapes and dates stay as they were, and the source too; blank lines are no rows."""
    source = tmp_path / "data.jsonl"
    kept = '{"id":1,  "text": "caf\\u00e9", "at": "2020-01-02T03:04:05"}'
    source.write_text(f"{kept}\n\n" + '{"id":2,"text":"b"}\n' + '{"id":3,"text":"\u2028c"}', encoding="utf-8")
    before = source.read_bytes()
    write_audit(tmp_path / "out", report(1), [{"id": i, "text": "x"} for i in (1, 2, 3)], source=source)
    copied = (tmp_path / "out" / "clean.jsonl").read_bytes().decode()
    assert copied == f"{kept}\n" + '{"id":3,"text":"\u2028c"}\n'
    assert source.read_bytes() == before


def test_other_rows_are_refused(tmp_path: Path) -> None:
    """The report has to be of these rows; no file is left behind."""
    with pytest.raises(CorpusError, match="of 5 rows, and there are 3"):
        write_audit(tmp_path / "out", report(1, rows=5), ROWS)
    assert list((tmp_path / "out").iterdir()) == []


def test_half_an_emoji_can_be_written(tmp_path: Path) -> None:
    """A lone surrogate is no UTF-8; it becomes its escape again."""
    rows = [{"text": "\ud83d"}, {"text": "ä"}]
    write_audit(tmp_path, report(rows=2), rows)
    assert (tmp_path / "clean.jsonl").read_text(encoding="utf-8") == '{"text": "\\ud83d"}\n{"text": "ä"}\n'
