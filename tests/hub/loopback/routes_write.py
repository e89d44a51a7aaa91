"""Writing files: checking a card, deciding how a file is uploaded, and the commit itself."""

from __future__ import annotations

import base64
import json
from typing import Any

from loopback.accounts import Account, find, require_owner, require_writer
from loopback.card import validate
from loopback.routing import API, REVISION, HubError, Reply, Request, route
from loopback.store import Commit, File, Files, Repo
from loopback.trees import is_large
from loopback.xet import objects_in


@route("POST", "/api/validate-yaml")
def validate_yaml(request: Request) -> Reply:
    errors, warnings = validate(request.json()["content"])
    content = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
    return Reply.of(content, status=400 if errors else 200)


@route("POST", rf"{API}/preupload/{REVISION}")
def preupload(request: Request, kind: str, repo: str, revision: str) -> Reply:
    found = find(request, kind, repo)
    _permit(request, found, revision)
    commit = found.resolve(revision)
    answers = []
    for asked in request.json()["files"]:
        path, known = asked["path"], commit.files.get(asked["path"])
        large = is_large(commit.files, path, base64.b64decode(asked["sample"]), asked["size"])
        answer = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        if known is not None:  # huggingface_hub leaves a file out where this is what it would send
            answer["oid"] = known.sha256 if known.lfs else known.oid
        answers.append(answer)
    return Reply.of({"files": answers, "commitOid": commit.sha})


@route("POST", rf"{API}/commit/{REVISION}")
def commit(request: Request, kind: str, repo: str, revision: str) -> Reply:
    found = find(request, kind, repo)
    account = _permit(request, found, revision)
    header, operations = _read(request)
    parent = _parent(request, found, revision, header)
    files = dict(parent.files)
    for key, value in operations:
        _apply(request, files, key, value)
    if _card(files) != _card(parent.files):
        _check_card(files)
    title, message = header.get("summary") or "no title", header.get("description") or ""
    if request.flag("create_pr"):
        pull = found.open_pull(title, account.name, parent.sha)
        ref = pull.ref
    else:
        pull, ref = None, found.branch(revision)
    new = found.add(ref, files, parent=parent.sha, title=title, author=account.name, message=message)
    page = f"{request.base}/{'' if kind == 'models' else f'{kind}/'}{found.id}"
    answer = {"success": True, "commitOid": new.sha, "commitUrl": f"{page}/commit/{new.sha}", "hookOutput": ""}
    return Reply.of({**answer, **({"pullRequestUrl": f"{page}/discussions/{pull.number}"} if pull else {})})


def _permit(request: Request, repo: Repo, revision: str) -> Account:
    """The sender, if it may commit: owners anywhere, others by a pull request and then to their own one."""
    own = [pull.ref for pull in repo.pulls if request.account and pull.author == request.account.name]
    if request.flag("create_pr") or revision in own:
        return require_writer(request)
    return require_owner(request, repo.id)


def _read(request: Request) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    try:
        lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
        parts = [(line["key"], line["value"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(400, f"The commit is no ndjson of keys and values: {error!r}") from error
    if not parts or parts[0][0] != "header":
        raise HubError(400, "A commit starts with its header")
    return parts[0][1], parts[1:]


def _parent(request: Request, repo: Repo, revision: str, header: dict[str, Any]) -> Commit:
    """The commit to build on: the named parent, which must be the newest unless a pull request is opened."""
    named = header.get("parentCommit")
    if request.flag("create_pr"):
        return repo.resolve(named or revision)
    newest = repo.commits[repo.refs[repo.branch(revision)]]
    if named and not newest.sha.startswith(named):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    return newest


def _apply(request: Request, files: Files, key: str, value: dict[str, Any]) -> None:
    path = value.get("path", "").removesuffix("/" if key == "deletedFolder" else "")
    if any(part in {"", ".", "..", ".git"} for part in path.split("/")):
        raise HubError(400, f"Invalid path in a commit: {path!r}")
    if key == "file":
        files[path] = File.of(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if value["oid"] not in request.store.objects and request.store.xet_root:
            request.store.objects.update(objects_in(request.store.xet_root))
        if value["oid"] not in request.store.objects:
            raise HubError(400, f"The large object of {path} was never uploaded: {value['oid']}")
        files[path] = request.store.objects[value["oid"]]
    elif key == "deletedFile" and path in files:
        del files[path]
    elif key == "deletedFolder" and any(name.startswith(f"{path}/") for name in files):
        for name in [name for name in files if name.startswith(f"{path}/")]:
            del files[name]
    else:
        raise HubError(404 if key.startswith("deleted") else 400, f"Cannot {key} {path}", code="EntryNotFound")


def _card(files: Files) -> str:
    return files["README.md"].sha256 if "README.md" in files else ""


def _check_card(files: Files) -> None:
    errors, _ = validate(files["README.md"].data.decode(errors="replace")) if "README.md" in files else ([], [])
    if errors:
        raise HubError(400, f"Invalid metadata in README.md: {'; '.join(errors)}")
