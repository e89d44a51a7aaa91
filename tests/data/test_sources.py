"""Rows from files, folders and names."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from hf_langcore.data.sources import load_rows
from hf_langcore.errors import CorpusError

ROWS = [{"text": "one"}, {"text": "two"}]


def test_a_data_set_is_returned_as_it_is() -> None:
    """Nothing is copied."""
    rows = Dataset.from_list(ROWS)
    assert load_rows(rows) is rows
    stream = rows.to_iterable_dataset()
    assert load_rows(stream) is stream


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ".txt"])
def test_files_of_every_kind_load(tmp_path: Path, suffix: str) -> None:
    """Text files give one row for each line that is not blank."""
    path = tmp_path / f"rows{suffix}"
    rows = Dataset.from_list(ROWS)
    writers = {".jsonl": rows.to_json, ".csv": rows.to_csv, ".parquet": rows.to_parquet}
    if suffix == ".txt":
        path.write_text("one\n\ntwo\n")
    else:
        writers[suffix](str(path))
    assert load_rows(path).to_list() == ROWS
    assert load_rows(str(path)).to_list() == ROWS


def test_a_saved_folder_loads(tmp_path: Path) -> None:
    """The form of save_to_disk."""
    Dataset.from_list(ROWS).save_to_disk(tmp_path / "saved")
    assert load_rows(str(tmp_path / "saved")).to_list() == ROWS


def test_several_splits_are_not_guessed_at(tmp_path: Path) -> None:
    """A dictionary of splits is refused, in memory and on disk; the folder of one split loads."""
    splits = DatasetDict({"train": Dataset.from_list(ROWS), "test": Dataset.from_list(ROWS[:1])})
    splits.save_to_disk(tmp_path / "saved")
    for source in (splits, tmp_path / "saved"):
        with pytest.raises(CorpusError, match=r"the splits \['test', 'train'\]"):
            load_rows(source)
    assert load_rows(tmp_path / "saved" / "test").to_list() == ROWS[:1]


def test_a_name_on_the_hub_is_split_into_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """repo, repo:config and repo:config:split; the split is train unless it is named."""
    calls = []
    monkeypatch.setattr(
        "hf_langcore.data.sources.load_dataset", lambda repo, config, *, split: calls.append((repo, config, split))
    )
    for spec in ("me/rows", "me/rows:de", "me/rows:de:test", "me/rows::test"):
        load_rows(spec)
    assert calls == [
        ("me/rows", None, "train"),
        ("me/rows", "de", "train"),
        ("me/rows", "de", "test"),
        ("me/rows", None, "test"),
    ]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing file, an empty folder and an unreachable repository say what was expected."""
    with pytest.raises(CorpusError, match=r"There is no file .*missing\.jsonl"):
        load_rows(tmp_path / "missing.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="save_to_disk"):
        load_rows(str(tmp_path / "empty"))
    with pytest.raises(CorpusError, match="repo:config:split"):
        load_rows("nobody/nothing-at-all")
