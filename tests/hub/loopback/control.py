"""The back door for tests: reset, faults, the log, and a look at and a hand in the store."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from email.message import Message
from typing import TYPE_CHECKING, Any

from loopback.accounts import OTHER
from loopback.routing import HubError, Reply
from loopback.store import Commit, File, Repo
from loopback.trees import is_large

if TYPE_CHECKING:
    from loopback.server import Hub

_ACTIONS: dict[str, Callable[..., Any]] = {}


def answer(hub: Hub, path: str, headers: Message, body: bytes) -> Reply:
    """Do what a test asks for; its secret must come along."""
    if headers.get("X-Control-Secret") != hub.secret:
        return HubError(403, "This is for the tests only").reply()
    action = _ACTIONS.get(path.removeprefix("/_control/"))
    if action is None:
        return HubError(404, f"No such control: {path}").reply()
    try:
        with hub.store.lock:
            return Reply.of(action(hub, **json.loads(body or b"{}")))
    except HubError as error:
        return error.reply()
    except TypeError as error:
        return HubError(400, str(error)).reply()


def push(hub: Hub, path: str, files: Mapping[str, str | None]) -> None:
    """Commit to the repository that a path of the API is about, as somebody else; without files, a note."""
    for repo in hub.store.repos.values():
        if f"{path}/".startswith(f"/api/{repo.kind}/{repo.id}/"):
            texts = files or {"note.txt": path}
            change(hub, repo, {name: None if text is None else text.encode() for name, text in texts.items()})


def change(hub: Hub, repo: Repo, files: Mapping[str, bytes | None], **options: str) -> Commit:
    """Write a commit past the network; None deletes a file."""
    ref = repo.branch(options.get("revision") or "main")
    parent = repo.commits[repo.refs[ref]]
    table = dict(parent.files)
    for path, data in files.items():
        table.pop(path, None)
        if data is not None:
            table[path] = hub.store.keep(data) if is_large(table, path, data[:512], len(data)) else File.of(data)
    author, title = options.get("author") or OTHER, options.get("title") or "Somebody else was here"
    return repo.add(ref, table, parent=parent.sha, title=title, author=author)


def _control(action: Callable[..., Any]) -> Callable[..., Any]:
    _ACTIONS[action.__name__.strip("_")] = action
    return action


def _repo(hub: Hub, kind: str, repo_id: str) -> Repo:
    try:
        return hub.store.repos[kind, repo_id]
    except KeyError:
        raise HubError(404, f"No {kind[:-1]} is called {repo_id}") from None


@_control
def _reset(hub: Hub) -> None:
    hub.store.reset()
    hub.faults.active.clear()
    hub.log.clear()


@_control
def _configure(hub: Hub, **options: Any) -> None:
    for name, value in options.items():
        if not isinstance(getattr(hub.store, name, None), type(value)):
            raise HubError(400, f"The store has no setting {name} of this type")
        setattr(hub.store, name, value)


@_control
def _fault(hub: Hub, **options: Any) -> None:
    hub.faults.add(**options)


@_control
def _calm(hub: Hub) -> int:
    left = sum(fault.times != 0 for fault in hub.faults.active)
    hub.faults.active.clear()
    return left


@_control
def _log(hub: Hub) -> list[dict[str, Any]]:
    return hub.log


@_control
def _create(hub: Hub, kind: str, repo_id: str, private: bool) -> None:
    hub.store.create(kind, repo_id, private=private)


@_control
def _gate(hub: Hub, kind: str, repo_id: str, users: list[str] | None) -> None:
    repo = _repo(hub, kind, repo_id)
    repo.gated, repo.readers = "" if users is None else "manual", set(users or ())


@_control
def _commit(hub: Hub, kind: str, repo_id: str, files: dict[str, str | None], **options: str) -> str:
    contents = {path: None if text is None else base64.b64decode(text) for path, text in files.items()}
    return change(hub, _repo(hub, kind, repo_id), contents, **options).sha


@_control
def _files(hub: Hub, kind: str, repo_id: str, revision: str) -> dict[str, str]:
    files = _repo(hub, kind, repo_id).resolve(revision).files
    return {path: base64.b64encode(file.data).decode() for path, file in files.items()}


@_control
def _commits(hub: Hub, kind: str, repo_id: str, revision: str) -> list[dict[str, Any]]:
    repo = _repo(hub, kind, repo_id)
    shown = ("sha", "parent", "title", "message", "author", "date")
    return [{name: getattr(item, name) for name in shown} for item in repo.history(repo.resolve(revision))]


@_control
def _repos(hub: Hub) -> list[list[str]]:
    return [list(key) for key in hub.store.repos]
