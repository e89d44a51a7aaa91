"""Texts per language, in every form that people have them.

A corpora argument is a mapping from language code to a source of texts:

- a list (or any other sequence) of strings, one document each;
- a `datasets.Dataset` or `datasets.IterableDataset` with a text column;
- a path to a `.txt` (one document a line), `.jsonl` or `.parquet` file;
- a Hub dataset as `"repo:config:split"` (config may be empty), read as a stream.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hf_langcore.errors import CorpusError

Corpora: TypeAlias = Mapping[str, Any]

_SUFFIXES = (".txt", ".jsonl", ".parquet")
_HUB_SPEC = re.compile(r"(?P<repo>[\w.\-]+(?:/[\w.\-]+)?):(?P<config>[\w.\-]*):(?P<split>[\w.\-\[\]:%+]+)")
_SHUFFLE_BUFFER = 10_000


def read_texts(language: str, source: Any, *, text_column: str = "text", seed: int | None = None) -> Iterator[str]:
    """The non-empty texts of one language, lazily.

    Args:
        language: For messages.
        source: Any form that the module's docstring lists.
        text_column: Column of data sets, `.jsonl` and `.parquet` files that holds the text.
        seed: Shuffles the documents; None keeps their order. Streams are shuffled within a buffer.

    Raises:
        CorpusError: The source is missing, of an unknown form, or holds something that is no text.
    """
    texts = _open(language, source, (text_column,))
    if seed is not None:
        texts = _shuffled(texts, seed)
    for text in texts:
        if not isinstance(text, str):
            raise CorpusError(
                f"{language!r}: expected texts (str), got {type(text).__name__}. "
                "Name the right column with text_column=."
            )
        if text.strip():
            yield text


def open_rows(language: str, source: Any, columns: tuple[str, ...]) -> Iterable[Any]:
    """The rows of a source: tuples of the named columns, or, from lists, whatever stands in them.

    Args:
        language: For messages.
        source: Any form that the module's docstring lists; a `.txt` file has one column only.
        columns: Columns of data sets and files.

    Raises:
        CorpusError: The source is missing or of an unknown form.
    """
    return _open(language, source, columns)


def require_corpora(corpora: Any) -> dict[str, Any]:
    """The corpora as a dictionary, after checking that it is a mapping with something in it.

    Raises:
        CorpusError: It is not.
    """
    if not isinstance(corpora, Mapping) or not corpora:
        got = "an empty mapping" if isinstance(corpora, Mapping) else type(corpora).__name__
        raise CorpusError(
            f'corpora must map language codes to texts, such as {{"en": ["A text.", ...], "zh": "zh.txt"}}; got {got}.'
        )
    return dict(corpora)


def hub_source(source: Any) -> dict[str, str | None] | None:
    """Repository, config and split of a source that is a data set on the Hub; None of any other."""
    if not isinstance(source, str) or Path(source).suffix in _SUFFIXES:
        return None
    spec = _HUB_SPEC.fullmatch(source)
    if spec is None or Path(spec["repo"]).exists():
        return None
    return {"dataset": spec["repo"], "config": spec["config"] or None, "split": spec["split"]}


def corpora_from_folder(folder: str | Path, languages: Sequence[str] | None = None) -> dict[str, Path]:
    """One file per language, `<language>.txt`, `.jsonl` or `.parquet`, from a folder.

    Args:
        folder: The folder.
        languages: Codes to take, in this order; None takes every file, sorted by name.

    Raises:
        CorpusError: The folder or the file of a language is missing.
    """
    root = Path(folder)
    if not root.is_dir():
        raise CorpusError(
            f"There is no folder {str(root)!r}. Pass a folder with one file per language, such as en.txt."
        )
    files = [path for path in sorted(root.iterdir()) if path.suffix in _SUFFIXES]
    found = {path.stem: path for path in files}
    twice = [path for path in files if found[path.stem] is not path and (languages is None or path.stem in languages)]
    if twice:
        raise CorpusError(
            f"{str(root)!r} has several files for {twice[0].stem!r}: {twice[0].name} and {found[twice[0].stem].name}. "
            "Keep one of them, or pass {language: path} yourself."
        )
    missing = [language for language in languages or () if language not in found]
    if missing or not found:
        what = f"no file for {', '.join(map(repr, missing))}" if missing else "no file"
        raise CorpusError(
            f"{str(root)!r} has {what}: expected <language>.txt, .jsonl or .parquet. "
            f"It has: {', '.join(found) or 'none'}."
        )
    return found if languages is None else {language: found[language] for language in languages}


Columns: TypeAlias = "tuple[str, ...]"


def _values(row: Any, columns: Columns) -> Any:
    """The value of a single column; the values of several."""
    return row[columns[0]] if len(columns) == 1 else tuple(row[name] for name in columns)


def _open(language: str, source: Any, columns: Columns) -> Iterable[Any]:
    if isinstance(source, (str, Path)):
        return _open_named(language, str(source), columns)
    if hasattr(source, "column_names") and isinstance(source, Mapping):  # datasets.DatasetDict, IterableDatasetDict
        splits = list(source)
        example = f"data[{splits[0]!r}]" if splits else "data['train']"
        raise CorpusError(
            f"{language!r}: a {type(source).__name__} holds the splits {splits}, and one is needed: pass {example}."
        )
    if hasattr(source, "column_names"):  # datasets.Dataset, datasets.IterableDataset
        return _column(language, source, columns)
    is_table = hasattr(source, "columns")  # a pandas DataFrame iterates over its column names
    if isinstance(source, Iterable) and not isinstance(source, (bytes, Mapping)) and not is_table:
        return source
    raise CorpusError(
        f"{language!r}: cannot read texts from {type(source).__name__}. Pass a list of strings, a datasets.Dataset, a "
        f'path to a {", ".join(_SUFFIXES)} file, or a Hub data set as "repo:config:split".'
    )


def _open_named(language: str, name: str, columns: Columns) -> Iterable[Any]:
    path = Path(name)
    if path.suffix in _SUFFIXES:
        if not path.is_file():
            raise CorpusError(f"{language!r}: there is no file {name!r}. Check the path and the language code.")
        readers = {".txt": _read_lines, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
        return readers[path.suffix](language, path, columns)
    spec = _HUB_SPEC.fullmatch(name)
    if spec is not None:
        import datasets

        config = spec["config"] or None
        try:
            stream = datasets.load_dataset(spec["repo"], config, split=spec["split"], streaming=True)
        except (OSError, ValueError) as error:
            raise CorpusError(
                f"{language!r}: the Hub data set {name!r} cannot be opened ({error}). Check repository, config and "
                "split, and the connection."
            ) from error
        return _column(language, stream, columns)
    raise CorpusError(
        f"{language!r}: {name[:80]!r} is neither a {', '.join(_SUFFIXES)} file nor a Hub data set "
        '("repo:config:split"). Texts themselves go into a list: ["first document", "second document"].'
    )


def _column(language: str, rows: Any, columns: Columns) -> Iterator[Any]:
    """Columns of a data set; some streams know theirs only once a row has come."""
    for row in rows:
        missing = [name for name in columns if name not in row]
        if missing:
            raise CorpusError(
                f"{language!r}: the data set has no column {missing[0]!r}, it has {list(row)}. Pass {_option(columns)}."
            )
        yield _values(row, columns)


def _option(columns: Columns) -> str:
    return "text_column=" if len(columns) == 1 else "the names of the columns"


def _read_lines(language: str, path: Path, columns: Columns) -> Iterator[str]:
    if len(columns) > 1:
        raise CorpusError(
            f"{language!r}: {str(path)!r} has one text a line, and {' and '.join(columns)} are needed. Pass a .jsonl or "
            ".parquet file with these columns, or a list of pairs."
        )
    with path.open(encoding="utf-8-sig") as lines:
        try:
            yield from (line.rstrip("\n") for line in lines)
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{language!r}: {str(path)!r} is not UTF-8 ({error}). Convert the file first."
            ) from error


def _read_jsonl(language: str, path: Path, columns: Columns) -> Iterator[Any]:
    for number, line in enumerate(_read_lines(language, path, columns[:1]), start=1):
        if not line.strip():
            continue
        try:
            yield _values(json.loads(line), columns)
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(
                f"{language!r}: line {number} of {str(path)!r} is no JSON object with a {' and a '.join(map(repr, columns))} field "
                f"({error!r})."
            ) from error


def _read_parquet(language: str, path: Path, columns: Columns) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise CorpusError(
                f"{language!r}: {str(path)!r} has no column {missing[0]!r}, it has {file.schema_arrow.names}. "
                f"Pass {_option(columns)}."
            )
        for batch in file.iter_batches(columns=list(columns)):
            yield from (_values(row, columns) for row in batch.to_pylist())
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{language!r}: {str(path)!r} is no readable parquet file ({error}).") from error


def _shuffled(texts: Iterable[Any], seed: int) -> Iterator[Any]:
    """Shuffle within a buffer, so that a stream never has to fit into memory; exact for shorter sources."""
    generator = random.Random(seed)
    buffer: list[Any] = []
    for text in texts:
        if len(buffer) < _SHUFFLE_BUFFER:
            buffer.append(text)
            continue
        position = generator.randrange(_SHUFFLE_BUFFER)
        yield buffer[position]
        buffer[position] = text
    generator.shuffle(buffer)
    yield from buffer
