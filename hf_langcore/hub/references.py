"""`core_mask_ref.json`: which mask on the Hub an adapter or a fine-tuned model belongs to."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hf_langcore.errors import CoreMaskFormatError, InputError
from hf_langcore.files import replace_json
from hf_langcore.hub.eval_record import is_digest
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import is_commit, is_repository_id
from hf_langcore.sealing import SEAL, is_intact, sealed
from hf_langcore.strict_json import read_json

REFERENCE_FILE = "core_mask_ref.json"
FORMAT = "hf_langcore.core_mask_ref"
FORMAT_VERSION = 1

_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class CoreMaskReference:
    """A mask on the Hub, pinned.

    Attributes:
        repo_id: "owner/name".
        revision: The 40-hex commit.
        digest: Hex sha256 of the mask, `CoreMask.digest()`.
        base_model: Repository of the model that the mask was found on; None where it was a folder.
        base_revision: Its 40-hex commit; None where nobody knows it.
    """

    repo_id: str
    revision: str
    digest: str
    base_model: str | None = None
    base_revision: str | None = None

    @classmethod
    def of(cls, core_mask: CoreMask) -> CoreMaskReference | None:
        """The reference of a mask that was loaded from the Hub or pushed to it; None of any other."""
        origin = core_mask.origin
        if origin is None:
            return None
        base_model, base_revision = public_base(core_mask)
        return cls(origin.repo_id, origin.revision, core_mask.digest(), base_model, base_revision)

    def require_same(self, core_mask: CoreMask) -> None:
        """Refuse another mask than the one that is named here.

        Raises:
            CoreMaskFormatError: The digests differ.
        """
        if core_mask.digest() != self.digest:
            raise CoreMaskFormatError(
                f"{REFERENCE_FILE} names the mask {self.digest[:16]}... of {self.repo_id!r} at {self.revision}, this one is "
                f"{core_mask.digest()[:16]}... Load that revision, or save the model again."
            )


def public_base(core_mask: CoreMask) -> tuple[str | None, str | None]:
    """Repository and 40-hex commit of the model that a mask was found on, as far as others can load it.

    Folders of this machine are nobody else's business, and are left out.
    """
    source = core_mask.provenance
    return public_name(source.base_model, source.base_revision), commit_or_none(source.base_revision)


def public_name(name: str | None, revision: str | None = None) -> str | None:
    """A model's name where it is that of a repository; "gpt2" without an owner only where its commit is known."""
    if not name or Path(name).is_absolute():
        return None
    if is_repository_id(name):
        return name
    return name if "/" not in name and "\\" not in name and commit_or_none(revision) else None


def commit_or_none(revision: str | None) -> str | None:
    """A revision that is a 40-hex commit; branches and tags may move."""
    return revision if is_commit(revision) else None


def write_reference(folder: str | Path, core_mask: CoreMask | None) -> CoreMaskReference | None:
    """Write `core_mask_ref.json` beside what was trained with a mask; remove one that is not true any more.

    Args:
        folder: Of the adapter or model.
        core_mask: Its mask; None where it has none.
    """
    reference = None if core_mask is None else CoreMaskReference.of(core_mask)
    path = Path(folder, REFERENCE_FILE)
    if reference is None:
        if core_mask is None or not _names(path, core_mask):
            path.unlink(missing_ok=True)
        return None
    replace_json(path, sealed({"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(reference)}))
    return reference


def read_reference(folder: str | Path) -> CoreMaskReference:
    """Read `core_mask_ref.json` and check every field.

    Args:
        folder: Of an adapter or a fine-tuned model.

    Raises:
        InputError: There is none.
        CoreMaskFormatError: It is damaged, altered or of a newer format.
    """
    path = Path(folder, REFERENCE_FILE)
    if not path.is_file():
        raise InputError(
            f"There is no {REFERENCE_FILE} in {str(folder)!r}: the model's mask was not on the Hub, or the model was trained "
            "without one."
        )
    try:
        values = read_json(path, limit=_LIMIT)
    except ValueError as error:
        raise CoreMaskFormatError(f"{path} is no valid JSON ({error}). Download it again.") from error
    return _checked(values, path)


def _checked(values: Any, path: Path) -> CoreMaskReference:
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise CoreMaskFormatError(f'{path} does not name a core mask: expected "format": "{FORMAT}".')
    version = values.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise CoreMaskFormatError(
            f"{path} has format version {repr(version)[:80]}; this hf_langcore reads version {FORMAT_VERSION}. Update hf_langcore."
        )
    if not is_intact(values):
        raise CoreMaskFormatError(
            f"{path} was damaged or altered after it was written: its content has another checksum than it names. Download it again."
        )
    known = {item.name for item in fields(CoreMaskReference)}
    expected = known | {"format", "format_version", SEAL}
    if values.keys() != expected:
        odd = sorted(values.keys() ^ expected)
        raise CoreMaskFormatError(f"{path} has fields too many or too few: {repr(odd)[:200]}. Download it again.")
    rules: dict[str, tuple[Callable[[str], object], bool]] = {
        "repo_id": (_is_repository, False),
        "revision": (is_commit, False),
        "digest": (is_digest, False),
        "base_model": (_is_model, True),
        "base_revision": (is_commit, True),
    }
    for name, (is_right, may_be_none) in rules.items():
        value = values[name]
        if not (value is None and may_be_none) and not (isinstance(value, str) and is_right(value)):
            raise CoreMaskFormatError(f"{path} has a wrong {name}: {str(value)[:100]!r}. Download it again.")
    return CoreMaskReference(**{name: values[name] for name in known})


def _is_repository(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,95}/[A-Za-z0-9_\-][A-Za-z0-9_.\-]{0,95}", name) is not None


def _is_model(name: str) -> bool:
    return _is_repository(name if "/" in name else f"owner/{name}")


def _names(path: Path, core_mask: CoreMask) -> bool:
    """Whether a reference that is there already names this very mask, which may have been loaded from the folder."""
    try:
        return read_reference(path.parent).digest == core_mask.digest()
    except (InputError, CoreMaskFormatError, OSError):
        return False
