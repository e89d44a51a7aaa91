"""Repositories as a whole: who am I, create, delete, settings, information, search, references, history."""

from __future__ import annotations

from typing import Any

from loopback.accounts import find, require_access, require_owner, visible
from loopback.card import library_of, metadata_of, tags_of
from loopback.routing import API, REVISION, HubError, Reply, Request, paged, route
from loopback.store import Commit, Repo
from loopback.trees import file_entry


@route("GET", "/api/whoami-v2")
def whoami(request: Request) -> Reply:
    account = request.account
    if account is None:
        raise HubError(401, "Invalid username or password.")
    token = {
        "displayName": "test",
        "role": "write" if request.write else "read",
        "createdAt": "2026-01-01T00:00:00.000Z",
    }
    orgs = [{"type": "org", "name": name, "fullname": name, "roleInOrg": "write"} for name in account.organisations]
    auth = {"type": "access_token", "accessToken": token}
    identity = {"type": "user", "id": account.name, "name": account.name, "fullname": account.name.title()}
    return Reply.of({**identity, "isPro": False, "canPay": False, "orgs": orgs, "auth": auth})


@route("POST", "/api/repos/create")
def create(request: Request) -> Reply:
    kind, repo_id = _named(request)
    account = require_owner(request, repo_id)
    private = request.json().get("visibility") == "private" or request.json().get("private") is True
    try:
        repo = request.store.create(kind, repo_id, private=private, author=account.name)
    except HubError as error:
        return Reply.of({"error": str(error), "url": _url(request, kind, repo_id)}, status=409)
    return Reply.of({"url": _url(request, kind, repo_id), "name": repo.id, "id": repo.id})


@route("DELETE", "/api/repos/delete")
def delete(request: Request) -> Reply:
    kind, repo_id = _named(request)
    repo = find(request, kind, repo_id)
    require_owner(request, repo_id)
    del request.store.repos[kind, repo.id]
    return Reply()


@route("PUT", rf"{API}/settings")
def settings(request: Request, kind: str, repo: str) -> Reply:
    found = find(request, kind, repo)
    require_owner(request, found.id)
    changes = request.json()
    if "visibility" in changes:
        found.private = changes["visibility"] == "private"
    if "gated" in changes:
        found.gated = changes["gated"] or ""
    return Reply.of({"private": found.private, "gated": found.gated or False})


@route("GET", rf"{API}/auth-check(?P<write>/write)?")
def check(request: Request, kind: str, repo: str, write: str) -> Reply:
    found = find(request, kind, repo)
    if write:
        require_owner(request, found.id)
    require_access(request, found)
    return Reply()


@route("GET", rf"{API}/refs")
def refs(request: Request, kind: str, repo: str) -> Reply:
    found = find(request, kind, repo)
    groups = {"branches": "refs/heads/", "tags": "refs/tags/", "converts": "refs/convert/"}
    if request.flag("include_prs"):
        groups["pullRequests"] = "refs/pr/"
    return Reply.of(
        {
            group: [
                {"name": ref if group == "pullRequests" else ref.removeprefix(start), "ref": ref, "targetCommit": sha}
                for ref, sha in found.refs.items()
                if ref.startswith(start)
            ]
            for group, start in groups.items()
        }
    )


@route("GET", rf"{API}/commits/{REVISION}")
def commits(request: Request, kind: str, repo: str, revision: str) -> Reply:
    found = find(request, kind, repo)
    history = found.history(found.resolve(revision))
    return paged(
        request,
        [
            {
                "id": commit.sha,
                "title": commit.title,
                "message": commit.message,
                "authors": [{"user": commit.author}],
                "date": commit.date,
            }
            for commit in history
        ],
    )


@route("POST", rf"{API}/branch/(?P<branch>[^/]+)")
def create_branch(request: Request, kind: str, repo: str, branch: str) -> Reply:
    found = find(request, kind, repo)
    require_owner(request, found.id)
    _refer(found, f"refs/heads/{branch}", request.json().get("startingPoint") or "main")
    return Reply.of({})


@route("POST", rf"{API}/tag/{REVISION}")
def create_tag(request: Request, kind: str, repo: str, revision: str) -> Reply:
    found = find(request, kind, repo)
    require_owner(request, found.id)
    _refer(found, f"refs/tags/{request.json()['tag']}", revision)
    return Reply.of({})


@route("DELETE", rf"{API}/(?P<group>branch|tag)/(?P<name>[^/]+)")
def delete_ref(request: Request, kind: str, repo: str, group: str, name: str) -> Reply:
    found = find(request, kind, repo)
    require_owner(request, found.id)
    if (group, name) == ("branch", "main"):
        raise HubError(403, "The main branch cannot be deleted")
    if found.refs.pop(f"refs/{'heads' if group == 'branch' else 'tags'}/{name}", None) is None:
        raise HubError(404, f"No {group} is called {name}", code="RevisionNotFound")
    return Reply()


@route("GET", r"/api/(?P<kind>models|datasets|spaces)")
def search(request: Request, kind: str) -> Reply:
    repos = [repo for repo in request.store.repos.values() if repo.kind == kind and visible(request, repo)]
    items = [_information(repo, repo.resolve("main")) for repo in repos]
    items = [item for item in items if _fits(request, item)]
    key = {"lastModified": "lastModified", "createdAt": "createdAt"}.get(request.option("sort"))
    if key:
        items.sort(key=lambda item: item[key], reverse=True)
    return paged(request, [_shortened(request, item) for item in items])


@route("GET", rf"{API}(?:/revision/{REVISION})?")
def information(request: Request, kind: str, repo: str, revision: str) -> Reply:
    found = find(request, kind, repo)
    commit = found.resolve(revision or "main")
    result = _information(found, commit)
    if request.flag("blobs"):
        result["siblings"] = [_blob(path, file_entry(path, file)) for path, file in sorted(commit.files.items())]
    expanded = {*request.query.get("expand", ()), "id"}
    return Reply.of({key: value for key, value in result.items() if len(expanded) == 1 or key in expanded})


def _information(repo: Repo, commit: Commit) -> dict[str, Any]:
    metadata = metadata_of(commit.files)
    result = {
        "id": repo.id,
        "modelId": repo.id,
        "author": repo.id.split("/")[0],
        "sha": commit.sha,
        "createdAt": repo.created,
        "lastModified": commit.date,
        "private": repo.private,
        "gated": repo.gated or False,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": tags_of(repo.kind, commit.files),
        "library_name": library_of(commit.files),
        "pipeline_tag": metadata.get("pipeline_tag"),
        "cardData": metadata,
        "siblings": [{"rfilename": path} for path in sorted(commit.files)],
        "usedStorage": sum(file.size for file in commit.files.values()),
    }
    return {name: value for name, value in result.items() if value is not None}


def _blob(path: str, entry: dict[str, Any]) -> dict[str, Any]:
    result = {"rfilename": path, "size": entry["size"], "blobId": entry["oid"]}
    if "lfs" in entry:
        lfs = entry["lfs"]
        result["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return result


def _fits(request: Request, item: dict[str, Any]) -> bool:
    wanted = [tag for value in request.query.get("filter", ()) for tag in value.split(",")]
    author, gated = request.option("author"), request.option("gated")
    return (
        set(wanted) <= set(item["tags"])
        and author in {"", item["author"]}
        and request.option("search").lower() in item["id"].lower()
        and request.option("pipeline_tag") in {"", item.get("pipeline_tag")}
        and (not gated or (gated == "true") == bool(item["gated"]))
    )


def _shortened(request: Request, item: dict[str, Any]) -> dict[str, Any]:
    hidden = set() if request.flag("cardData") else {"cardData"}
    if not request.flag("full"):
        hidden |= {"author", "sha", "lastModified", "gated", "disabled", "siblings", "usedStorage"}
    expanded = {*request.query.get("expand", ()), "id"}
    if len(expanded) > 1:
        hidden = item.keys() - expanded
    return {key: value for key, value in item.items() if key not in hidden}


def _refer(repo: Repo, ref: str, revision: str) -> None:
    if ref in repo.refs:
        raise HubError(409, f"Reference already exists: {ref}")
    repo.refs[ref] = repo.resolve(revision).sha


def _named(request: Request) -> tuple[str, str]:
    body = request.json()
    namespace = body.get("organization") or (request.account.name if request.account else "")
    return f"{body.get('type') or 'model'}s", f"{namespace}/{body['name']}"


def _url(request: Request, kind: str, repo_id: str) -> str:
    return f"{request.base}/{'' if kind == 'models' else f'{kind}/'}{repo_id}"
