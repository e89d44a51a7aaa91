"""Rows from files, tables and lists, each with the place where it stands; a row that cannot be read is one too."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from datasets import DatasetDict, IterableDatasetDict

from hf_langcore.data.rows import Rows
from hf_langcore.data.sources import load_rows
from hf_langcore.errors import CorpusError
from hf_langcore.instructions.turns import RowError, kind_of
from hf_langcore.strict_json import parse_json

Source: TypeAlias = "str | Path | Rows | Mapping[str, Sequence[Any]] | Iterable[Mapping[str, Any]]"

_LINES = {".jsonl", ".ndjson"}
_CONVERSATIONS = {"messages", "conversations", "conversation"}
_LONGEST_CELL = 1 << 30


@dataclass(frozen=True, slots=True)
class Record:
    """One row as it was found.

    Attributes:
        row: Its position, from 0.
        value: The row.
        line: Line of the file where it begins, from 1; None where rows are no lines.
        error: Why it could not be read, if so.
    """

    row: int
    value: Any
    line: int | None = None
    error: RowError | None = None


def read_records(source: Source) -> Iterator[Record]:
    """The rows of a source, in order.

    Args:
        source: A .json file (a list of rows, columns of equal length, or one row a line), .jsonl, .csv or .parquet file, a
            folder of `save_to_disk`, a Hub data set as repo:config:split, a data set, columns, or rows.

    Raises:
        CorpusError: It cannot be opened, or has no rows, or its columns differ in length.
    """
    if isinstance(source, (DatasetDict, IterableDatasetDict)):
        return _numbered(load_rows(source))  # which says that one split is needed
    if isinstance(source, Mapping):
        return _numbered(_rows_of(source, "the columns"))
    if not isinstance(source, (str, Path)):
        return _numbered(source)
    path = Path(source)
    if path.is_dir() or path.suffix.lower() not in {*_LINES, ".json", ".csv"}:
        return _numbered(load_rows(source))
    if not path.is_file():
        raise CorpusError(
            f"There is no file {str(path)!r}. Name an existing one; relative paths start in {Path.cwd()}."
        )
    if path.suffix.lower() in _LINES:
        return _lines(path)
    return _json(path) if path.suffix.lower() == ".json" else _table(path)


def _numbered(rows: Iterable[Any]) -> Iterator[Record]:
    for number, row in enumerate(rows):
        yield Record(number, row, error=_no_row(row))


def _lines(path: Path) -> Iterator[Record]:
    """Lines of JSON; blank ones are skipped."""
    number = 0
    with path.open("rb") as lines:
        for line, content in enumerate(lines, start=1):
            text = content.removeprefix(b"\xef\xbb\xbf") if line == 1 else content
            if not text.strip():
                continue
            try:
                row = parse_json(text)
                yield Record(number, row, line, _no_row(row))
            except ValueError as error:
                shown = text.decode("utf-8", errors="replace").strip()
                yield Record(number, shown, line, RowError("invalid_json", f"the line is no JSON: {error}"))
            number += 1


def _json(path: Path) -> Iterator[Record]:
    """A file that holds one JSON value, or one in each line, as BELLE's do."""
    content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    try:
        values = json.loads(content)
    except (ValueError, RecursionError) as error:
        first = content.lstrip().split(b"\n", 1)[0]
        if first.startswith(b"{") and first.rstrip().endswith(b"}"):
            return _lines(path)
        raise CorpusError(
            f"{str(path)!r} is no JSON: {error or 'it is nested too deeply'}. Expected a list of rows, columns of equal length, "
            "or one row in each line."
        ) from error
    return _numbered(_rows_of(values, repr(str(path))))


def _rows_of(values: Any, name: str) -> Iterable[Any]:
    """Rows of a list, of columns, of a list inside an object, or the one row that an object is."""
    if isinstance(values, list):
        return values
    if not isinstance(values, Mapping) or not values:
        raise CorpusError(
            f"{name}: expected a list of rows or columns of equal length; the value is {kind_of(values)}."
        )
    if _is_row(values):
        return [values]
    if len(values) == 1 and _are_rows(only := next(iter(values.values()))) and not _CONVERSATIONS & set(values):
        return list(only)
    lengths = {
        column: len(cells)
        for column, cells in values.items()
        if isinstance(cells, Sequence) and not isinstance(cells, str)
    }
    others = sorted(set(values) - set(lengths))
    if others:
        raise CorpusError(
            f"{name}: {', '.join(map(repr, others))} should be columns, lists of equal length, like the others."
        )
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{column!r}: {length:,}" for column, length in lengths.items())
        raise CorpusError(
            f"{name}: the columns have unequal numbers of entries ({listed}), so that texts and answers cannot be told to "
            "belong together. Give each text its answer, or rows instead of columns."
        )
    return (dict(zip(values, cells, strict=True)) for cells in zip(*values.values(), strict=True))


def _is_row(values: Mapping[str, Any]) -> bool:
    conversations = [values[name] for name in _CONVERSATIONS if name in values]
    return any(isinstance(value, str) for value in values.values()) or any(map(_are_rows, conversations))


def _are_rows(values: Any) -> bool:
    return isinstance(values, Sequence) and bool(values) and all(isinstance(value, Mapping) for value in values)


def _table(path: Path) -> Iterator[Record]:
    """A .csv file with a header; an empty cell is a missing one."""
    with _long_cells(), path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        header: list[str] = []
        number = before = 0
        try:
            for cells in reader:
                line, before = before + 1, reader.line_num
                if not header:
                    header = _header(cells, path)
                elif cells:  # blank lines have none
                    row = {name: cell or None for name, cell in zip(header, cells, strict=False)}
                    yield Record(number, row, line, _ragged(len(cells), len(header)))
                    number += 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise CorpusError(
                f"{str(path)!r} cannot be read behind line {before}: {error}. Expected UTF-8 text with a header and cells "
                "quoted as in RFC 4180; remove what is wrong there."
            ) from error


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let cells be longer than csv's 131,072 characters, which a conversation may pass."""
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _header(cells: list[str], path: Path) -> list[str]:
    twice = sorted({name for name in cells if name and cells.count(name) > 1})
    if twice:
        raise CorpusError(
            f"{str(path)!r} has several columns of the name {', '.join(map(repr, twice))}, so that it is not clear which counts. "
            "Rename or remove all but one."
        )
    return cells


def _ragged(found: int, header: int) -> RowError | None:
    if found == header:
        return None
    return RowError(
        "columns", f"the row has {found} cells and the header {header}: texts and answers cannot be told apart"
    )


def _no_row(row: Any) -> RowError | None:
    return (
        None
        if isinstance(row, Mapping)
        else RowError("wrong_type", f"a row should be an object with columns, it is {kind_of(row)}")
    )
