"""A user's own coordinates: measured here, kept in a file beside the shipped ones, in the same format."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from hf_langcore._version import __version__
from hf_langcore.errors import InputError, WriteError
from hf_langcore.files import replace_json
from hf_langcore.registry.catalogue import FORMAT, FORMAT_VERSION, read_entries, shipped, user_file
from hf_langcore.registry.entry import FIELDS, Entry

_PATIENCE = 60.0  # seconds; a writer needs milliseconds
_LIBRARIES = ("torch", "transformers")
_LONGEST_SLUG = 80
# What an entry that a user gives as fields need not say.
_USUAL = {
    "source": "Registered by the user",
    "source_kind": "user",
    "status": "not_reproduced",
    "status_reason": "Registered by the user without a measurement; `registry.verify` makes one.",
    "expected": "explodes",
}


def register(entry: Entry | Mapping[str, Any], *, path: str | Path | None = None) -> Entry:
    """Add a coordinate of one's own, so that `lookup` finds it and `verify` measures it.

    A coordinate that is registered again (same model, revision, tensor, position and operation, or same id) replaces
    the earlier one. Processes that register at the same time wait for each other; nothing is lost.

    Args:
        entry: An `Entry`, or its fields: at least "model_id", "kind", "tensor", "index" and "operation". Whatever it says,
            `source_kind` becomes "user".
        path: The file; `registry.json` in $HF_LANGCORE_CACHE (~/.cache/hf_langcore) if None.

    Returns:
        The entry as it was written, with its id.

    Raises:
        InputError: A field is missing or wrong, the id is that of a shipped entry, or the file is damaged; nothing was
            written then.
        WriteError: The file cannot be written.

    Example:
        >>> register(  # doctest: +SKIP
        ...     {
        ...         "model_id": "me/my-model", "kind": "norm_weight", "tensor": "model.layers.{layer}.input_layernorm.weight",
        ...         "layer": 1, "axis": 0, "index": 2100, "operation": "scale", "value": 10.0,
        ...     }
        ... )
    """
    return register_all([entry], path=path)[0]


def register_all(given: Sequence[Entry | Mapping[str, Any]], *, path: str | Path | None = None) -> list[Entry]:
    """Register several coordinates in one step, all or none; see `register`."""
    own = [_own(one) for one in given]
    taken = {entry.id for entry in shipped()}
    for entry in own:
        if entry.id in taken:
            raise InputError(
                f"{entry.id!r} is the id of an entry that this library ships. Leave the id out, or take another."
            )
    target = user_file(path)
    with _locked(target):
        kept = {entry.id: entry for entry in read_entries(target, may_lack=True)}
        kept.update({entry.id: entry for entry in own})
        replace_json(target, _document(kept.values()))
    return own


def _document(own: Any) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "entries": [entry.to_dict() for entry in own]}


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Keep other processes away while the file is read, changed and replaced."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{target}.lock", timeout=_PATIENCE)
        lock.acquire()
    except Timeout as error:
        raise WriteError(
            f"Another process has held {target}.lock for {_PATIENCE:.0f} seconds, so nothing was written. Try again when it "
            "has finished."
        ) from error
    except OSError as error:
        raise WriteError(
            f"Cannot write {str(target)!r}: {error.strerror or error}. Name another place with path= or HF_LANGCORE_CACHE."
        ) from error
    try:
        yield
    finally:
        lock.release()


def _own(given: Entry | Mapping[str, Any]) -> Entry:
    """A user's entry, with an id and the circumstances."""
    if isinstance(given, Entry):
        values = given.to_dict()
    elif isinstance(given, Mapping):
        values = {name: value for name, value in given.items() if value is not None}
    else:
        raise InputError(f"Pass an Entry or a mapping of its fields, got {given!r:.80}.")
    values = {**_USUAL, **values, "source_kind": "user"}
    values.setdefault("provenance", circumstances())
    has_id = "id" in values
    try:
        entry = Entry.from_dict({"id": "unnamed", **_plain(values)})
    except (ValueError, TypeError) as error:
        raise InputError(
            f"This is no entry: {error}. Its fields are {', '.join(FIELDS)}; registry.lookup('Llama-2-7b') shows examples."
        ) from error
    return entry if has_id else replace(entry, id=_new_id(entry))


def circumstances(*, text_sha256: str | None = None) -> dict[str, Any]:
    """When and with what something was measured, for `provenance`."""
    versions = {"hf_langcore": __version__}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"date": now, "versions": versions, **({"text_sha256": text_sha256} if text_sha256 else {})}


def _new_id(entry: Entry) -> str:
    """A readable name that is the same whenever the same coordinate is registered."""
    place = [entry.model_id, entry.revision, entry.kind, *entry.tensors, entry.axis, entry.index, entry.operation]
    digest = hashlib.sha256(repr([*place, entry.value]).encode()).hexdigest()[:10]
    name = entry.model_id.rsplit("/", 1)[-1]
    words = f"user {name} {entry.kind} {entry.layer if entry.layer is not None else ''} {entry.index}"
    return re.sub(r"[^a-z0-9]+", "-", words.lower())[:_LONGEST_SLUG].strip("-") + f"-{digest}"


def _plain(value: Any) -> Any:
    """Tuples and numpy's whole numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return value.item() if hasattr(value, "item") else value
