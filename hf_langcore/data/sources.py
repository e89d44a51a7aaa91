"""Rows that a configuration file names: a local file, a saved data set, or one on the Hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets import load_dataset, load_from_disk

from hf_langcore.data.rows import Rows
from hf_langcore.errors import CorpusError

_BUILDERS = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
_SPEC_PARTS = 3


def load_rows(source: Rows | str | Path) -> Rows:
    """Training rows from a data set, a file, a folder or a Hub spec.

    Args:
        source: A data set (returned as it is); a .jsonl, .json, .csv, .parquet or .txt file (one document a line);
            a folder written by `save_to_disk`; or "repo", "repo:config", "repo:config:split" on the Hub, where
            the split is "train" unless it is named.

    Raises:
        CorpusError: There is no such file, its kind is unknown, or the data set cannot be loaded.
    """
    if not isinstance(source, (str, Path)):
        return _one_split(source)
    path = Path(source)
    try:
        if path.is_dir():
            return _one_split(load_from_disk(str(path)))
        if path.suffix in _BUILDERS:
            return _load_file(path)
        return _load_spec(str(source))
    except CorpusError:
        raise
    except Exception as error:
        raise CorpusError(
            f"No rows could be read from {str(source)!r}: {error} Expected a file ({', '.join(_BUILDERS)}), a folder "
            "written by save_to_disk, or a Hub data set as repo:config:split."
        ) from error


def _load_file(path: Path) -> Any:
    if not path.is_file():
        raise CorpusError(
            f"There is no file {str(path)!r}. Name an existing one; relative paths start in {Path.cwd()}."
        )
    if not path.stat().st_size:
        raise CorpusError(f"{str(path)!r} is empty: it has no rows. Name a file with at least one.")
    rows = load_dataset(_BUILDERS[path.suffix], data_files=str(path), split="train")
    return rows.filter(lambda row: row["text"].strip() != "") if path.suffix == ".txt" else rows


def _one_split(rows: Any) -> Any:
    if isinstance(rows, Mapping):
        raise CorpusError(
            f"The data set holds the splits {sorted(rows)}, and one is needed: pass data['{next(iter(rows))}'], or name "
            "the subfolder of a split."
        )
    return rows


def _load_spec(spec: str) -> Any:
    repo, config, split = (spec.split(":", _SPEC_PARTS - 1) + [""] * _SPEC_PARTS)[:_SPEC_PARTS]
    return load_dataset(repo, config or None, split=split or "train")
