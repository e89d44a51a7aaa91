"""Starts the loopback Hub in its own process and holds its strings: what tests see of it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from loopback.accounts import MEMBER, ORGANISATION, OTHER, USER

if TYPE_CHECKING:
    from typing_extensions import Self

ROOT = Path(__file__).parent.parent
_UNSET = """
HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE HF_TOKEN HUGGING_FACE_HUB_TOKEN HF_TOKEN_PATH HF_HUB_CACHE
HUGGINGFACE_HUB_CACHE HF_DATASETS_CACHE HF_MODULES_CACHE HF_ASSETS_CACHE HF_XET_CACHE HF_OIDC_RESOURCE
HUGGINGFACE_CO_STAGING HF_HUB_DISABLE_IMPLICIT_TOKEN XDG_CACHE_HOME
"""
UNSET = _UNSET.split()
"""Environment variables that would lead a child elsewhere."""

Content = str | bytes | None


@dataclass(frozen=True)
class Tokens:
    """One token of each kind.

    Attributes:
        write: Of `hub.user`, who is also in `hub.organisation`.
        read: Of the same user; cannot change anything.
        other: Of `hub.other`, a stranger who may write to a namespace of its own.
        member: Of `hub.member`, who is in `hub.organisation` too.
        invalid: Of nobody.
    """

    write: str = field(repr=False)
    read: str = field(repr=False)
    other: str = field(repr=False)
    member: str = field(repr=False)
    invalid: str = "hf_" + "0" * 34


class LoopbackHub:
    """A running Hub; use it as a context manager, or call `close`."""

    user, other, member, organisation = USER, OTHER, MEMBER, ORGANISATION

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "loopback.server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        assert self.process.stdout is not None
        greeting = json.loads(self.process.stdout.readline() or "null")
        if greeting is None:
            self.close()
            raise RuntimeError(f"The loopback Hub did not start: exit code {self.process.returncode}")
        self.port, self.storage_port = greeting["ports"]
        self.secret = greeting["secret"]
        self.tokens = Tokens(**greeting["tokens"])
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process; it ends by itself when its standard input is closed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def env(self, cache: str | Path, token: str | None = None) -> dict[str, str]:
        """The environment of a child process that talks to this Hub with everything cached below `cache`."""
        environment = {name: value for name, value in os.environ.items() if name not in UNSET}
        return {**environment, **self.settings(cache), **({"HF_TOKEN": token} if token else {})}

    def settings(self, cache: str | Path) -> dict[str, str]:
        """The variables alone that `env` adds to the environment."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            "no_proxy": "127.0.0.1,localhost",
        }

    def reset(self) -> None:
        """Forget repositories, faults, settings and the log; the tokens stay."""
        self.control("reset")

    def configure(self, **settings: int | str) -> None:
        """Change `page_size`, `multipart_above` or `part_size` (bytes), or name a folder as `xet_root`."""
        self.control("configure", **settings)

    def fault(self, kind: str, **options: Any) -> None:
        """Switch a fault on: the attributes of `faults.Fault`, such as method=, path=, times= (None: for ever), after=."""
        self.control("fault", kind=kind, **options)

    def calm(self) -> int:
        """Switch all faults off; returns how many could still have struck."""
        return int(self.control("calm"))

    def log(self, method: str | None = None, path: str = "") -> list[dict[str, Any]]:
        """The requests so far: method, path, query, agent, token (bool), user, storage (bool), range, fault, status."""
        entries = self.control("log")
        return [entry for entry in entries if method in (None, entry["method"]) and path in entry["path"]]

    def create(
        self, repo_id: str, *, kind: str = "model", private: bool = False, files: Mapping[str, Content] | None = None
    ) -> str:
        """Make a repository, with a commit of `files` where given; returns the newest commit's hash."""
        self.control("create", kind=f"{kind}s", repo_id=repo_id, private=private)
        return self.commit(repo_id, files, kind=kind) if files else str(self.commits(repo_id, kind=kind)[0]["sha"])

    def commit(self, repo_id: str, files: Mapping[str, Content], *, kind: str = "model", **options: str) -> str:
        """Write a commit past the network (None deletes a file; revision=, title=, author=); returns its hash."""
        encoded = {path: None if data is None else _encode(data) for path, data in files.items()}
        return str(self.control("commit", kind=f"{kind}s", repo_id=repo_id, files=encoded, **options))

    def files(self, repo_id: str, revision: str = "main", *, kind: str = "model") -> dict[str, bytes]:
        """Path to content at a revision, without the .gitattributes of every repository."""
        found = self.control("files", kind=f"{kind}s", repo_id=repo_id, revision=revision)
        return {path: base64.b64decode(data) for path, data in found.items() if path != ".gitattributes"}

    def commits(self, repo_id: str, revision: str = "main", *, kind: str = "model") -> list[dict[str, str]]:
        """The history, newest first: sha, parent, title, message, author, date."""
        return list(self.control("commits", kind=f"{kind}s", repo_id=repo_id, revision=revision))

    def repos(self) -> list[tuple[str, str]]:
        """Kind ("model") and id of every repository."""
        return [(kind.removesuffix("s"), repo_id) for kind, repo_id in self.control("repos")]

    def gate(self, repo_id: str, users: Sequence[str] | None, *, kind: str = "model") -> None:
        """Close the files of a repository to all but its owners and these users; None opens it."""
        self.control("gate", kind=f"{kind}s", repo_id=repo_id, users=None if users is None else list(users))

    def control(self, action: str, **options: Any) -> Any:
        """Ask the control endpoint.

        Raises:
            ValueError: Where the Hub refuses.
        """
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("POST", f"/_control/{action}", json.dumps(options), {"X-Control-Secret": self.secret})
            response = connection.getresponse()
            answer = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise ValueError(f"{action}: {answer['error']}")
        return answer


def _encode(data: str | bytes) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()
