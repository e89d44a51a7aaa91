"""Opening a foreign artifact and telling what it is, by content and not by the name of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.exchange.stored import (
    Stored,
    StoredSparse,
    damaged,
    is_npz,
    read_npy,
    read_npz,
    read_safetensors,
    safetensors_note,
)
from hf_langcore.exchange.torch_files import read_torch_file
from hf_langcore.strict_json import read_json

Format = Literal["lape", "shira", "sparse_diff", "tensors"]

SHIRA_WEIGHT, SHIRA_INDICES = "shira_weight", "shira_indices"
DIFFERENCES = ("diffs", "body")
"""Under which of its keys a composable sparse fine-tuning keeps the differences, in its newer and its older files."""
DIGEST_NOTE = "core_mask"
"""Key in the metadata of boolean safetensors that were exported here, which have no other checksum."""

_OUR_OWN = "core_mask_config.json"
_ADAPTER_CONFIG = "adapter_config.json"
_ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_SPARSE_DIFF = "pytorch_diff.bin"
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".npz", ".npy")
_LARGEST_CONFIG = 1 << 20
_ZIP, _NPY, _PICKLE = b"PK\x03\x04", b"\x93NUMPY", b"\x80"


@dataclass(frozen=True, slots=True)
class Artifact:
    """What somebody else wrote.

    Attributes:
        name: Name of the file or folder, for messages and provenance.
        content: Tensors by name, or nested lists and dicts with tensors in them.
        config: The adapter's config, where there is one.
        digest: Digest of the mask, where `export_core_mask` wrote it into the file.
    """

    name: str
    content: Any
    config: Mapping[str, Any] = field(default_factory=dict)
    digest: str | None = None


def open_artifact(source: str | Path) -> Artifact:
    """Read a file or folder of a foreign project. Values of tensors are not read yet.

    Raises:
        InputError: There is nothing that could be read.
        CoreMaskFormatError: A file is damaged or asks for more than data.
    """
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    content = _open_file(path)
    tensors = {_stem(path): content} if isinstance(content, Stored) else content
    digest = safetensors_note(path, DIGEST_NOTE) if _is_safetensors(path) else None
    return Artifact(path.name, tensors, digest=digest)


def recognise(artifact: Artifact) -> Format:
    """The format of an artifact.

    Raises:
        InputError: It is none of the known ones, or could be several.
    """
    content = artifact.content
    if artifact.config or _is_shira(content):
        return "shira"
    if isinstance(content, dict) and any(isinstance(content.get(key), dict) for key in DIFFERENCES):
        return "sparse_diff"
    if isinstance(content, list) or (isinstance(content, dict) and any(isinstance(v, list) for v in content.values())):
        return "lape"
    tensors = content_tensors(content)
    if tensors and any(isinstance(one, StoredSparse) for one in tensors.values()):
        return "sparse_diff"
    if tensors and _has_pairs(tensors):
        return "sparse_diff"
    if tensors and not any(one.dtype.is_floating_point for one in tensors.values() if isinstance(one, Stored)):
        return "tensors"
    if tensors:
        raise InputError(
            f"{artifact.name!r} holds floating-point tensors, which may be differences or masks of 0 and 1. Say which: "
            'format="sparse_diff" takes what is not zero, format="tensors" takes 0 and 1 only.'
        )
    raise InputError(
        f"{artifact.name!r} is in no known format: expected lists of neurons (lape), a SHiRA adapter (shira), sparse "
        "differences (sparse_diff) or boolean tensors by parameter name (tensors)."
    )


def check_format(format: str) -> Format:  # noqa: A002 the public name
    """Return `format` if it is one.

    Raises:
        InputError: It is not.
    """
    if format not in get_args(Format):
        raise InputError(f"format must be one of {list(get_args(Format))}, or None to recognise it, got {format!r}.")
    return format  # type: ignore[return-value]


def content_tensors(content: Any) -> dict[str, Stored | StoredSparse] | None:
    """Tensors by name, also where they lie one level deeper, as in {"state_dict": ...}; None where there are none."""
    if isinstance(content, dict) and len(content) == 1:
        inner = next(iter(content.values()))
        content = inner if isinstance(inner, dict) else content
    if not isinstance(content, dict) or not content:
        return None
    is_tensors = all(isinstance(k, str) and isinstance(v, (Stored, StoredSparse)) for k, v in content.items())
    return content if is_tensors else None


def _open_folder(folder: Path) -> Artifact:
    if (folder / _OUR_OWN).exists():
        raise InputError(f"{str(folder)!r} holds a core mask already: load it with CoreMask.from_pretrained.")
    if (folder / _ADAPTER_CONFIG).exists():
        return _open_adapter(folder)
    if (folder / _SPARSE_DIFF).exists():
        return Artifact(folder.name, _open_file(folder / _SPARSE_DIFF))
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES)
    if not files:
        raise InputError(
            f"There is no mask in {str(folder)!r}: expected a SHiRA adapter ({_ADAPTER_CONFIG}), {_SPARSE_DIFF} or files "
            f"ending in {', '.join(_SUFFIXES)}."
        )
    if len(files) == 1:
        return open_artifact(files[0])
    return Artifact(folder.name, _joined(files))


def _joined(files: list[Path]) -> dict[str, Stored | StoredSparse]:
    """The tensors of several files: shards, or one file for each parameter, named like it."""
    together: dict[str, Stored | StoredSparse] = {}
    for path in files:
        content = _open_file(path)
        tensors = {_stem(path): content} if isinstance(content, Stored) else content_tensors(content)
        if tensors is None:
            raise InputError(f"{str(path)!r} holds no tensors by name. Name one file instead of the folder.")
        twice = sorted(tensors.keys() & together.keys())
        if twice:
            raise CoreMaskFormatError(
                f"{str(path)!r} holds {twice[0]!r}, which another file of its folder holds, too."
            )
        together |= tensors
    return together


def _open_adapter(folder: Path) -> Artifact:
    path = folder / _ADAPTER_CONFIG
    try:
        config = read_json(path, limit=_LARGEST_CONFIG)
    except ValueError as error:
        damaged(path, error)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "SHIRA":
        raise InputError(
            f"{str(folder)!r} is a PEFT adapter of type {repr(kind)[:80]}, and only SHIRA adapters change single weights "
            "that could be a mask. Name the folder of one."
        )
    weights = [folder / name for name in _ADAPTER_WEIGHTS if (folder / name).exists()]
    if not weights:
        raise InputError(f"{str(folder)!r} has an {_ADAPTER_CONFIG} and no {_ADAPTER_WEIGHTS[0]}. Download all of it.")
    return Artifact(folder.name, _open_file(weights[0]), config)


def _open_file(path: Path) -> Any:
    if not path.exists():
        raise InputError(f"There is no {str(path)!r}. Name a file or folder on this machine; download it first.")
    if not path.is_file():
        raise InputError(f"{str(path)!r} is neither a file nor a folder, so it is not read. Name an ordinary file.")
    if _is_safetensors(path):  # first, since the number that these begin with may look like anything else
        return read_safetensors(path)
    head = _head(path)
    if head.startswith(_NPY):
        return read_npy(path)
    if head.startswith(_ZIP):
        return read_npz(path) if is_npz(path) else read_torch_file(path)
    reason = "it is neither a file of torch.save nor safetensors, .npy or .npz"
    if head.startswith(_PICKLE):
        reason = "it is a bare pickle, which torch.save wrote before torch 1.6; save it again with a newer torch"
    return damaged(path, reason)


def _is_safetensors(path: Path) -> bool:
    head = _head(path)
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(9)
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be opened: {error.strerror or error}.") from error


def _stem(path: Path) -> str:
    return path.name.removesuffix(path.suffix)


def _is_shira(content: Any) -> bool:
    return isinstance(content, dict) and any(str(name).endswith((SHIRA_WEIGHT, SHIRA_INDICES)) for name in content)


def _has_pairs(tensors: Mapping[str, Stored | StoredSparse]) -> bool:
    return any(name.endswith(".indices") and f"{name.removesuffix('.indices')}.values" in tensors for name in tensors)
