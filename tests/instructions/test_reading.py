"""Rows of files and tables, with their places."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from hf_langcore.errors import CorpusError
from hf_langcore.instructions.reading import read_records

ROWS = [{"question": "Is it late?", "answer": "Yes."}, {"question": "Wo ist \u2028 er?", "answer": 'Da, "dort"'}]


def values(source: Any) -> list[Any]:
    records = list(read_records(source))
    assert [record.row for record in records] == list(range(len(records)))
    assert not [record.error for record in records if record.error]
    return [record.value for record in records]


def test_every_kind_of_source_gives_the_same_rows(tmp_path: Path) -> None:
    """Files, data sets, columns and rows."""
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    data = Dataset.from_list(ROWS)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    files = {
        "rows.json": json.dumps(ROWS),
        "columns.json": json.dumps(columns),
        "nested.json": json.dumps({"data": ROWS}),
        "lines.json": "\ufeff" + lines,
        "lines.jsonl": "\ufeff" + lines.replace("\n", "\r\n\n"),
    }
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    data.to_csv(str(tmp_path / "table.csv"))
    data.to_parquet(str(tmp_path / "table.parquet"))
    data.save_to_disk(str(tmp_path / "folder"))
    for name in (*files, "table.csv", "table.parquet", "folder"):
        assert values(tmp_path / name) == ROWS, name
    for source in (data, data.to_iterable_dataset(), columns, ROWS, iter(ROWS), str(tmp_path / "rows.json")):
        assert values(source) == ROWS


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ({"messages": [{"role": "user"}]}, 1),
        ({"messages": [[{"role": "user"}], []]}, 2),
        ({"instruction": "a", "output": "b"}, 1),
        ({"data": [{"a": 1}, {"a": 2}, {"a": 3}]}, 3),
    ],
)
def test_one_object_is_a_row_or_columns(tmp_path: Path, value: Any, rows: int) -> None:
    """A conversation's turns are not taken for rows."""
    path = tmp_path / "one.json"
    path.write_text(json.dumps(value))
    assert len(values(path)) == len(values(value)) == rows


def test_broken_lines_have_their_numbers(tmp_path: Path) -> None:
    """Blank lines count as lines, not as rows; the other rows are read."""
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{broken\n[1]\n{"a": "\xff"}\n{"a": NaN}\n{"a": 1, "a": 2}\n{"a": 2}\n')
    records = list(read_records(path))
    assert [(record.row, record.line, record.error and record.error.kind) for record in records] == [
        (0, 1, None),
        (1, 3, "invalid_json"),
        (2, 4, "wrong_type"),
        (3, 5, "invalid_json"),
        (4, 6, "invalid_json"),
        (5, 7, "invalid_json"),
        (6, 8, None),
    ]
    assert records[1].value == "{broken"


def test_rows_of_a_table_begin_at_their_lines(tmp_path: Path) -> None:
    """Cells may have several lines; a row with a cell too many or too few is wrong."""
    path = tmp_path / "table.csv"
    path.write_text('question,answer\n"a\nb",c\nd,e,f\ng\nh,\ni,j\n', encoding="utf-8")
    records = list(read_records(path))
    assert [(record.line, record.error and record.error.kind) for record in records] == [
        (2, None),
        (4, "columns"),
        (5, "columns"),
        (6, None),
        (7, None),
    ]
    assert "3 cells and the header 2" in str(records[1].error)
    assert records[3].value == {"question": "h", "answer": None}


def test_blank_lines_and_long_cells_of_a_table(tmp_path: Path) -> None:
    """Blank lines are no rows and count as lines; a conversation may be longer than csv's limit, which stays as it was."""
    path, limit = tmp_path / "table.csv", csv.field_size_limit()
    path.write_text(f"\nquestion,answer,,\n\n\na,b,,\n\nc,{'d' * 200_000},,\ne\n", encoding="utf-8")
    records = list(read_records(path))
    assert [(record.row, record.line, bool(record.error)) for record in records] == [
        (0, 5, False),
        (1, 7, False),
        (2, 8, True),
    ]
    assert len(records[1].value["answer"]) == 200_000
    assert csv.field_size_limit() == limit


def test_texts_and_answers_of_unequal_number_are_refused(tmp_path: Path) -> None:
    """Which answer belongs to which text cannot be known; the numbers are named."""
    columns = {"inputs": ["a", "b", "c"], "targets": ["x"] * 9}
    path = tmp_path / "columns.json"
    path.write_text(json.dumps(columns))
    for source in (columns, path):
        with pytest.raises(CorpusError, match="'inputs': 3, 'targets': 9"):
            read_records(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.jsonl", None, "no file"),
        ("broken.json", b"[{", "no JSON"),
        ("broken.json", b"[" * 100_000, "no JSON"),
        ("number.json", b"5", "of type int"),
        ("empty.json", b"{}", "is empty"),
        ("pandas.json", b'{"a": {"0": "x"}, "b": {"0": "y"}}', "should be columns"),
        ("broken.csv", b'a,b\n"x"y,z\n', "behind line 1"),
        ("twice.csv", b"question,answer,answer\na,b,c\n", "several columns of the name 'answer'"),
        ("latin.csv", b"a,b\n\xff,z\n", "cannot be read"),
    ],
)
def test_unreadable_files_are_named(tmp_path: Path, name: str, content: bytes | None, message: str) -> None:
    """One message, with the place where there is one."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=message):
        list(read_records(path))


def test_one_split_is_needed() -> None:
    """As everywhere."""
    with pytest.raises(CorpusError, match="holds the splits"):
        read_records(DatasetDict({"train": Dataset.from_list(ROWS)}))
