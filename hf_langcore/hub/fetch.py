"""Reading from a repository: named files, all of one commit, through huggingface_hub's cache."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, try_to_load_from_cache

from hf_langcore.errors import HubError, InputError
from hf_langcore.hub.access import hub_api, hub_errors, is_transient, patiently
from hf_langcore.hub.redaction import Token
from hf_langcore.masks.origin import is_commit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository as somebody asks for it; the fields mean what they mean in huggingface_hub.

    Attributes:
        repo_id: "owner/name".
        revision: Branch, tag or commit; None is the main branch.
        subfolder: Folder in it.
        token: Of huggingface_hub.
        cache_dir: Folder of the cache.
        local_files_only: Read from the cache alone.
        force_download: Download again what is in the cache.
    """

    repo_id: str
    revision: str | None = None
    subfolder: str | None = None
    token: Token = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False

    def fetch(self, name: str, *, limit: int | None = None, doing: str = "read") -> Path:
        """Download a file, or find it in the cache.

        Args:
            name: Of the file, in `subfolder`.
            limit: Bytes; a larger one is refused before it is downloaded.
            doing: For messages.

        Returns:
            Its path in the cache. `commit_of_path` says of which commit it is.

        Raises:
            HubError: It cannot be read; the message says why.
        """
        api = hub_api(self.token)
        with hub_errors(f"{doing} {name} of", self.repo_id, revision=self.revision, token=self.token):
            try:
                if limit is not None and self.cached(name) is None:
                    self._require_small(api, name, limit)
                return patiently(lambda: self._download(api, name))
            except Exception as error:
                cached = self.cached(name)
                if cached is None or not is_transient(error):
                    raise
                logger.warning("The Hub cannot be reached; %s of %s is taken from the cache.", name, self.repo_id)
                return cached

    def _download(self, api: HfApi, name: str) -> Path:
        return Path(
            api.hf_hub_download(
                self.repo_id,
                name,
                subfolder=self.subfolder,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=self.local_files_only,
                force_download=self.force_download,
            )
        )

    def has(self, name: str) -> bool:
        """Whether there is such a file, as far as the Hub or the cache knows."""
        if self.cached(name) is not None:
            return True
        if self.local_files_only or constants.HF_HUB_OFFLINE:
            return False
        api = hub_api(self.token)
        with hub_errors("look at", self.repo_id, revision=self.revision, token=self.token):
            return patiently(lambda: api.file_exists(self.repo_id, self._path(name), revision=self.revision))

    def cached(self, name: str) -> Path | None:
        """The file in the cache, as it was when it was downloaded last; None with `force_download`."""
        found = try_to_load_from_cache(
            self.repo_id, self._path(name), cache_dir=self.cache_dir, revision=self.revision
        )
        return Path(found) if isinstance(found, str) and not self.force_download else None

    def _path(self, name: str) -> str:
        return f"{self.subfolder}/{name}" if self.subfolder else name

    def _require_small(self, api: HfApi, name: str, limit: int) -> None:
        path = self._path(name)
        if self.local_files_only or constants.HF_HUB_OFFLINE:
            return  # nothing will be downloaded
        found = patiently(lambda: api.get_paths_info(self.repo_id, [path], revision=self.revision))
        size = getattr(found[0], "size", 0) if found else 0
        if size > limit:
            raise HubError(
                f"{path} of {self.repo_id!r} has {size:,} bytes and should have at most {limit:,}: it is damaged or no such "
                "file, and was not downloaded. Tell its author, or name another repository or revision.",
                repo_id=self.repo_id,
            )


def commit_of_path(path: Path) -> str | None:
    """The 40-hex commit that a file in the cache belongs to."""
    parts = path.parts
    found = [parts[place + 1] for place, part in enumerate(parts[:-1]) if part == "snapshots"]
    return next((name for name in reversed(found) if is_commit(name)), None)


def commit_of(repo_id: str, revision: str | None = None, *, token: Token = None) -> str:
    """The 40-hex commit that a branch or tag of a model's repository points to now, or pointed to when it was cached.

    Args:
        repo_id: "owner/name".
        revision: Branch, tag or commit; None is the main branch.
        token: Of huggingface_hub.

    Raises:
        HubError: The Hub cannot be asked and the cache does not know.
        InputError: `repo_id` is none.
    """
    if revision is not None and is_commit(revision):
        return revision
    with hub_errors("find the commit of", repo_id, revision=revision, token=token):
        try:
            sha = patiently(lambda: hub_api(token).model_info(repo_id, revision=revision)).sha
        except Exception as error:
            cached = cached_commit(repo_id, revision)
            if cached is None or not (constants.HF_HUB_OFFLINE or is_transient(error)):
                raise
            return cached
    if not sha:
        raise InputError(f"{repo_id!r} has no commit yet, so that nothing can be pinned to it.")
    return str(sha)


def cached_commit(repo_id: str, revision: str | None = None, *, name: str = "config.json") -> str | None:
    """The commit of a repository's file in the cache."""
    found = try_to_load_from_cache(repo_id, name, revision=revision)
    return commit_of_path(Path(found)) if isinstance(found, str) else None


def download_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of download options as PEFT and transformers pass them, those that a `Repository` has."""
    known = ("revision", "token", "cache_dir", "local_files_only", "force_download")
    return {name: values[name] for name in known if values.get(name) is not None}
