"""Damaged and altered artifacts: refused with a reason, never read as another mask."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.files import sha256_of
from hf_langcore.masks import CoreMask, storage
from hf_langcore.masks.encoding import Entry
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE, largest_arrays, read_config
from hf_langcore.sealing import sealed

Make = Callable[..., CoreMask]


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    if "content_sha256" in config:  # whoever alters it on purpose seals it again
        config = sealed(config)
    path.write_text(json.dumps(config), encoding="utf-8")


def refuse(folder: Path, problem: str) -> None:
    with pytest.raises(CoreMaskFormatError, match=problem):
        CoreMask.from_pretrained(folder)


def test_truncated_and_missing_files_are_refused(saved: Path) -> None:
    """Half a download and a forgotten file."""
    content = (saved / MASK_FILE).read_bytes()
    for length in (0, 7, len(content) - 1):
        (saved / MASK_FILE).write_bytes(content[:length])
        refuse(saved, "truncated or altered")
    (saved / MASK_FILE).unlink()
    refuse(saved, "is missing")
    (saved / MASK_FILE).mkdir()
    refuse(saved, "is missing")


def test_only_ordinary_files_are_read(saved: Path) -> None:
    """A pipe would be waited for, a device read for ever."""
    (saved / MASK_FILE).unlink()
    os.mkfifo(saved / MASK_FILE)
    refuse(saved, "is missing")
    for target in ("/dev/zero", MASK_FILE, "nowhere"):
        (saved / MASK_FILE).unlink()
        (saved / MASK_FILE).symlink_to(target)
        refuse(saved, "is missing")


def test_swapped_files_are_refused(saved: Path, make_mask: Make, tmp_path: Path) -> None:
    """Arrays of one mask beside the description of another of the same shapes."""
    make_mask(seed=1).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / MASK_FILE).replace(saved / MASK_FILE)
    refuse(saved, "truncated or altered")


@given(data=st.data())
def test_any_flipped_byte_of_the_arrays_is_noticed(data: st.DataObject, tmp_path_factory: Any) -> None:
    """The sha256 covers all of them, header included."""
    folder = tmp_path_factory.mktemp("flip")
    mask = CoreMask({"w": torch.arange(400) % 19 == 0})
    mask.save_pretrained(folder)
    content = bytearray((folder / MASK_FILE).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / MASK_FILE).write_bytes(content)
    refuse(folder, "truncated or altered")


def test_no_flipped_bit_of_the_description_gives_another_mask(tmp_path: Path) -> None:
    """It is refused, or concerns something else (the provenance): never other names, shapes or bits."""
    mask = CoreMask({"w": torch.arange(60).view(6, 10) % 19 == 0, "v": torch.ones(9, dtype=torch.bool)})
    mask.save_pretrained(tmp_path)
    content = (tmp_path / CONFIG_FILE).read_bytes()
    for index in range(len(content)):
        flipped = bytearray(content)
        flipped[index] ^= 1 << index % 8
        (tmp_path / CONFIG_FILE).write_bytes(flipped)
        try:
            assert CoreMask.from_pretrained(tmp_path) == mask
        except CoreMaskFormatError:
            continue


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda config: config.update(format="other"), "does not describe a core mask"),
        (lambda config: config.pop("format"), "does not describe a core mask"),
        (lambda config: config.update(format_version=3), "format version 3.*Update hf_langcore"),
        (lambda config: config.update(format_version=True), "format version True"),
        (lambda config: config.update(format_version=1), "'rice' .*in format version 1"),
        (lambda config: config.pop("format_version"), "format version None"),
        (lambda config: config.pop("mask_sha256"), "truncated or altered"),
        (lambda config: config.update(mask_sha256="../../x"), "truncated or altered"),
        (lambda config: config.update(mask_sha256=7), "truncated or altered"),
        (lambda config: config.update(digest="0" * 64), "another mask than its digest"),
        (lambda config: config.pop("digest"), "another mask than its digest"),
        (lambda config: config.pop("tensors"), "does not describe its tensors"),
        (lambda config: config.update(tensors={}), "lists no tensors"),
        (lambda config: config.update(tensors=[1]), "does not describe its tensors"),
        (lambda config: config["tensors"].pop("a.weight"), "different arrays"),
        (lambda config: config["tensors"].update({"a:b": config["tensors"]["a.weight"]}), "no parameter name"),
        (lambda config: config["tensors"].update({"x": config["tensors"]["a.weight"]}), "different arrays.*'x:rice'"),
        (lambda config: config["tensors"]["a.weight"].update(shape=[64, 32]), "another mask than its digest"),
        (lambda config: config["tensors"]["a.weight"].update(shape=[32.0, 64]), "whole number, got 32.0"),
        (lambda config: config["tensors"]["a.weight"].update(shape=[-32, -64]), "impossible"),
        (lambda config: config["tensors"]["a.weight"].update(shape=[1 << 40]), "impossible"),
        (lambda config: config["tensors"]["a.weight"].update(shape=None), "does not describe its tensors"),
        (lambda config: config["tensors"]["a.weight"].update(count=True), "whole number, got True"),
        (lambda config: config["tensors"]["a.weight"].update(inverted=True), "another mask than its digest"),
        (lambda config: config["tensors"]["a.weight"].update(inverted=1), "inverted = 1"),
        (lambda config: config["tensors"]["a.weight"].update(kind=["bits"]), "no form"),
        (lambda config: config["tensors"]["a.weight"].update(extra=1), "does not describe its tensors"),
        (lambda config: config.update(provenance="me"), "provenance of the mask cannot be read"),
        (lambda config: config.update(provenance=None), "provenance of the mask cannot be read"),
    ],
)
def test_altered_descriptions_are_refused(saved: Path, change: Callable[[Any], object], problem: str) -> None:
    """Every field that says what the arrays mean is checked; a newer format says what to do."""
    edit_config(saved, change)
    refuse(saved, problem)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '"x"', "null", "\ufeff{}", "[" * 100_000, '{"format": 1, "format": 2}']
)
def test_broken_json_is_refused(saved: Path, text: str) -> None:
    """Half a file, another type, endless nesting, and keys that stand twice."""
    (saved / CONFIG_FILE).write_text(text, encoding="utf-8")
    refuse(saved, "no valid JSON|does not describe a core mask")


def test_duplicate_keys_are_named(saved: Path) -> None:
    """Of two values for one key nobody knows which was meant."""
    text = (saved / CONFIG_FILE).read_text(encoding="utf-8")
    (saved / CONFIG_FILE).write_text(text.replace("{", '{"format_version": 1, ', 1), encoding="utf-8")
    refuse(saved, "'format_version' stands twice")
    (saved / CONFIG_FILE).write_bytes(b"\xff\xfe{}")
    refuse(saved, "no valid JSON")


def resign(folder: Path) -> None:
    edit_config(folder, lambda config: config.update(mask_sha256=sha256_of(folder / MASK_FILE)))


def test_signed_nonsense_is_refused(saved: Path) -> None:
    """A correct sha256 over arrays of another dtype, over other arrays, and over no safetensors file at all."""
    arrays = load_file(saved / MASK_FILE)
    save_file({name: array.astype(np.int16) for name, array in arrays.items()}, saved / MASK_FILE)
    resign(saved)
    refuse(saved, "should be uint8")
    save_file({**arrays, "stray": np.zeros(1)}, saved / MASK_FILE)
    resign(saved)
    refuse(saved, "different arrays, the first is 'stray'")
    (saved / MASK_FILE).write_bytes(b"no safetensors")
    resign(saved)
    refuse(saved, "no readable safetensors file")


def test_small_files_that_speak_of_huge_models_are_refused(saved: Path) -> None:
    """Each tensor is possible, all of them together would keep the reader busy for hours."""
    empty = {"shape": [1 << 17, 1 << 17], "count": 0, "kind": "empty"}
    edit_config(saved, lambda config: config["tensors"].update(x=empty, y=empty))
    refuse(saved, "declares 34,.* weights, more than a file of")


def test_a_few_weights_of_a_large_model_are_no_contradiction(tmp_path: Path) -> None:
    """Its norms, frozen: hundreds of tensors, a hundred billion weights, and a file of some kilobytes."""
    (tmp_path / "arrays").write_bytes(bytes(100_000))
    empty = Entry((16384, 8192), 0, "empty")
    storage._require_sensible_size(tmp_path / "arrays", {f"layer.{number}": empty for number in range(700)})
    with pytest.raises(CoreMaskFormatError, match="more than a file of"):
        storage._require_sensible_size(tmp_path / "arrays", {f"layer.{number}": empty for number in range(2100)})


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["provenance"].update(method="taylor_abs"),
        lambda config: config["provenance"].update(base_model="somebody/else"),
        lambda config: config.update(density=0.5),
        lambda config: config.update(note="x"),
        lambda config: config.pop("content_sha256"),
        lambda config: config.update(content_sha256="0" * 64),
        lambda config: config.update(content_sha256=None),
    ],
)
def test_no_word_changes_unnoticed(saved: Path, change: Callable[[Any], object]) -> None:
    """Also of what does not concern the bits: where the mask comes from, and which model it belongs to."""
    path = saved / CONFIG_FILE
    config = json.loads(path.read_text(encoding="utf-8"))
    change(config)
    path.write_text(json.dumps(config), encoding="utf-8")
    refuse(saved, "another checksum than it names")


def test_layout_may_change(saved: Path) -> None:
    """Somebody's editor sorts and indents."""
    before = CoreMask.from_pretrained(saved)
    path = saved / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")), sort_keys=True), encoding="utf-8")
    assert CoreMask.from_pretrained(saved) == before


def test_the_largest_file_that_can_belong_to_a_description(saved: Path, tmp_path: Path) -> None:
    """Never less than the file, and not much more."""
    CoreMask({f"layer.{number}.weight": torch.arange(5000) % 7 == 0 for number in range(300)}).save_pretrained(
        tmp_path / "many"
    )
    for folder in (saved, tmp_path / "many"):
        size = (folder / MASK_FILE).stat().st_size
        assert size <= largest_arrays(read_config(folder)) <= 3 * size + 70_000
