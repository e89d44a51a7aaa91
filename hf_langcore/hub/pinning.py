"""Which commit of which repository a mask was found on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

from hf_langcore.editing.stored import StoredCheckpoint
from hf_langcore.errors import CoreMaskMismatchError, InputError, LangCoreError
from hf_langcore.hub.fetch import cached_commit, commit_of
from hf_langcore.hub.redaction import Token
from hf_langcore.masks.fingerprint import Fingerprint, digest_of
from hf_langcore.masks.origin import is_repository_id
from hf_langcore.masks.provenance import Provenance

_COMPARED = 64  # tensors; other weights of one architecture differ in nearly all of them


def pinned(
    provenance: Provenance, *, base_model: str | None, base_revision: str | None, token: Token = None
) -> Provenance:
    """The provenance with a repository and a 40-hex commit of the base model.

    Args:
        provenance: Of a mask.
        base_model: Repository that the caller names; None is that of the provenance.
        base_revision: Revision that the caller names.
        token: Of huggingface_hub.

    Raises:
        InputError: There is no repository, or the caller contradicts the provenance.
        CoreMaskMismatchError: That commit has other weights than those that the mask was found on.
        HubError: The Hub does not know the repository or the revision.
    """
    repo_id = base_model or provenance.base_model
    if repo_id is None or not is_repository_id(repo_id):
        raise InputError(
            f"A shared mask names the repository of its base model, and this one was found on {_named(provenance)}. Pass "
            'base_model="owner/name" (and base_revision=, if it is not the newest commit).'
        )
    known = provenance.base_revision if repo_id == provenance.base_model else None
    if known is not None:
        if base_revision is not None and commit_of(repo_id, base_revision, token=token) != known:
            raise InputError(
                f"The mask was found on {repo_id!r} at {known}, and base_revision={base_revision!r} is another commit. Leave "
                "base_revision out, or find the mask anew on that revision."
            )
        return provenance
    commit = (
        _known_commit(repo_id, base_revision, provenance, token)
        if base_revision is not None
        else _matching_commit(repo_id, provenance.base_fingerprint, token)
    )
    return replace(provenance, base_model=repo_id, base_revision=commit)


def _known_commit(repo_id: str, revision: str, provenance: Provenance, token: Token) -> str:
    commit = commit_of(repo_id, revision, token=token)
    folder = _snapshots(repo_id) / commit
    if provenance.base_fingerprint is not None and _has_weights_of(folder, provenance.base_fingerprint) is False:
        raise CoreMaskMismatchError(
            f"The mask was not found on {repo_id!r} at {commit}: the weights in the cache have another fingerprint. Name the "
            "revision that it was found on with base_revision=, or find it anew."
        )
    return commit


def _matching_commit(repo_id: str, expected: Fingerprint | None, token: Token) -> str:
    """The commit in the cache whose weights are the mask's, else the newest one."""
    if expected is not None:
        found = {folder.name: _has_weights_of(folder, expected) for folder in _cached(repo_id)}
        match = next((commit for commit, fits in found.items() if fits), None)
        if match is not None:
            return match
        if False in found.values():
            raise CoreMaskMismatchError(
                f"The mask was found on other weights than those of {repo_id!r} in the cache. If they were fine-tuned or "
                "edited, publish them and name their repository with base_model=; if it was another revision, name it with "
                "base_revision=."
            )
    commit = commit_of(repo_id, token=token)
    warnings.warn(
        f"Nobody knows on which commit of {repo_id!r} the mask was found, and its files are not in the cache to compare: it "
        f"is pinned to the newest one, {commit}. Name another with base_revision=.",
        stacklevel=5,
    )
    return commit


def _has_weights_of(folder: Path, expected: Fingerprint) -> bool | None:
    """Whether the files in a folder hold the weights that were fingerprinted; None where they cannot be compared."""
    if not folder.is_dir():
        return None
    names = sorted(expected.tensors)
    chosen = names[:: max(1, len(names) // _COMPARED)]
    try:
        stored = StoredCheckpoint.open(folder, revision=None, trust_remote_code=False)
        return all(digest_of(name, stored.value_of(name)) == expected.tensors[name] for name in chosen)
    except (LangCoreError, KeyError):  # quantised, without safetensors, incomplete, or of names that differ
        return None


def _cached(repo_id: str) -> Iterator[Path]:
    """Folders of the commits in the cache, that of the main branch first."""
    newest = cached_commit(repo_id)
    folders = sorted(path for path in _snapshots(repo_id).glob("*") if path.is_dir())
    yield from sorted(folders, key=lambda folder: folder.name != newest)


def _snapshots(repo_id: str) -> Path:
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repo_id, repo_type="model"), "snapshots")


def _named(provenance: Provenance) -> str:
    if provenance.base_model is None:
        return "a model without a name"
    return f"the folder {Path(provenance.base_model).name!r}"
