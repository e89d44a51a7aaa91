"""The artifact on disk: exact, sure of what it reads, and old or new after a save that was killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore import files
from hf_langcore.errors import ArtifactExistsError, CoreMaskFormatError, InputError
from hf_langcore.files import sha256_of
from hf_langcore.masks import CoreMask, storage
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE

Make = Callable[..., CoreMask]


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("density", [0.0, 0.03, 0.4, 0.97, 1.0])
def test_round_trip(make_mask: Make, tmp_path: Path, density: float) -> None:
    """Bits, names, their order and the whole provenance, fingerprint included, in two files."""
    mask = make_mask(density=density)
    mask.save_pretrained(tmp_path)
    loaded = CoreMask.from_pretrained(tmp_path)
    assert loaded == mask
    assert list(loaded) == list(mask)
    assert loaded.provenance == mask.provenance
    assert names_in(tmp_path) == {CONFIG_FILE, MASK_FILE}


def test_tensors_without_entries_are_kept(tmp_path: Path) -> None:
    """Empty and scalar tensors, alone or among others."""
    for tensors in ({"e": torch.zeros(0, 3)}, {"e": torch.zeros(0), "s": torch.ones(()), "w": torch.ones(9)}):
        mask = CoreMask({name: value.bool() for name, value in tensors.items()})
        mask.save_pretrained(tmp_path, overwrite=True)
        assert CoreMask.from_pretrained(tmp_path) == mask


def test_the_description_can_be_read_by_people(saved: Path, make_mask: Make) -> None:
    """JSON with the format, the sha256 of the arrays, the digest, the density and the provenance."""
    config = json.loads((saved / CONFIG_FILE).read_text(encoding="utf-8"))
    assert (config["format"], config["format_version"]) == ("hf_langcore.core_mask", 2)
    assert config["mask_file"] == MASK_FILE
    assert config["mask_sha256"] == sha256_of(saved / MASK_FILE)
    assert config["digest"] == make_mask().digest()
    assert config["density"] == make_mask().density()
    assert config["provenance"]["tokens"] == {"en": 1024, "zh": 2048}


def test_the_same_mask_is_the_same_file(make_mask: Make, tmp_path: Path) -> None:
    """Byte for byte, so that an upload of a mask that is there already changes nothing."""
    for number in range(6):
        make_mask().save_pretrained(tmp_path / str(number))
    assert len({(tmp_path / str(number) / MASK_FILE).read_bytes() for number in range(6)}) == 1


def test_files_have_ordinary_permissions(saved: Path) -> None:
    """Readable for whom the umask allows, not private as temporary files are."""
    mask = os.umask(0)
    os.umask(mask)
    assert {(saved / name).stat().st_mode & 0o777 for name in (CONFIG_FILE, MASK_FILE)} == {0o666 & ~mask}


def test_another_mask_is_not_overwritten(saved: Path, make_mask: Make) -> None:
    """Without overwrite=True the old artifact stays, byte for byte; with it the new one is there."""
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(ArtifactExistsError, match=r"already holds another core mask.*overwrite=True"):
        make_mask(seed=1).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    make_mask(seed=1).save_pretrained(saved, overwrite=True)
    assert CoreMask.from_pretrained(saved) == make_mask(seed=1)


def test_the_same_mask_may_be_saved_again(saved: Path, make_mask: Make) -> None:
    """And repairs arrays that were damaged meanwhile."""
    (saved / MASK_FILE).write_bytes(b"")
    make_mask().save_pretrained(saved)
    assert CoreMask.from_pretrained(saved) == make_mask()


def test_a_damaged_artifact_is_not_taken_for_the_same(saved: Path, make_mask: Make) -> None:
    """What cannot be read might be precious: it needs overwrite=True."""
    (saved / CONFIG_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(ArtifactExistsError):
        make_mask().save_pretrained(saved)
    make_mask().save_pretrained(saved, overwrite=True)
    assert CoreMask.from_pretrained(saved) == make_mask()


def test_other_files_are_left_alone(saved: Path, make_mask: Make) -> None:
    """A model card or an adapter may lie in the same folder, and hidden files of others."""
    for name in ("README.md", ".gitattributes", ".core_mask", "core_mask.safetensors.bak"):
        (saved / name).write_text("mine", encoding="utf-8")
    make_mask(seed=1).save_pretrained(saved, overwrite=True)
    assert len(list(saved.iterdir())) == 6


def test_a_file_is_no_folder(tmp_path: Path, make_mask: Make) -> None:
    """Neither to save into nor to load from."""
    path = tmp_path / "file"
    path.write_text("x", encoding="utf-8")
    with pytest.raises(ArtifactExistsError, match="it is a file"):
        make_mask().save_pretrained(path, overwrite=True)
    with pytest.raises(InputError, match="no core mask in"):
        CoreMask.from_pretrained(path)


@pytest.mark.parametrize("make", [True, False])
def test_folders_without_a_mask(tmp_path: Path, make: bool) -> None:
    """An empty and a missing folder are the caller's mistake: InputError, and how masks come about."""
    folder = tmp_path / "folder"
    if make:
        folder.mkdir()
    with pytest.raises(InputError, match=r"no core mask in.*save_pretrained"):
        CoreMask.from_pretrained(folder)


def test_names_that_are_no_parameter_names(tmp_path: Path) -> None:
    """They could not be told from the parts of another tensor, or would be no names at all."""
    for name in ("", "a:b", "a/b", "ä", "x" * 513):
        with pytest.raises(InputError, match="no parameter name"):
            CoreMask({name: torch.ones(3, dtype=torch.bool)}).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


class CrashError(Exception):
    """Stands for the end of the process."""


class Crash:
    """Raises at the n-th file operation of a save, and from then on at each: nothing is tidied up."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
        self.calls, self.at = 0, at
        for owner, name in (
            (Path, "replace"),
            (Path, "unlink"),
            (Path, "chmod"),
            (os, "fsync"),
            (storage, "write_arrays"),
            (storage, "replace_text"),
            (storage, "sha256_of"),
            (files.tempfile, "mkstemp"),
        ):
            monkeypatch.setattr(owner, name, self._counted(getattr(owner, name)))

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls > self.at:
                raise CrashError
            return operation(*args, **kwargs)

        return counted


@pytest.mark.parametrize("again", [None, 0, 1, 2], ids=lambda seed: "clean" if seed is None else f"after-{seed}")
def test_a_crash_at_any_file_operation_leaves_old_or_new(make_mask: Make, tmp_path: Path, again: int | None) -> None:
    """Also where an earlier save, of the old, the same or a third mask, was killed between its two renames."""
    outcomes, at = set(), 0
    while True:
        folder = tmp_path / f"{at}"
        old = prepare(folder, make_mask, again)
        with pytest.MonkeyPatch.context() as patch:
            crash = Crash(patch, at)
            crashed = attempt(lambda folder=folder: make_mask(seed=1).save_pretrained(folder, overwrite=True))
        loaded = CoreMask.from_pretrained(folder)
        assert loaded in {old, make_mask(seed=1)}
        assert loaded.provenance.seed == (1 if loaded == make_mask(seed=1) else old.provenance.seed)
        outcomes.add(loaded == make_mask(seed=1))
        make_mask(seed=3).save_pretrained(folder, overwrite=True)
        assert names_in(folder) == {CONFIG_FILE, MASK_FILE}
        assert CoreMask.from_pretrained(folder) == make_mask(seed=3)
        if not crashed:
            break
        at += 1
    assert at > 10
    assert True in outcomes
    assert outcomes == {True, False} or again == 1
    assert crash.calls == at


def prepare(folder: Path, make_mask: Make, again: int | None) -> CoreMask:
    """Mask 0 in `folder`; then, if `again` is given, mask `again` whose second rename never came."""
    make_mask(seed=0).save_pretrained(folder)
    if again is None:
        return make_mask(seed=0)
    arrays = (folder / MASK_FILE).read_bytes()
    make_mask(seed=again).save_pretrained(folder, overwrite=True)
    sha256 = sha256_of(folder / MASK_FILE)
    (folder / MASK_FILE).replace(folder / f".{MASK_FILE}.{sha256[:16]}")
    (folder / MASK_FILE).write_bytes(arrays)
    assert CoreMask.from_pretrained(folder) == make_mask(seed=again)
    return make_mask(seed=again)


def attempt(action: Callable[[], object]) -> bool:
    try:
        action()
    except CrashError:
        return True
    return False


SAVER = """
import sys, torch
from hf_langcore.masks import CoreMask
masks = [CoreMask({"w": torch.arange(200_000) % step == 0}) for step in (37, 41)]
print("ready", flush=True)
while True:
    for mask in masks:
        mask.save_pretrained(sys.argv[1], overwrite=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_process_leaves_old_or_new(tmp_path: Path) -> None:
    """A real process that saves in a loop is killed at random moments; what lies there is one of its masks."""
    masks = {CoreMask({"w": torch.arange(200_000) % step == 0}) for step in (37, 41)}
    generator = random.Random(0)
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            try:
                for _ in range(20):
                    time.sleep(generator.uniform(0.001, 0.02))
                    process.send_signal(signal.SIGSTOP)
                    if (tmp_path / CONFIG_FILE).exists():
                        assert CoreMask.from_pretrained(tmp_path) in masks
                    process.send_signal(signal.SIGCONT)
            finally:
                process.kill()  # a stopped process would be waited for for ever
        assert CoreMask.from_pretrained(tmp_path) in masks
    next(iter(masks)).save_pretrained(tmp_path, overwrite=True)
    assert names_in(tmp_path) == {CONFIG_FILE, MASK_FILE}


def test_a_reader_beside_a_writer_sees_one_of_the_masks(tmp_path: Path) -> None:
    """Nobody has to lock the folder to read while another process replaces the mask."""
    masks = {CoreMask({"w": torch.arange(200_000) % step == 0}) for step in (37, 41)}
    with subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            while not (tmp_path / CONFIG_FILE).exists():
                time.sleep(0.001)
            seen = [CoreMask.from_pretrained(tmp_path) for _ in range(100)]
        finally:
            process.kill()
    assert set(seen) <= masks


def test_a_mask_that_was_replaced_and_came_back_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two writers may leave the folder as it was found, while what was read between is of neither mask."""
    masks = [CoreMask({"w": torch.arange(2_000) % step == 0}) for step in (3, 5)]
    masks[0].save_pretrained(tmp_path)
    real, looks = storage._load, []

    def replaced_meanwhile(config: Any, path: Path) -> Any:
        looks.append(path)
        if len(looks) == 1:
            for each in (masks[1], masks[0]):
                each.save_pretrained(tmp_path, overwrite=True)
            raise CoreMaskFormatError("half of one and half of the other")
        return real(config, path)

    monkeypatch.setattr(storage, "_load", replaced_meanwhile)
    assert CoreMask.from_pretrained(tmp_path) == masks[0]
    assert len(looks) == 2
