"""Texts that are missing, broken or no texts: each refused with the language, the place and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from pyarrow import parquet

from hf_langcore.data import corpora_from_folder, read_texts
from hf_langcore.errors import CorpusError


@pytest.fixture
def parquet_file(tmp_path: Path) -> Path:
    parquet.write_table(pa.table({"text": ["ein Satz", "Größe 大小", "a third text"]}), tmp_path / "de.parquet")
    return tmp_path / "de.parquet"


def read(source: Any, **options: Any) -> list[str]:
    return list(read_texts("de", source, **options))


def test_empty_files(tmp_path: Path) -> None:
    """An empty file holds no texts; an empty parquet file is no parquet file."""
    for suffix in (".txt", ".jsonl"):
        path = tmp_path / f"de{suffix}"
        path.write_bytes(b"")
        assert read(path) == []
    (tmp_path / "de.parquet").write_bytes(b"")
    with pytest.raises(CorpusError, match="no readable parquet file"):
        read(tmp_path / "de.parquet")


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet"])
def test_missing_files(tmp_path: Path, suffix: str) -> None:
    """Missing files and folders of that name are named with the language."""
    path = tmp_path / f"de{suffix}"
    with pytest.raises(CorpusError, match=rf"'de': there is no file '.*de\{suffix}'"):
        read(path)
    path.mkdir()
    with pytest.raises(CorpusError, match="there is no file"):
        read(path)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
def test_files_that_are_not_utf8(tmp_path: Path, suffix: str) -> None:
    """Latin-1 is not guessed at."""
    path = tmp_path / f"de{suffix}"
    path.write_bytes("Größe\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"is not UTF-8.*Convert the file"):
        read(path)


@pytest.mark.parametrize("line", ['{"text": "b"', "[1]", '"text"', "7", "null", '{"body": "b"}'])
def test_broken_lines_are_numbered(tmp_path: Path, line: str) -> None:
    """No JSON, no object, no such field: the message has the line, counted as editors do, blank ones too."""
    path = tmp_path / "de.jsonl"
    path.write_text(f'{{"text": "a"}}\n\n{line}\n', encoding="utf-8")
    texts = read_texts("de", path)
    assert next(texts) == "a"
    with pytest.raises(CorpusError, match=r"line 3 of '.*de\.jsonl' is no JSON object with a 'text' field"):
        next(texts)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-20], lambda data: b"PAR1" + data[:50], lambda data: b"\0" * 99]
)
def test_broken_parquet_files(parquet_file: Path, damage: Callable[[bytes], bytes]) -> None:
    """Truncated or overwritten."""
    parquet_file.write_bytes(damage(parquet_file.read_bytes()))
    with pytest.raises(CorpusError, match="is no readable parquet file"):
        read(parquet_file)


def test_parquet_files_damaged_in_the_middle(parquet_file: Path) -> None:
    """The footer is whole, the data is not."""
    data = bytearray(parquet_file.read_bytes())
    data[4:150] = bytes(146)
    parquet_file.write_bytes(data)
    with pytest.raises(CorpusError, match="is no readable parquet file"):
        read(parquet_file)


@pytest.mark.parametrize(
    ("source", "got"),
    [([1, 2], "int"), ([None], "NoneType"), ([["a", "b"]], "list"), ([{"text": "a"}], "dict"), ([b"a"], "bytes")],
)
def test_items_that_are_no_texts(source: Any, got: str) -> None:
    """Rows, tokens and holes are not turned into strings."""
    with pytest.raises(CorpusError, match=rf"expected texts .*got {got}.*text_column="):
        read(source)


def test_columns_that_hold_no_texts(tmp_path: Path) -> None:
    """A column of numbers, and a null between texts."""
    with pytest.raises(CorpusError, match="got int"):
        read(datasets.Dataset.from_dict({"id": [1, 2]}), text_column="id")
    (tmp_path / "de.jsonl").write_text('{"text": null}\n', encoding="utf-8")
    with pytest.raises(CorpusError, match="got NoneType"):
        read(tmp_path / "de.jsonl")


@pytest.mark.parametrize("source", ["Das ist ein Text.", "", "de.csv", "me/texts", "x" * 5000])
def test_a_plain_string_is_no_corpus(source: str) -> None:
    """Neither read letter by letter nor guessed at; the message shows how texts are given, and not all of them."""
    with pytest.raises(CorpusError, match=r'go into a list: \["first document"') as caught:
        read(source)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("source", [None, 7, b"text", {"text": "a"}])
def test_sources_of_unknown_form(source: Any) -> None:
    """The message lists what is taken."""
    with pytest.raises(CorpusError, match=rf"cannot read texts from {type(source).__name__}.*datasets.Dataset"):
        read(source)


@pytest.mark.parametrize("kind", [datasets.DatasetDict, datasets.IterableDatasetDict])
def test_all_splits_together_are_no_source(kind: Any) -> None:
    """load_dataset without split=: the message names the splits and how one is passed."""
    rows = datasets.Dataset.from_dict({"text": ["ein Satz"]})
    rows = rows if kind is datasets.DatasetDict else rows.to_iterable_dataset()
    expected = rf"'de': a {kind.__name__} holds the splits \['train', 'test'\].*pass data\['train'\]"
    with pytest.raises(CorpusError, match=expected):
        read(kind({"train": rows, "test": rows}))
    with pytest.raises(CorpusError, match=r"holds the splits \[\]"):
        read(kind({}))


def test_two_files_of_one_language_are_refused(tmp_path: Path) -> None:
    """en.txt beside en.jsonl: which one is meant cannot be known; other languages do not mind."""
    (tmp_path / "en.txt").write_text("a\n")
    (tmp_path / "en.jsonl").write_text("{}\n")
    (tmp_path / "de.txt").write_text("b\n")
    with pytest.raises(CorpusError, match=r"several files for 'en': en\.jsonl and en\.txt"):
        corpora_from_folder(tmp_path)
    assert list(corpora_from_folder(tmp_path, ["de"])) == ["de"]


def test_a_table_is_not_a_list_of_texts() -> None:
    """A pandas DataFrame iterates over its column names, which are no texts."""
    import pandas as pd

    with pytest.raises(CorpusError, match="DataFrame"):
        list(read_texts("en", pd.DataFrame({"text": ["a text"]})))
