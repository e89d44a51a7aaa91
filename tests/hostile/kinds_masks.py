"""Core masks in both format versions and all forms, adapters with a mask, importance scores, values of a frozen core."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from artifact import Damaged, Files, Kind, content_of, json_of, ordinary, read_folder
from byte_damage import flip, other_file_type, splice, truncate
from json_damage import JSON_DAMAGES, NAMES, VALUES, dump
from safetensors_damage import SAFETENSORS_DAMAGES, join, split
from signing import any_change, rehashed, resealed, signed_change

from hf_langcore.hub.references import write_reference
from hf_langcore.masks import CoreMask, Fingerprint, ImportanceScores, Provenance
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE

FORMAT_1 = Path(__file__).parent.parent / "masks" / "format_1"
BYTES = {"bytes": flip, "truncation": truncate, "ranges": splice, "file types": other_file_type}
LARGE = (0, -1, 1, 7, 2**31, 2**34, 2**53, 2**62, 2**63, 2**64, 10**40, 1.0, True, "1", None, [], [1])


def written(save: Callable[[Path], object]) -> Files:
    """What something writes into a folder."""
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        return read_folder(Path(folder))


def make_mask(seed: int = 0) -> CoreMask:
    """A mask with tensors in every form that is written."""
    generator = torch.Generator().manual_seed(seed)
    uneven = torch.zeros(64, 96, dtype=torch.bool)
    uneven[:, :6] = torch.rand(64, 6, generator=generator) < 0.8
    uneven[3, :] = True
    tensors = {
        "model.layers.0.empty.weight": torch.zeros(9, dtype=torch.bool),
        "model.layers.0.full.weight": torch.ones(3, 5, dtype=torch.bool),
        "model.layers.0.bits.weight": torch.rand(7, 11, generator=generator) < 0.45,
        "model.layers.0.sparse.weight": torch.rand(40, 50, generator=generator) < 0.03,
        "model.layers.0.twin.weight": torch.rand(40, 50, generator=generator) < 0.03,
        "model.layers.1.dense.weight": torch.rand(40, 50, generator=generator) > 0.03,
        "model.layers.1.uneven.weight": uneven,
    }
    return CoreMask(
        tensors,
        provenance=Provenance(
            method="taylor", which="top", fraction=0.03, seed=3, tokens={"en": 1000, "zh": 900}, block_size=64,
            base_model="me/model", base_revision="a" * 40, versions={"torch": "2.13"}, transposed=["model.layers.0.twin.weight"],
            base_fingerprint=Fingerprint(dict.fromkeys(tensors, "0123456789abcdef")),
        ),
    )  # fmt: skip


def load_mask(folder: Path) -> Any:
    """All that a mask says."""
    mask = CoreMask.from_pretrained(folder)
    return (
        {name: (mask.shapes()[name], mask[name].tolist()) for name in mask},
        mask.provenance.to_dict(),
        mask.digest(),
    )


def sign_mask(files: Files) -> Files:
    """With the right sha256 of the arrays, and the right seal."""
    return resealed(rehashed(files, CONFIG_FILE, "mask_sha256", MASK_FILE), CONFIG_FILE)


def _entry(rng: random.Random, values: Any) -> None:
    """One number or word of a tensor's description contradicts its arrays."""
    name = rng.choice(list(values["tensors"]))
    entry = values["tensors"][name]
    key = rng.choice(list(entry))
    if key == "blocks" and rng.random() < 0.8:
        block = rng.choice(entry["blocks"])
        place = rng.randrange(len(block))
        block[place] = rng.choice((*LARGE, block[place] + rng.choice((1, -1, 8))))
    elif key == "count":
        entry[key] = rng.choice((*LARGE, entry[key] + rng.choice((1, -1, 8))))
    elif key in {"shape", "classes"} and rng.random() < 0.7:
        entry[key] = rng.choice(
            ([2**33, 2], [2**17, 2**17], [2**62], [-1, -9], [0], [], [1] * 40, entry[key][::-1], [*entry[key], 1])
        )
    elif key == "kind":
        entry[key] = rng.choice(("empty", "bits", "rice", "elias-fano", "zip", "", None, ["bits"]))
    else:
        entry[key] = rng.choice(VALUES)
    if rng.random() < 0.2:
        values["tensors"][f"{name}.more"] = dict(entry)


def contradictory_entry(rng: random.Random, files: Files) -> Files:
    """The description of a tensor contradicts its arrays, signed."""
    values = json_of(files, CONFIG_FILE)
    _entry(rng, values)
    return sign_mask({**files, CONFIG_FILE: dump(values)})


def contradictory_arrays(rng: random.Random, files: Files) -> Files:
    """The arrays are others than the digest names, stray bits are set, arrays are missing or too many; signed."""
    header, data = split(content_of(files, MASK_FILE))
    names = [key for key in header if key != "__metadata__"]
    how = rng.randrange(5) if len(names) > 1 else rng.choice((0, 3, 4))
    if how == 0:
        place = rng.randrange(len(data))
        data = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    elif how == 1:
        first, second = rng.sample(names, 2)
        header[first], header[second] = header[second], header[first]
    elif how == 2:
        del header[rng.choice(names)]
    elif how == 3:
        header[rng.choice(("extra", *NAMES))] = {
            "dtype": "U8",
            "shape": [3],
            "data_offsets": [len(data), len(data) + 3],
        }
        data += b"abc"
    else:
        data = rng.randbytes(len(data))
    return sign_mask({**files, MASK_FILE: join(header, data)})


def huge_and_empty(rng: random.Random, files: Files) -> Files:
    """A few bytes that declare more weights than any model has, signed."""
    values = json_of(files, CONFIG_FILE)
    shape = rng.choice(([2**33], [2**34], [2**30, 16], [2**34 + 8], [2**17, 2**16]))
    entry = {"shape": shape, "count": 0, "kind": "empty"}
    count = rng.choice((1, 8, 2000))
    values["tensors"] = {f"w{number}": entry | {"inverted": bool(number % 2)} for number in range(count)}
    return sign_mask({**files, CONFIG_FILE: dump(values), MASK_FILE: join({"__metadata__": {}}, b"")})


NONSENSE: dict[str, tuple[Any, ...]] = {
    "method": ("", "x" * 100_000, 1, None),
    "fraction": (-1, 2.5, 1e308, True, "0.03"),
    "seed": (0.5, "3", True),
    "tokens": ({"en": "many"}, {"en": -5}, {"en": [1]}, ["en"], {"": 1}, {"en": 1.5}, {"en": True}),
    "block_size": (-1, 0, 1.5, True),
    "transposed": ([1, {}], ["no such tensor"], [["a"]], "w"),
    "base_model": (1, ["me/model"], "a\u0000b"),
    "base_revision": ("main\n", 5),
    "versions": ({"torch": 2}, {"torch": {"a": 1}}, ["torch"]),
    "base_fingerprint": ({"algorithm": "x", "tensors": []}, {"tensors": {"w": 1}}, {"algorithm": 1, "tensors": {}}, 5),
    "extra": (1, {"a": 1}),
}


def _nonsense(rng: random.Random, values: Any) -> None:
    key = rng.choice(list(NONSENSE))
    values["provenance"][key] = rng.choice(NONSENSE[key])


MASK_SIGNED = {
    "signed: contradictory description": contradictory_entry,
    "signed: other arrays": contradictory_arrays,
    "signed: huge shapes": huge_and_empty,
    "signed: impossible provenance": signed_change(CONFIG_FILE, _nonsense, sign_mask),
    "signed: any change": any_change(CONFIG_FILE, sign_mask),
}


def swapped_files(other: Files) -> Callable[[random.Random, Files], Files]:
    """A file of another artifact of the same kind."""

    def damage(rng: random.Random, files: Files) -> Files:
        name = rng.choice([name for name in ordinary(files) if name in other])
        return {**files, name: other[name]}

    return damage


def masks() -> Kind:
    """Folders that `CoreMask.save_pretrained` wrote, and one of format version 1."""
    current = written(lambda folder: make_mask().save_pretrained(folder))
    plain = written(
        lambda folder: CoreMask(
            {"w": torch.arange(90).view(9, 10) % 2 == 0, "v": torch.zeros(5, dtype=torch.bool)}
        ).save_pretrained(folder)
    )
    first = {name: content for name, content in read_folder(FORMAT_1).items() if not name.endswith(".py")}
    other = written(lambda folder: make_mask(seed=1).save_pretrained(folder))
    damages = {**BYTES, **JSON_DAMAGES, **SAFETENSORS_DAMAGES, **MASK_SIGNED, "files of another": swapped_files(other)}

    def reference(folder: Path) -> Any:
        """Of format version 1, which has no seal: the words as they stand there, but the same bits."""
        values = json_of(read_folder(folder), CONFIG_FILE)
        assert values["format_version"] == 1
        bits, _, digest = load_mask(FORMAT_1)
        return bits, values["provenance"], digest

    return Kind("core mask", (current, plain, first), load_mask, damages, reference)


def adapters() -> Kind:
    """The mask beside an adapter's config, which names its digest; PEFT reads the rest of that file."""
    from hf_langcore import CoreRegionConfig

    mask = make_mask()
    mask._origin = HubOrigin("me/mask", "b" * 40)

    def save(folder: Path) -> None:
        CoreRegionConfig(
            core_mask=mask, target_modules=["up_proj"], r=2, base_model_name_or_path="me/model"
        ).save_pretrained(str(folder))
        write_reference(folder, mask)

    def load(folder: Path) -> Any:
        config = CoreRegionConfig.from_pretrained(str(folder))
        found = config.core_mask
        assert isinstance(found, CoreMask)
        return (
            {name: found[name].tolist() for name in found},
            found.provenance.to_dict(),
            config.r,
            sorted(config.target_modules or ()),
        )

    files = written(save)
    own = ("core_mask.safetensors", "core_mask_config.json")

    def of_mask(
        damage: Callable[[random.Random, Files], Files | Damaged],
    ) -> Callable[[random.Random, Files], Damaged]:
        def only(rng: random.Random, files: Files) -> Damaged:
            made = damage(rng, {name: files[name] for name in own})
            made = made if isinstance(made, Damaged) else Damaged(made)
            if not isinstance(made.files[CONFIG_FILE], bytes):  # without it the mask travels in the weights alone
                made = Damaged({**made.files, CONFIG_FILE: files[CONFIG_FILE], MASK_FILE: made.files[CONFIG_FILE]})
            return replace(made, files={**files, **made.files}, may_differ=False)

        return only

    other = written(lambda folder: make_mask(seed=1).save_pretrained(folder))
    inside = {**BYTES, **JSON_DAMAGES, **SAFETENSORS_DAMAGES, "files of another": swapped_files(other)}
    damages = {name: of_mask(damage) for name, damage in inside.items()}
    damages |= {
        name: of_mask(MASK_SIGNED[name]) for name in ("signed: contradictory description", "signed: other arrays")
    }
    damages["another mask, whole"] = lambda _, files: Damaged({**files, **other})
    damages["adapter's description"] = _description
    return Kind("adapter", (files,), load, damages)


def _description(rng: random.Random, files: Files) -> Damaged:
    """What adapter_config.json says of the mask is another mask's, or nonsense."""
    values = json_of(files, "adapter_config.json")
    said = values["core_mask"]
    key = rng.choice(("digest", "digest", "origin", "core_mask"))
    if key == "core_mask":
        values[key] = rng.choice((5, [], [said], True, {}, {"digests": said["digest"]}, {"weights": 3}))
    elif key == "digest":
        said[key] = rng.choice(
            (said[key][:-1], said[key].upper(), said[key][::-1], "", None, 5, [said[key]], {}, "x" * 100_000, True)
        )
    else:
        said[key] = rng.choice(VALUES)
    return Damaged({**files, "adapter_config.json": dump(values)})


def scores() -> Kind:
    """Folders that `ImportanceScores.save_pretrained` wrote."""
    config = "importance_config.json"

    def make(seed: int) -> Files:
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: torch.rand(shape, generator=generator)
            for name, shape in (("z.w", (4, 6)), ("a.b", (5,)), ("a.c", (5,)))
        }
        source = Provenance(
            "fisher", tokens={"en": 8}, base_model="me/model", base_fingerprint=Fingerprint({"z.w": "0" * 16})
        )
        return written(lambda folder: ImportanceScores(tensors, provenance=source).save_pretrained(folder))

    def load(folder: Path) -> Any:
        found = ImportanceScores.from_pretrained(folder)
        return {name: found[name].tolist() for name in found}, found.provenance.to_dict()

    def sign(files: Files) -> Files:
        """The arrays under the name that holds their sha256."""
        old = next((name for name in files if name.endswith(".safetensors")), None)
        if old is None or not isinstance(files[old], bytes):
            return resealed(files, config)
        files = rehashed(files, config, "scores_sha256", old)
        values = json_of(files, config)
        new = f"importance_scores.{values['scores_sha256'][:16]}.safetensors"
        values["scores_file"] = new
        kept = {name: content for name, content in files.items() if name != old}
        return resealed({**kept, new: files[old], config: dump(values)}, config)

    def file_name(rng: random.Random, values: Any) -> None:
        values["scores_file"] = rng.choice(
            (*NAMES, "../../outside", "../importance_scores.0123456789abcdef.safetensors")
        )

    def shapes(rng: random.Random, values: Any) -> None:
        name = rng.choice(list(values["tensors"]))
        values["tensors"][name] = rng.choice(([2**62], [-1], [], [24], [6, 4], None, "x", [4.0, 6.5]))

    damages = {
        **BYTES, **JSON_DAMAGES, **SAFETENSORS_DAMAGES,
        "signed: arrays that the header does not fit": lambda rng, files: sign(SAFETENSORS_DAMAGES["header bombs"](rng, files)),
        "signed: other file": signed_change(config, file_name, lambda files: resealed(files, config)),
        "signed: other shapes": signed_change(config, shapes, sign),
        "signed: impossible provenance": signed_change(config, _nonsense, sign),
        "files of another": swapped_files(make(1)),
    }  # fmt: skip
    return Kind("importance scores", (make(0),), load, damages)


def core_values() -> Kind:
    """`core_values.safetensors` of a training run."""
    from hf_langcore.training.core_values import read_core_values, write_core_values

    digest = "d" * 64
    values = {
        "model.layers.0.w": torch.arange(12, dtype=torch.bfloat16), "model.layers.1.w": torch.arange(7).float(),
        "model.layers.2.w": torch.arange(7).float() + 1,
    }  # fmt: skip

    def load(folder: Path) -> Any:
        found = read_core_values(folder, digest=digest)
        return {name: (str(value.dtype), value.tolist()) for name, value in found.values.items()}, found.from_base

    files = written(lambda folder: write_core_values(folder, values, digest=digest, from_base=True))
    other = written(
        lambda folder: write_core_values(
            folder, {name: value + 1 for name, value in values.items()}, digest="e" * 64, from_base=True
        )
    )
    return Kind(
        "values of a frozen core",
        (files,),
        load,
        {**BYTES, **SAFETENSORS_DAMAGES, "files of another": swapped_files(other)},
    )
