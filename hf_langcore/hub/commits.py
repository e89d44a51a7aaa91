"""Writing to a repository: one commit with all files, or none."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi

from hf_langcore.errors import HubConflictError, HubError, InputError
from hf_langcore.hub.access import hub_api, hub_errors, patiently, status_of
from hf_langcore.hub.redaction import Token, require_no_secret
from hf_langcore.masks.origin import is_commit

Content = bytes | Path

_REBUILDS = 5


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a repository on which a commit is built.

    Attributes:
        repo_id: Its full id.
        sha: The 40-hex commit; None where the repository has none yet.
        files: Paths of all files.
    """

    repo_id: str
    sha: str | None
    files: frozenset[str]
    _api: HfApi = field(repr=False)

    def read(self, name: str, *, limit: int) -> bytes | None:
        """A file as it is at this commit.

        Args:
            name: Path in the repository.
            limit: Bytes; a larger file is refused before it is downloaded.

        Returns:
            Its content; None where there is no such file.

        Raises:
            HubError: It cannot be read.
        """
        if self.sha is None or name not in self.files:
            return None
        with hub_errors(f"read {name} of", self.repo_id, token=self._api.token):
            found: Any = patiently(lambda: self._api.get_paths_info(self.repo_id, [name], revision=self.sha))
            if not found:
                return None
            size = getattr(found[0], "size", None)
            if size is None or size > limit:
                raise HubError(
                    f"{name} of {self.repo_id!r} is no file of at most {limit:,} bytes, and it would have to be read before "
                    "it can be updated. Look at it on the Hub; remove it if it is not needed.",
                    repo_id=self.repo_id,
                )
            # Not in the user's cache, which may be read-only and is for what is used again.
            with tempfile.TemporaryDirectory() as folder:
                path = patiently(
                    lambda: self._api.hf_hub_download(self.repo_id, name, revision=self.sha, cache_dir=folder)
                )
                return Path(path).read_bytes()


def commit(
    repo_id: str,
    build: Callable[[Head], Mapping[str, Content]],
    *,
    message: str,
    description: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    parent_commit: str | None = None,
    token: Token = None,
) -> CommitInfo:
    """Make the repository if it is missing, and write files in one commit.

    What somebody else pushes between reading and writing is never overwritten: the commit is built anew on theirs, or
    refused where the caller has named the parent. A busy Hub and a broken connection are tried again; files that have
    arrived already are not sent a second time.

    Args:
        repo_id: "owner/name", or "name" for the user's own.
        build: Makes the files (path in the repository -> content) for the state that it is given.
        message: First line of the commit.
        description: Further lines.
        private: Of a repository that is made; None is the account's default.
        revision: Branch; made if it is missing. None is the main one.
        create_pr: Propose the commit as a pull request instead; the repository has to exist.
        parent_commit: Refuse if the branch is not at this commit any more.
        token: Of huggingface_hub.

    Returns:
        The commit, with `.oid` (40-hex) and `.pr_url`.

    Raises:
        HubConflictError: `parent_commit` is not the newest one, or others push all the time.
        HubError: The Hub refused or could not be reached.
        InputError: `repo_id` or `token` cannot be one, or a file that is made here holds an access token.
    """
    api = hub_api(token)
    if revision is not None and is_commit(revision):
        raise InputError(
            f"revision={revision!r} is a commit, and nothing can be pushed to one. Name a branch; parent_commit= is the commit that "
            "it has to be at."
        )
    with hub_errors("push to", repo_id, revision=revision, token=token):
        repo_id = _existing(api, repo_id, private=private, revision=revision, create_pr=create_pr)
    for attempt in range(_REBUILDS):
        head = _head(api, repo_id, revision)
        files = build(head)
        require_no_secret(files, token=token)
        try:
            with hub_errors("push to", repo_id, revision=revision, token=token):
                return patiently(
                    lambda: api.create_commit(
                        repo_id,
                        [CommitOperationAdd(name, content) for name, content in files.items()],  # noqa: B023 used at once
                        commit_message=message,
                        commit_description=description,
                        revision=revision,
                        create_pr=create_pr,
                        parent_commit=parent_commit or head.sha,  # noqa: B023
                    ),
                    # A connection that broke does not say whether the pull request was opened: not a second one.
                    may_repeat=lambda error: not create_pr or status_of(error) is not None,
                )
        except HubConflictError:
            if parent_commit is not None or attempt + 1 == _REBUILDS:
                raise
        except HubError as error:
            if not create_pr or error.status is not None:
                raise
            raise HubError(
                f"{error} The pull request may have been opened all the same: look at the discussions of {repo_id!r} before you "
                "try again.",
                repo_id=repo_id,
            ) from error
    raise AssertionError  # pragma: no cover the last attempt returns or raises


def _existing(api: HfApi, repo_id: str, *, private: bool | None, revision: str | None, create_pr: bool) -> str:
    """The full id of the repository, which is made if it is missing, as is the branch."""
    if create_pr:
        found: str = patiently(lambda: api.model_info(repo_id)).id
        return found
    full: str = patiently(lambda: api.create_repo(repo_id, private=private, exist_ok=True)).repo_id
    if revision is not None and not revision.startswith("refs/"):
        patiently(lambda: api.create_branch(full, branch=revision, exist_ok=True))
    return full


def _head(api: HfApi, repo_id: str, revision: str | None) -> Head:
    with hub_errors("look at", repo_id, revision=revision, token=api.token):
        info = patiently(lambda: api.model_info(repo_id, revision=revision))
    return Head(repo_id, info.sha, frozenset(file.rfilename for file in info.siblings or ()), api)
