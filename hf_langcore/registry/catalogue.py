"""Reading the shipped coordinates and the user's own, and finding those of a model."""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path
from typing import Any, get_args

from hf_langcore.errors import InputError
from hf_langcore.registry.entry import Entry, Kind
from hf_langcore.registry.schema import require_valid
from hf_langcore.strict_json import read_json

FORMAT = "hf_langcore/critical_coordinates"
FORMAT_VERSION = 1

_SHIPPED = Path(__file__).with_name("critical_coordinates.json")
_LIMIT = 1 << 26
_NEAR = 5


def user_file(path: str | Path | None = None) -> Path:
    """The file of the user's own coordinates: `path`, or `registry.json` in the cache folder of this library.

    The folder is $HF_LANGCORE_CACHE, or ~/.cache/hf_langcore.
    """
    if path is not None:
        return Path(path)
    return Path(os.environ.get("HF_LANGCORE_CACHE", Path.home() / ".cache" / "hf_langcore")) / "registry.json"


def entries(*, path: str | Path | None = None) -> list[Entry]:
    """All coordinates: those that are shipped, then the user's own, which have `source_kind="user"`.

    Args:
        path: File of the user's own; see `register`.

    Raises:
        InputError: The user's file is damaged or of a newer format.
    """
    return [*shipped(), *read_entries(user_file(path), may_lack=True)]


def models(*, path: str | Path | None = None) -> list[str]:
    """Ids of all models that something is known of, sorted."""
    return sorted({entry.model_id for entry in entries(path=path)}, key=str.casefold)


def lookup(
    model_id: str, *, kind: Kind | None = None, revision: str | None = None, path: str | Path | None = None
) -> list[Entry]:
    """What is known of a model.

    Names are compared as text, without regard to case; no file is looked at. "meta-llama/Llama-2-7b-hf",
    "Llama-2-7b-hf" and "Llama-2-7b" find the same model; "someone/Llama-2-7b-hf" does not, since another owner's
    weights may be others. Your own entries are found under the id that they were registered with, and under all names of
    that model where it is a known one. A path (anything with a backslash, a leading ".", "~" or "/", or more than one slash) finds
    only what was registered for exactly that path, never a model that its last part happens to be called like.

    Args:
        model_id: Hub id, bare name, another name of the model, or a path.
        kind: Only entries of this kind.
        revision: Only entries of this commit, and those that name none.
        path: File of the user's own coordinates.

    Returns:
        The entries, shipped ones first; an empty list where nothing is known.

    Raises:
        InputError: `model_id` is no text, or `kind` does not exist.

    Example:
        >>> [entry.index for entry in lookup("Llama-2-7b", kind="super_weight")]
        [(2533, 7890)]
    """
    if not isinstance(model_id, str) or not model_id.strip():
        raise InputError(f"model_id must be a name such as 'meta-llama/Llama-2-7b-hf', got {model_id!r}.")
    if kind is not None and kind not in get_args(Kind):
        raise InputError(f"kind must be one of {list(get_args(Kind))}, got {kind!r}.")
    wanted = _canonical(model_id)
    return [
        entry
        for entry in entries(path=path)
        if (_canonical(entry.model_id) == wanted or wanted in map(_key, entry.aliases))
        and kind in {None, entry.kind}
        and (revision is None or entry.revision in {None, revision})
    ]


def nearby(model_id: str, *, path: str | Path | None = None) -> list[str]:
    """Known models whose names are like `model_id`, most similar first."""
    by_name = {_key(name): name for name in models(path=path)}
    by_name = {**_known_names(), **by_name}
    key = _key(model_id)
    close = difflib.get_close_matches(key, by_name, n=2 * _NEAR, cutoff=0.5)
    close += difflib.get_close_matches(key.replace("\\", "/").rsplit("/", 1)[-1], by_name, n=2 * _NEAR, cutoff=0.5)
    return list(dict.fromkeys(by_name[name] for name in close))[:_NEAR]


@cache
def shipped() -> tuple[Entry, ...]:
    """The coordinates that this library ships."""
    return tuple(read_entries(_SHIPPED))


def read_entries(source: Path, *, may_lack: bool = False) -> list[Entry]:
    """The coordinates in a file.

    Args:
        source: The file.
        may_lack: Take a missing file for an empty one.

    Raises:
        InputError: It is missing, damaged, of a newer format, or two entries have one id.
    """
    if may_lack and not source.exists():
        return []
    try:
        return _parsed(read_json(source, limit=_LIMIT))
    except ValueError as error:
        raise InputError(
            f"{str(source)!r} is no file of critical coordinates: {error}. It was left as it is; repair it, or move it away "
            "to begin a new one."
        ) from error


def _parsed(values: Any) -> list[Entry]:
    version = values.get("format_version") if isinstance(values, dict) else None
    if type(version) is int and version > FORMAT_VERSION:
        raise ValueError(f"it has format version {version}, this hf_langcore reads {FORMAT_VERSION}: update it")
    require_valid(values)
    found = [Entry.from_dict(one) for one in values["entries"]]
    seen: set[str] = set()
    for entry in found:
        if entry.id in seen:
            raise ValueError(f"two entries have the id {entry.id!r}")
        seen.add(entry.id)
    return found


@cache
def _known_names() -> dict[str, str]:
    """Every name of every shipped model -> its id: the id, its last part, other names and their last parts."""
    names = {_key(name): entry.model_id for entry in shipped() for name in (entry.model_id, *entry.aliases)}
    return {**{name.rsplit("/", 1)[-1]: model_id for name, model_id in names.items()}, **names}


def _canonical(name: str) -> str:
    """The same for all names of one model."""
    return _key(_known_names().get(_key(name), name))


def _key(name: str) -> str:
    # Paths tell upper from lower case.
    return name.strip() if _is_path(name.strip()) else name.strip().casefold()


def _is_path(name: str) -> bool:
    return "\\" in name or name.startswith((".", "~", "/")) or name.count("/") > 1
