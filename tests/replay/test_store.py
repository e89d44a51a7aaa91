"""Finished batches under names of what they depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from hf_langcore.replay.settings import ReplaySettings
from hf_langcore.replay.store import ReplayStore, Written, key_of

BATCH = {4: Written("a text", None, None), 5: Written("an answer", "a question", "empty")}


def test_batches_are_read_back(tmp_path: Path) -> None:
    """All of them, whatever their sizes; other keys see none."""
    store = ReplayStore(tmp_path, "key")
    store.save(BATCH)
    store.save({6: Written("more", None, None)})
    assert ReplayStore(tmp_path, "key").load() == BATCH | {6: Written("more", None, None)}
    assert ReplayStore(tmp_path, "other").load() == {}


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor written anywhere."""
    monkeypatch.chdir(tmp_path)
    store = ReplayStore(None, "key")
    store.save(BATCH)
    assert store.load() == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"1": {"text": "a"}}', '{"x": 1}'])
def test_what_cannot_be_read_counts_as_missing(tmp_path: Path, content: str) -> None:
    """The other batches are there."""
    store = ReplayStore(tmp_path, "key")
    store.save(BATCH)
    (tmp_path / "replay-key/batch-00000000-00000001.json").write_text(content)
    assert store.load() == BATCH


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"language": "de"},
        {"prompts": [[1, 2]]},
        {"settings": ReplaySettings(seed=1)},
        {"settings": ReplaySettings(chat=True)},
    ],
    ids=str,
)
def test_everything_that_texts_depend_on_is_in_the_key(
    tokenizer: PreTrainedTokenizerFast, change: dict[str, Any]
) -> None:
    """And the same things give the same key."""
    given = {
        "model": "m",
        "tokenizer": tokenizer,
        "language": "en",
        "prompts": [[1]],
        "settings": ReplaySettings(),
    }
    assert key_of(**given) == key_of(**given)
    assert key_of(**given) != key_of(**given | change)
