"""Discussions, as far as they are pull requests."""

from __future__ import annotations

from typing import Any

from loopback.accounts import find, require_owner, require_writer
from loopback.routing import API, HubError, Reply, Request, route
from loopback.store import Pull, Repo

NUMBER = r"(?P<number>\d+)"


@route("GET", rf"{API}/discussions")
def pulls(request: Request, kind: str, repo: str) -> Reply:
    found = find(request, kind, repo)
    wanted = {"open": {"open", "draft"}, "closed": {"closed", "merged"}}.get(request.option("status"))
    items = [
        _summary(found, pull)
        for pull in reversed(found.pulls)
        if request.option("type") != "discussion"
        and (wanted is None or pull.status in wanted)
        and request.option("author") in {"", pull.author}
    ]
    size = request.store.page_size
    start = int(request.option("p", "0")) * size
    return Reply.of({"discussions": items[start : start + size], "count": len(items), "start": start})


@route("POST", rf"{API}/discussions")
def open_pull(request: Request, kind: str, repo: str) -> Reply:
    found = find(request, kind, repo)
    account = require_writer(request)
    if not request.json().get("pullRequest"):
        raise HubError(501, "The loopback Hub has pull requests only")
    return Reply.of(_summary(found, found.open_pull(request.json()["title"], account.name, found.resolve("main").sha)))


@route("GET", rf"{API}/discussions/{NUMBER}")
def details(request: Request, kind: str, repo: str, number: str) -> Reply:
    found = find(request, kind, repo)
    pull = _pull(found, number)
    history = found.history(found.resolve(pull.ref))
    own = history[: [commit.sha for commit in history].index(pull.base)]
    events = [
        {
            "id": commit.sha[:24],
            "type": "commit",
            "createdAt": commit.date,
            "author": {"name": commit.author},
            "data": {"subject": commit.title, "oid": commit.sha},
        }
        for commit in reversed(own)
    ]
    changes = {"base": "refs/heads/main", **({"mergeCommitId": pull.merged} if pull.merged else {})}
    more = {"events": events, "changes": changes, "diff": "", "filesWithConflicts": found.conflicts(pull)}
    return Reply.of({**_summary(found, pull), **more})


@route("POST", rf"{API}/discussions/{NUMBER}/merge")
def merge(request: Request, kind: str, repo: str, number: str) -> Reply:
    found = find(request, kind, repo)
    account = require_owner(request, found.id)
    pull = _pull(found, number)
    if pull.status in {"merged", "closed"}:
        raise HubError(409, f"The pull request is {pull.status} already")
    return Reply.of({"mergeCommitId": found.merge(pull, account.name).sha})


@route("POST", rf"{API}/discussions/{NUMBER}/status")
def set_status(request: Request, kind: str, repo: str, number: str) -> Reply:
    found = find(request, kind, repo)
    account = require_owner(request, found.id)
    pull = _pull(found, number)
    pull.status = request.json()["status"]
    event = {
        "id": f"{pull.number:024x}",
        "type": "status-change",
        "createdAt": pull.date,
        "data": {"status": pull.status},
    }
    return Reply.of({"newStatus": {**event, "author": {"name": account.name}}})


def _pull(repo: Repo, number: str) -> Pull:
    if not 0 < int(number) <= len(repo.pulls):
        raise HubError(404, f"Discussion {number} not found")
    return repo.pulls[int(number) - 1]


def _summary(repo: Repo, pull: Pull) -> dict[str, Any]:
    return {
        "num": pull.number,
        "title": pull.title,
        "author": {"name": pull.author},
        "createdAt": pull.date,
        "status": pull.status,
        "isPullRequest": True,
        "repo": {"name": repo.id, "type": repo.kind.removesuffix("s")},
    }
