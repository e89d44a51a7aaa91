"""Repositories in memory: commits that hold whole file tables, references, pull requests and large objects."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from loopback.routing import HubError

ATTRIBUTES = "".join(
    f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n"
    for suffix in ("safetensors", "bin", "pt", "pth", "gguf", "npz", "parquet", "zip")
).encode()
"""What the Hub puts into a new repository: these files are large objects at any size."""

PAGE_SIZE = 100
MULTIPART_ABOVE = 24 * 1024 * 1024
"""Bytes from which an upload is cut into parts."""


@dataclass(frozen=True)
class File:
    """Content of a file; `xet` is its hash where the bytes lie in a xet store instead."""

    data: bytes
    lfs: bool = False
    xet: str = ""
    sha256: str = ""
    size: int = -1

    @classmethod
    def of(cls, data: bytes, *, lfs: bool = False) -> File:
        """A file whose bytes are here."""
        return cls(data, lfs, sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    @property
    def pointer(self) -> bytes:
        """What git holds in place of a large object."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def oid(self) -> str:
        """The git hash: of the content, or of the pointer."""
        stored = self.pointer if self.lfs else self.data
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored, usedforsecurity=False).hexdigest()


Files = dict[str, File]


@dataclass(frozen=True)
class Commit:
    """One state of a repository."""

    sha: str
    parent: str
    title: str
    message: str
    author: str
    date: str
    files: Files = field(repr=False)


@dataclass
class Pull:
    """A pull request; its commits are at `refs/pr/<number>`."""

    number: int
    title: str
    author: str
    date: str
    base: str
    status: str = "draft"
    merged: str = ""

    @property
    def ref(self) -> str:
        return f"refs/pr/{self.number}"


@dataclass
class Repo:
    """A repository of any kind."""

    kind: str
    id: str
    private: bool = False
    gated: str = ""
    readers: set[str] = field(default_factory=set)
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)
    pulls: list[Pull] = field(default_factory=list)
    created: str = ""

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, a full reference or (the start of) a hash names.

        Raises:
            HubError: RevisionNotFound.
        """
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        known = [sha for sha in self.commits if len(revision) > 6 and sha.startswith(revision)]
        if len(known) != 1:
            raise HubError(404, f"Invalid rev id: {revision}", code="RevisionNotFound")
        return self.commits[known[0]]

    def branch(self, revision: str) -> str:
        """The full name of a reference to which one can commit.

        Raises:
            HubError: RevisionNotFound, also for tags and hashes.
        """
        for ref in (f"refs/heads/{revision}", revision):
            if ref in self.refs and not ref.startswith("refs/tags/"):
                return ref
        raise HubError(404, f"No branch is called {revision}", code="RevisionNotFound")

    def history(self, commit: Commit) -> list[Commit]:
        """A commit and all before it, newest first."""
        result = [commit]
        while result[-1].parent:
            result.append(self.commits[result[-1].parent])
        return result

    def add(
        self, ref: str, files: Mapping[str, File], *, parent: str, title: str, author: str, message: str = ""
    ) -> Commit:
        """Write a commit and move a reference to it, in one step."""
        date, count = now(), len(self.commits)
        content = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        text = f"{self.kind} {self.id} {parent} {count} {date} {author} {title}\n{message}\n{content}"
        sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = commit = Commit(sha, parent, title, message, author, date, dict(files))
        self.refs[ref] = sha
        return commit

    def open_pull(self, title: str, author: str, base: str) -> Pull:
        """Open a pull request that changes nothing yet."""
        pull = Pull(len(self.pulls) + 1, title, author, now(), base)
        self.pulls.append(pull)
        self.refs[pull.ref] = base
        return pull

    def conflicts(self, pull: Pull) -> list[str]:
        """Files that a pull request and its target branch both changed, each in its own way."""
        base, head, main = (self.resolve(name).files for name in (pull.base, pull.ref, "main"))
        paths = {*base, *head, *main}
        return sorted(
            path
            for path in paths
            if len({_content(tree.get(path)) for tree in (base, head, main)}) == len((base, head, main))
        )

    def merge(self, pull: Pull, author: str) -> Commit:
        """Bring what a pull request changed into the main branch.

        Raises:
            HubError: 409 where both changed the same file.
        """
        if self.conflicts(pull):
            raise HubError(409, f"The pull request has conflicts: {', '.join(self.conflicts(pull))}")
        base, head, main = (self.resolve(name) for name in (pull.base, pull.ref, "main"))
        files = dict(main.files)
        for path in {*base.files, *head.files}:
            if _content(base.files.get(path)) != _content(head.files.get(path)):
                files.pop(path, None)
                files.update({path: head.files[path]} if path in head.files else {})
        commit = self.add(
            "refs/heads/main", files, parent=main.sha, title=f"{pull.title} (#{pull.number})", author=author
        )
        pull.status, pull.merged = "merged", commit.sha
        return commit


class Store:
    """Everything that the Hub knows; `lock` is held while a request is handled."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, File] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.page_size = PAGE_SIZE
        self.multipart_above = MULTIPART_ABOVE
        self.part_size = 5 * 1024 * 1024
        self.xet_root = ""

    def create(self, kind: str, repo_id: str, *, private: bool = False, author: str = "") -> Repo:
        """Make a repository with its first commit.

        Raises:
            HubError: 409 where it exists.
        """
        if (kind, repo_id) in self.repos:
            raise HubError(409, f"You already created this {kind[:-1]} repo: {repo_id}")
        repo = self.repos[kind, repo_id] = Repo(kind, repo_id, private, created=now())
        files = {".gitattributes": File.of(ATTRIBUTES)}
        repo.add(
            "refs/heads/main",
            files,
            parent="",
            title="initial commit",
            author=author or repo_id.split("/", maxsplit=1)[0],
        )
        return repo

    def keep(self, data: bytes) -> File:
        """Store a large object."""
        file = File.of(data, lfs=True)
        self.objects[file.sha256] = file
        return file


def now() -> str:
    """The time as the Hub writes it."""
    return f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}"


def _content(file: File | None) -> str:
    return file.sha256 if file else ""
