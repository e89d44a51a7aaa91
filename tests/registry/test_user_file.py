"""A user's own coordinates."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from hf_langcore import registry
from hf_langcore.errors import InputError, WriteError
from hf_langcore.registry import Entry, user_file
from hf_langcore.registry.schema import require_valid
from hf_langcore.registry.user_file import register_all


def minimal(**changes: Any) -> dict[str, Any]:
    """What a user has to say."""
    usual = {"model_id": "me/tiny", "kind": "super_weight", "tensor": "a.{layer}.weight", "layer": 1, "index": (5, 7)}
    return {**usual, "operation": "zero", **changes}


def test_registered_entries_are_found_and_labelled(own_file: Path) -> None:
    """In the folder that HF_LANGCORE_CACHE names, in the format of the shipped file, with date and versions."""
    written = registry.register(minimal())
    (found,) = registry.lookup("Me/TINY")
    assert found == written
    assert found.is_users
    assert found.index == (5, 7)
    assert found.provenance is not None
    assert {"hf_langcore", "torch", "transformers"} <= set(found.provenance["versions"])
    require_valid(json.loads(own_file.read_text(encoding="utf-8")))
    assert "me/tiny" in registry.models()
    assert written in registry.entries()


def test_beside_the_shipped_ones() -> None:
    """An own entry on a known model comes after the published ones."""
    before = registry.lookup("gpt2")
    written = registry.register(minimal(model_id="openai-community/gpt2", revision="abc"))
    assert registry.lookup("gpt2") == [*before, written]
    assert registry.lookup("gpt2", revision="other") == before
    assert registry.lookup("gpt2", revision="abc") == [*before, written]


@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2", "GPT2"])
def test_all_names_of_a_known_model(name: str) -> None:
    """Whichever of them an own entry was registered under; a model of one's own has one name."""
    written = registry.register(minimal(model_id=name))
    other = registry.register(minimal(model_id="me/gpt2"))
    aliased = registry.register(minimal(model_id="me/third", aliases=["me/3"]))
    assert registry.lookup("gpt2")[-1] == registry.lookup("openai-community/gpt2")[-1] == written
    assert registry.lookup("me/gpt2") == [other]
    assert registry.lookup("ME/3") == [aliased]
    assert registry.lookup("third") == []


@pytest.mark.parametrize("folder", ["/Models/tiny", "./Models/tiny", "Models/a/tiny"])
def test_paths_are_taken_at_their_word(folder: str) -> None:
    """Upper and lower case are different folders."""
    written = registry.register(minimal(model_id=folder))
    assert registry.lookup(folder) == [written]
    assert registry.lookup(folder.lower()) == []
    assert registry.lookup("tiny") == []


def test_a_repeated_coordinate_is_replaced(tmp_path: Path) -> None:
    """Same place and operation: the last one counts; another value, revision or operation is another entry."""
    path = tmp_path / "own.json"
    registry.register(minimal(status_reason="first"), path=path)
    registry.register(minimal(status_reason="second", index=[np.int64(5), 7]), path=path)
    assert [entry.status_reason for entry in registry.lookup("me/tiny", path=path)] == ["second"]
    others = [minimal(revision="a"), minimal(operation="scale", value=2.0), minimal(operation="scale", value=3.0)]
    others += [minimal(layer=2), minimal(index=(7, 5)), minimal(model_id="you/tiny")]
    register_all(others, path=path)
    assert len([entry for entry in registry.entries(path=path) if entry.is_users]) == 7
    assert registry.lookup("me/tiny") == []  # the usual file was not touched


def test_an_id_of_ones_own(fields: Callable[..., Any]) -> None:
    """It is kept, unless it is that of a shipped entry."""
    assert registry.register(fields(id="my-favourite")).id == "my-favourite"
    with pytest.raises(InputError, match="'gpt2-massive-447' is the id of an entry that this library ships"):
        registry.register(fields(id="gpt2-massive-447"))


def test_a_shipped_entry_copied_is_the_users(own_file: Path) -> None:
    """Whatever it says of its source, it is the user's now."""
    shipped = registry.lookup("gpt2")[0]
    values = {**shipped.to_dict(), "id": "copy"}
    assert registry.register(Entry.from_dict(values)).is_users
    with pytest.raises(InputError, match="the id of an entry"):
        registry.register(shipped)
    assert [one["id"] for one in json.loads(own_file.read_text(encoding="utf-8"))["entries"]] == ["copy"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model_id": "me/tiny"}, "lacks 'kind'"),
        (minimal(colour="red"), "unknown field 'colour'"),
        (minimal(index=5), "has 2 or 3 number"),
        ("me/tiny", "Pass an Entry or a mapping"),
    ],
)
def test_wrong_fields_write_nothing(own_file: Path, wrong: Any, message: str) -> None:
    """All or none."""
    with pytest.raises(InputError, match=message):
        register_all([minimal(), wrong])
    assert not own_file.exists()


def test_a_damaged_file_is_left_as_it_is(own_file: Path) -> None:
    """Nothing is written over it, and looking up says so too."""
    registry.register(minimal())
    damaged = own_file.read_bytes()[:-30]
    own_file.write_bytes(damaged)
    for attempt in (lambda: registry.register(minimal(layer=2)), lambda: registry.lookup("gpt2")):
        with pytest.raises(InputError, match=r"registry\.json' is no file of critical coordinates.*left as it is"):
            attempt()
    assert own_file.read_bytes() == damaged


def test_a_failed_write_leaves_the_old_file(own_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One rename at the end."""
    registry.register(minimal())
    before = own_file.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="the disk is full"):
        registry.register(minimal(layer=2))
    monkeypatch.undo()
    assert own_file.read_bytes() == before
    assert sorted(one.name for one in own_file.parent.iterdir()) in (
        ["registry.json"],
        ["registry.json", "registry.json.lock"],
    )


def test_a_lock_that_nobody_gives_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for, not for ever; afterwards everything works again."""
    path = tmp_path / "own.json"
    monkeypatch.setattr(user_file, "_PATIENCE", 0.1)
    with (
        FileLock(f"{path}.lock"),
        pytest.raises(WriteError, match="Another process has held"),
    ):
        registry.register(minimal(), path=path)
    registry.register(minimal(), path=path)
    registry.register(minimal(layer=2), path=path)
    assert len(registry.lookup("me/tiny", path=path)) == 2


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="Cannot write"):
        registry.register(minimal(), path=tmp_path / "file" / "own.json")


def write_some(path: Path, first: int) -> None:
    for layer in range(first, first + 8):
        registry.register(minimal(layer=layer), path=path)


def test_concurrent_writers_lose_nothing(tmp_path: Path) -> None:
    """Four processes, eight entries each."""
    path = tmp_path / "own.json"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_some, args=(path, 8 * number)) for number in range(4)]
    for one in writers:
        one.start()
    for one in writers:
        one.join(60)
    assert [one.exitcode for one in writers] == [0] * 4
    assert {entry.layer for entry in registry.lookup("me/tiny", path=path)} == set(range(32))
