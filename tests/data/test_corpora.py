"""Corpora: every form that texts come in, and an answer for every form that they should not."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from hf_langcore.data import corpora as module
from hf_langcore.data import corpora_from_folder, hub_source, read_texts, require_corpora
from hf_langcore.errors import CorpusError

TEXTS = ["ein Satz", "Größe 大小", "a third\ttext"]
Write = Callable[[Path, str], object]


def _jsonl(path: Path, column: str) -> object:
    lines = [json.dumps({"id": number, column: text}) for number, text in enumerate(TEXTS)]
    return path.with_suffix(".jsonl").write_text("\n\n".join(lines), encoding="utf-8")


def _parquet(path: Path, column: str) -> object:
    table = pa.table({"id": list(range(3)), column: TEXTS})
    return parquet.write_table(table, path.with_suffix(".parquet"))


WRITERS: dict[str, Write] = {
    ".txt": lambda path, _: path.with_suffix(".txt").write_text("\n".join(TEXTS), encoding="utf-8"),
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def rows(column: str = "text") -> datasets.Dataset:
    return datasets.Dataset.from_dict({"id": [0, 1, 2], column: TEXTS})


def unnamed_stream(column: str = "text") -> datasets.IterableDataset:
    """A stream that does not know its columns before a row has come."""
    return datasets.IterableDataset.from_generator(lambda: iter([{column: text} for text in TEXTS]))


def read(source: Any, **options: Any) -> list[str]:
    return list(read_texts("de", source, **options))


@pytest.mark.parametrize(
    "source",
    [
        list(TEXTS),
        tuple(TEXTS),
        collections.deque(TEXTS),
        (text for text in TEXTS),
        rows(),
        rows().to_iterable_dataset(),
        unnamed_stream(),
    ],
    ids=["list", "tuple", "deque", "generator", "Dataset", "IterableDataset", "unnamed stream"],
)
def test_texts_in_memory(source: Any) -> None:
    """Sequences, generators and data sets, in their order."""
    assert read(source) == TEXTS


@pytest.mark.parametrize("suffix", list(WRITERS))
@pytest.mark.parametrize("as_text", [True, False])
def test_texts_in_files(tmp_path: Path, suffix: str, as_text: bool) -> None:
    """The suffix says how to read; the name is a string or a path."""
    WRITERS[suffix](tmp_path / "de", "text")
    path = (tmp_path / "de").with_suffix(suffix)
    assert read(str(path) if as_text else path) == TEXTS


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_other_columns_in_files(tmp_path: Path, suffix: str) -> None:
    """`text_column` names them; a wrong name is refused with what there is to say."""
    WRITERS[suffix](tmp_path / "de", "content")
    path = (tmp_path / "de").with_suffix(suffix)
    assert read(path, text_column="content") == TEXTS
    with pytest.raises(CorpusError, match="'text'"):
        read(path)


@pytest.mark.parametrize("make", [rows, lambda column: rows(column).to_iterable_dataset(), unnamed_stream])
def test_other_columns_in_data_sets(make: Callable[[str], Any]) -> None:
    """The message lists the columns that there are, also for streams that do not know them beforehand."""
    assert read(make("content"), text_column="content") == TEXTS
    with pytest.raises(CorpusError, match=r"'de': the data set has no column 'text', it has \[.*'content'\]"):
        read(make("content"))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("me/texts:de:train", ("me/texts", "de", "train")),
        ("wikitext::test[:10%]", ("wikitext", None, "test[:10%]")),
        ("me/a.b-c:2024-01.de:train+test", ("me/a.b-c", "2024-01.de", "train+test")),
    ],
)
def test_hub_data_sets_are_streamed(
    monkeypatch: pytest.MonkeyPatch, spec: str, expected: tuple[str, str | None, str]
) -> None:
    """Repository, configuration and split; an empty configuration is none."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(repo: str, config: str | None, *, split: str, streaming: bool) -> Any:
        calls.append((repo, config, split, streaming))
        return unnamed_stream("content")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert read(spec, text_column="content") == TEXTS
    assert calls == [(*expected, True)]
    with pytest.raises(CorpusError, match=r"no column 'text', it has \['content'\]"):
        read(spec)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ValueError("bad split"), ConnectionError("offline")])
def test_hub_data_sets_that_cannot_be_opened(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """A missing repository, a wrong split and no connection name the language and the specification."""

    def load_dataset(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CorpusError, match=rf"'de': the Hub data set 'me/texts:de:train' cannot be opened .{error}"):
        read("me/texts:de:train")


@pytest.mark.parametrize("source", [[], ["", " \n", "\t"], rows().select([])], ids=["empty", "blank", "Dataset"])
def test_nothing_in_nothing_out(source: Any) -> None:
    """Blank texts are skipped; that nothing is left is for those to say who need tokens."""
    assert read(source) == []


def test_byte_order_marks_and_line_ends_of_windows(tmp_path: Path) -> None:
    """Neither belongs to the text."""
    (tmp_path / "de.txt").write_bytes(b"\xef\xbb\xbfein\r\nzwei\r\n")
    assert read(tmp_path / "de.txt") == ["ein", "zwei"]
    (tmp_path / "de.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "ein"}\r\n')
    assert read(tmp_path / "de.jsonl") == ["ein"]


def test_texts_are_read_lazily() -> None:
    """Of an endless stream only what is asked for."""

    def endless() -> Iterator[str]:
        yield from (f"text {number}" for number in iter(int, 1))

    texts = read_texts("de", endless())
    assert [next(texts) for _ in range(3)] == ["text 0"] * 3


@given(st.lists(st.integers(0, 99).map(str), max_size=60), st.integers(0, 2**31))
def test_a_seed_shuffles(texts: list[str], seed: int) -> None:
    """The same order for the same seed; nothing is lost or doubled."""
    shuffled = read(texts, seed=seed)
    assert shuffled == read(texts, seed=seed)
    assert sorted(shuffled) == sorted(texts)


def test_seeds_differ() -> None:
    """Another seed, another order; none keeps the order."""
    texts = [str(number) for number in range(50)]
    assert read(texts) == texts
    assert read(texts, seed=0) != texts
    assert read(texts, seed=0) != read(texts, seed=1)


def test_long_sources_are_shuffled_within_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that does not fit is still shuffled, completely and reproducibly, holding no more than the buffer."""
    monkeypatch.setattr(module, "_SHUFFLE_BUFFER", 10)
    texts, taken = [str(number) for number in range(100)], []

    def stream() -> Iterator[str]:
        for text in texts:
            taken.append(text)
            yield text

    shuffled = read_texts("de", stream(), seed=3)
    first = next(shuffled)
    assert len(taken) == 11
    rest = list(shuffled)
    assert sorted([first, *rest], key=int) == texts
    assert [first, *rest] != texts
    assert [first, *rest] == read(texts, seed=3)


def test_corpora_are_mappings() -> None:
    """They are copied, so that later changes do not matter."""
    corpora = {"de": TEXTS}
    copied = require_corpora(corpora)
    assert copied == corpora
    assert copied is not corpora


@pytest.mark.parametrize(
    ("corpora", "got"), [({}, "an empty mapping"), (TEXTS, "list"), ("de.txt", "str"), (None, "NoneType")]
)
def test_what_is_no_mapping_is_refused(corpora: Any, got: str) -> None:
    """The message shows the form."""
    with pytest.raises(CorpusError, match=rf'corpora must map language codes to texts.*"zh.txt".*got {got}'):
        require_corpora(corpora)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("zh.txt", "en.jsonl", "de.parquet", "README.md", "notes"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def test_folders_hold_a_file_for_each_language(folder: Path) -> None:
    """All of them by name, or the wanted ones in the wanted order; other files are no languages."""
    assert list(corpora_from_folder(folder)) == ["de", "en", "zh"]
    assert corpora_from_folder(str(folder), ["zh", "de"]) == {
        "zh": folder / "zh.txt",
        "de": folder / "de.parquet",
    }
    assert list(corpora_from_folder(folder, ["zh", "de"])) == ["zh", "de"]


def test_languages_without_a_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The message names those that are missing and those that are there."""
    with pytest.raises(CorpusError, match=r"no file for 'fr', 'xx'.*It has: de, en, zh"):
        corpora_from_folder(folder, ["fr", "zh", "xx"])
    with pytest.raises(CorpusError, match=r"has no file: expected.*It has: none"):
        corpora_from_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(CorpusError, match="There is no folder"):
        corpora_from_folder(folder / "zh.txt")


def test_hub_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set on the Hub is told from texts, files and folders of this machine."""
    assert hub_source("me/texts:eng:test") == {"dataset": "me/texts", "config": "eng", "split": "test"}
    assert hub_source("squad::train") == {"dataset": "squad", "config": None, "split": "train"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "me").mkdir()
    (tmp_path / "me" / "texts").mkdir()
    for source in ("me/texts:eng:test", "a.txt", "me/a:b:c.txt", ["a:b:c"], tmp_path, "no spec", None):
        assert hub_source(source) is None
