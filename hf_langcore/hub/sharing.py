"""Core masks on the Hub: what `CoreMask.push_to_hub` and `CoreMask.from_pretrained` do."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitInfo, constants
from huggingface_hub.errors import EntryNotFoundError

from hf_langcore.errors import ConfigurationError, CoreMaskFormatError, HubError, HubNotFoundError, InputError
from hf_langcore.hub.access import hub_errors
from hf_langcore.hub.card import mask_card
from hf_langcore.hub.card_data import license_of_base
from hf_langcore.hub.commits import Content, Head, commit
from hf_langcore.hub.fetch import Repository, commit_of_path
from hf_langcore.hub.front_matter import CARD_FILE
from hf_langcore.hub.gathering import gathered
from hf_langcore.hub.pinning import pinned
from hf_langcore.hub.placement import require_right_place
from hf_langcore.hub.records import RESULTS_FILE
from hf_langcore.hub.redaction import Token
from hf_langcore.hub.results import merged_at, read_card
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import HubOrigin, is_repository_id
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE, largest_arrays, read_config

FIGURES = "figures"
"""Folder of a repository for the pictures of its card."""

T = TypeVar("T")

_CONFIG_LIMIT = 256 << 20
_OTHERS = {"config.json": "a model", "adapter_config.json": "an adapter"}

logger = logging.getLogger(__name__)


def open_mask(asked: Repository, load: Callable[[Path], T]) -> tuple[T, HubOrigin | None]:
    """Read a mask from a folder or a repository.

    Args:
        asked: Folder or repository.
        load: Reads and checks the two files in a folder.

    Returns:
        What `load` returned, and the repository and commit that it came from.

    Raises:
        ConfigurationError: A revision of a folder.
        InputError: There is no mask.
        CoreMaskFormatError: The mask is damaged, on the Hub too.
        HubError: The repository cannot be read.
    """
    if not is_repository_id(asked.repo_id):
        if asked.revision is not None:
            raise ConfigurationError(
                f"revision={asked.revision!r} needs a Hub repository, but {asked.repo_id!r} is a folder, which has no "
                "revisions. Leave the revision out."
            )
        return load(Path(asked.repo_id, asked.subfolder or "")), None
    try:
        return _opened(asked, load)
    except CoreMaskFormatError as error:
        if asked.local_files_only or constants.HF_HUB_OFFLINE:
            raise CoreMaskFormatError(f"{error} Online, force_download=True fetches it anew.") from error
    # huggingface_hub does not compare downloads with their sha256, so that only the copy here may be damaged.
    logger.warning("The core mask of %s in the cache is damaged; it is downloaded once more.", asked.repo_id)
    try:
        return _opened(replace(asked, force_download=True), load)
    except CoreMaskFormatError as error:
        raise CoreMaskFormatError(
            f"The core mask of {asked.repo_id!r} is damaged on the Hub, too: {error} Name another revision=, or tell its author."
        ) from error


def _opened(asked: Repository, load: Callable[[Path], T]) -> tuple[T, HubOrigin]:
    try:
        folder, origin = _fetched(asked)
    except HubError as error:
        if error.status is not None and not isinstance(error, HubNotFoundError):
            raise  # there is such a repository
        problem = type(error)(
            f"There is no folder {asked.repo_id!r} in {str(Path.cwd())!r}, so that it is taken for a Hub repository. {error}",
            repo_id=error.repo_id,
            status=error.status,
        )
        raise problem from error.__cause__
    return load(folder), origin


def push_mask(
    core_mask: CoreMask,
    repo_id: str,
    *,
    base_model: str | None,
    base_revision: str | None,
    results: Any,
    license: str | None,  # noqa: A002 the card's word
    datasets: Sequence[str],
    figures: Mapping[str | Path, str],
    commit_message: str | None,
    commit_description: str | None,
    private: bool | None,
    revision: str | None,
    create_pr: bool,
    parent_commit: str | None,
    token: Token,
) -> tuple[CommitInfo, HubOrigin]:
    """Upload a mask; see `CoreMask.push_to_hub`.

    Returns:
        The commit, and where the mask lies now.
    """
    provenance = pinned(core_mask.provenance, base_model=base_model, base_revision=base_revision, token=token)
    shared = core_mask.with_provenance(provenance)
    given = None if results is None else gathered(results, core_mask=shared)
    if given is not None:
        require_right_place(given, repo_id, base_models=[str(provenance.base_model)], token=token)
    base = license_of_base(shared, token=token)
    pictures = _pictures(figures)
    captions = {path: figures[source] for path, source in zip(pictures, figures, strict=True)}
    places: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        with hub_errors("write the files for", repo_id, token=token):
            shared.save_pretrained(folder)

        def files(head: Head) -> Mapping[str, Content]:
            places.append(head.repo_id)
            known = merged_at(head, given)
            _require_for_masks(head, shared)
            card = mask_card(
                shared,
                repo_id=head.repo_id,
                results=known,
                license=license,
                datasets=datasets,
                figures=captions,
                base_license=base,
                previous=read_card(head),
            )
            contents: dict[str, Content] = {CARD_FILE: card.encode(), **pictures}
            if known is not None:
                contents[RESULTS_FILE] = known.to_json().encode()
            for name in (MASK_FILE, CONFIG_FILE):
                contents[name] = Path(folder, name)
            return contents

        pushed = commit(
            repo_id,
            files,
            message=commit_message or f"Core mask: {provenance.summary()}",
            description=commit_description,
            private=private,
            revision=revision,
            create_pr=create_pr,
            parent_commit=parent_commit,
            token=token,
        )
    return pushed, HubOrigin(places[-1], pushed.oid)


def _pictures(figures: Mapping[str | Path, str]) -> dict[str, Path]:
    """Path in the repository -> file, in the order of the figures.

    Raises:
        InputError: A file is missing, or two have one name.
    """
    placed: dict[str, Path] = {}
    for source in map(Path, figures):
        path = f"{FIGURES}/{source.name}"
        if not source.is_file():
            raise InputError(
                f"There is no picture {str(source)!r}. `langcore report` writes some into its figures folder."
            )
        if path in placed:
            raise InputError(f"Two pictures are called {source.name!r}. Rename one: they are pushed into one folder.")
        placed[path] = source
    return placed


def _require_for_masks(head: Head, core_mask: CoreMask) -> None:
    """Refuse repositories whose card and mask belong to something else."""
    base = core_mask.provenance.base_model or ""
    holds = next((what for name, what in _OTHERS.items() if name in head.files), None)
    if head.repo_id.lower() == base.lower():
        holds = "the base model"
    if holds is not None:
        raise InputError(
            f"{head.repo_id!r} holds {holds}, whose card and files a mask would replace. Push the mask to a repository of its "
            f"own, such as '{head.repo_id}-core-mask'."
        )


def _fetched(asked: Repository) -> tuple[Path, HubOrigin]:
    """The folder in the cache with both files of one commit."""
    try:
        config = asked.fetch(CONFIG_FILE, limit=_CONFIG_LIMIT, doing="load")
    except HubNotFoundError as error:
        if isinstance(error.__cause__, EntryNotFoundError):
            raise HubNotFoundError(
                f"{asked.repo_id!r} holds no core mask: it has no {CONFIG_FILE}"
                f"{f' in {asked.subfolder!r}' if asked.subfolder else ''}. Name a repository with one; "
                "`langcore pull --base OWNER/MODEL` lists them.",
                repo_id=asked.repo_id,
                status=error.status,
            ) from error
        raise
    commit = commit_of_path(config)
    if commit is None:
        raise HubError(f"{config} lies in no snapshot of the cache. Name another cache_dir.", repo_id=asked.repo_id)
    # From here on the commit, so that a push in between does not mix two masks.
    arrays = replace(asked, revision=commit).fetch(
        MASK_FILE, limit=largest_arrays(read_config(config.parent)), doing="load"
    )
    return arrays.parent, HubOrigin(asked.repo_id, commit)
