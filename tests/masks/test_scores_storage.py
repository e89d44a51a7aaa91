"""Importance scores on disk: exact, sure of what is read, old or new after a save that was killed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_langcore import files
from hf_langcore.errors import ArtifactExistsError, CoreMaskFormatError, InputError
from hf_langcore.files import sha256_of
from hf_langcore.masks import CoreMask, Fingerprint, ImportanceScores, Provenance, scores_storage
from hf_langcore.masks.scores_storage import CONFIG_FILE
from hf_langcore.sealing import sealed


def make(seed: int = 0) -> ImportanceScores:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.rand(shape, generator=generator) for name, shape in (("z.w", (4, 6)), ("a.b", (5,)))}
    tensors["z.w"][0, :2] = torch.tensor([float("inf"), -0.0])
    tensors["t"] = torch.rand(3, 4, generator=generator).T
    source = Provenance("fisher", tokens={"en": 8}, base_fingerprint=Fingerprint({"z.w": "0" * 16}))
    return ImportanceScores({**tensors, "same": tensors["t"]}, provenance=source)


def arrays(folder: Path) -> Path:
    (path,) = folder.glob("importance_scores*")
    return path


def test_round_trip(tmp_path: Path) -> None:
    """Every bit, names in their order and the provenance, also of tensors that are views or share their memory."""
    scores = make()
    scores.save_pretrained(tmp_path / "deep" / "folder")
    loaded = ImportanceScores.from_pretrained(str(tmp_path / "deep" / "folder"))
    assert list(loaded) == list(scores) == ["z.w", "a.b", "t", "same"]
    assert all(
        torch.equal(loaded[name].view(torch.int32), values.view(torch.int32)) for name, values in scores.items()
    )
    assert loaded.provenance == scores.provenance
    assert repr(loaded) == repr(scores)
    assert CoreMask.from_scores(loaded, fraction=0.3) == CoreMask.from_scores(scores, fraction=0.3)
    assert torch.equal((loaded + scores)["a.b"], 2 * scores["a.b"])
    assert len(list((tmp_path / "deep" / "folder").iterdir())) == 2
    with pytest.raises(KeyError):
        loaded["nothing"]


def test_opened_scores_can_be_saved_and_changed_by_nobody(tmp_path: Path) -> None:
    """What was opened stays what it was, also after the folder holds other scores; each look is a fresh tensor."""
    make(0).save_pretrained(tmp_path)
    opened = ImportanceScores.from_pretrained(tmp_path)
    opened["a.b"].zero_()
    make(1).save_pretrained(tmp_path, overwrite=True)
    assert torch.equal(opened["a.b"], make(0)["a.b"])
    opened.save_pretrained(tmp_path / "again")
    assert torch.equal(ImportanceScores.from_pretrained(tmp_path / "again")["t"], make(0)["t"])


def test_other_scores_are_not_overwritten(tmp_path: Path) -> None:
    """The same ones may be saved again; others only when asked, and then nothing of the old ones stays."""
    make(0).save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    make(0).save_pretrained(tmp_path)
    with pytest.raises(ArtifactExistsError, match="overwrite=True"):
        make(1).save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "notes.txt").write_text("precious")
    make(1).save_pretrained(tmp_path, overwrite=True)
    assert torch.equal(ImportanceScores.from_pretrained(tmp_path)["a.b"], make(1)["a.b"])
    assert {path.name for path in tmp_path.iterdir()} == {CONFIG_FILE, "notes.txt", arrays(tmp_path).name}
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ArtifactExistsError, match="it is a file"):
        make().save_pretrained(tmp_path / "file")


@pytest.mark.parametrize("step", ["arrays", "config"])
def test_a_killed_save_leaves_the_old_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whichever of the two files was being written; the next save cleans up."""
    make(0).save_pretrained(tmp_path)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(scores_storage, "replace_file" if step == "arrays" else "replace_json", dies)
        with pytest.raises(KeyboardInterrupt):
            make(1).save_pretrained(tmp_path, overwrite=True)
    assert torch.equal(ImportanceScores.from_pretrained(tmp_path)["a.b"], make(0)["a.b"])
    make(1).save_pretrained(tmp_path, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 2
    assert files.sha256_of(arrays(tmp_path)) == json.loads((tmp_path / CONFIG_FILE).read_text())["scores_sha256"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "other tensors", "float64"])
def test_damaged_arrays_are_refused(tmp_path: Path, damage: str) -> None:
    """By sha256 where bytes differ, by the list of tensors where somebody wrote both files."""
    make().save_pretrained(tmp_path)
    path = arrays(tmp_path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "flipped":
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    elif damage == "missing":
        path.unlink()
    else:
        tensors = load_file(path)
        tensors["t"] = tensors["t"].double() if damage == "float64" else tensors["t"].T.contiguous()
        save_file({name: value.clone() for name, value in tensors.items()}, path)
        config = json.loads((tmp_path / CONFIG_FILE).read_text())
        (tmp_path / CONFIG_FILE).write_text(json.dumps(sealed({**config, "scores_sha256": sha256_of(path)})))
    with pytest.raises(CoreMaskFormatError, match="Compute the scores again"):
        ImportanceScores.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "hf_langcore.core_mask"}, "does not describe importance scores"),
        ({"format_version": 2}, "Update hf_langcore"),
        ({"format_version": True}, "Update hf_langcore"),
        ({"scores_file": "../elsewhere"}, "altered"),
        ({"tensors": {}}, "altered"),
        ({"provenance": {"colour": "red"}}, "provenance"),
    ],
)
def test_altered_descriptions_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    """The message says what is wrong, and a path cannot lead out of the folder."""
    make().save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(sealed({**config, **change})))
    with pytest.raises(CoreMaskFormatError, match=message):
        ImportanceScores.from_pretrained(tmp_path)


def test_no_word_of_the_description_changes_unnoticed(tmp_path: Path) -> None:
    """The seal covers the provenance; files of before there were seals are read; what plain JSON lets pass is refused."""
    make().save_pretrained(tmp_path)
    path = tmp_path / CONFIG_FILE
    text = path.read_text()
    for old, new in (
        ("fisher", "fishes"),
        ('"en": 8', '"en": 8, "en": 8'),
        ('"en": 8', '"en": NaN'),
        ("content_sha256", "extra"),
    ):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(CoreMaskFormatError, match="Compute the scores again"):
            ImportanceScores.from_pretrained(tmp_path)
    old = {key: value for key, value in json.loads(text).items() if key != "content_sha256"}
    path.write_text(json.dumps(old))
    assert ImportanceScores.from_pretrained(tmp_path).provenance == make().provenance


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    """A pipe would be waited for."""
    make().save_pretrained(tmp_path)
    path = arrays(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CoreMaskFormatError, match="no ordinary file"):
        ImportanceScores.from_pretrained(tmp_path)


def test_folders_without_scores_are_refused(tmp_path: Path) -> None:
    """A missing folder, an empty one, and a file that is no JSON."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match="no importance scores in"):
            ImportanceScores.from_pretrained(folder)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(CoreMaskFormatError, match="no valid JSON"):
        ImportanceScores.from_pretrained(tmp_path)
