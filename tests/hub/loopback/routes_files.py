"""Reading files: listings, information about paths, downloads with ranges; large ones come from the storage host."""

from __future__ import annotations

import re
from urllib.parse import quote

from loopback.accounts import find, require_access
from loopback.routing import API, GIT, REVISION, HubError, Reply, Request, paged, route
from loopback.store import File, Repo
from loopback.trees import file_entry, folder_entry, folders_of, last_commit, listing


@route("GET", rf"{API}/tree/{REVISION}(?:/(?P<folder>.+))?")
def tree(request: Request, kind: str, repo: str, revision: str, folder: str) -> Reply:
    commit = find(request, kind, repo).resolve(revision)
    if folder and folder not in folders_of(commit.files):
        raise HubError(404, f"{folder} does not exist on {revision!r}", code="EntryNotFound")
    entries = listing(commit.files, folder, recursive=request.flag("recursive"))
    if request.flag("expand"):
        entries = [{**entry, "lastCommit": last_commit(commit)} for entry in entries]
    return paged(request, entries)


@route("POST", rf"{API}/paths-info/{REVISION}")
def paths_info(request: Request, kind: str, repo: str, revision: str) -> Reply:
    commit = find(request, kind, repo).resolve(revision)
    form = request.form()
    entries = []
    for path in form.get("paths", []):
        if path in commit.files:
            entries.append(file_entry(path, commit.files[path]))
        elif path in folders_of(commit.files):
            entries.append(folder_entry(commit.files, path))
    if form.get("expand") in (["true"], ["True"]):
        entries = [{**entry, "lastCommit": last_commit(commit)} for entry in entries]
    return Reply.of(entries)


@route("HEAD", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)")
@route("GET", rf"{GIT}/resolve/{REVISION}/(?P<path>.+)")
@route("GET", rf"{GIT}/raw/{REVISION}/(?P<path>.+)")
def resolve(request: Request, kind: str, repo: str, revision: str, path: str) -> Reply:
    found = find(request, kind, repo)
    require_access(request, found)
    commit = found.resolve(revision)
    headers = {"X-Repo-Commit": commit.sha, "Accept-Ranges": "bytes"}
    file = commit.files.get(path)
    if file is None:
        raise HubError(404, "Entry not found", code="EntryNotFound", headers=headers)
    if file.lfs:
        return _redirect(request, found, commit.sha, path, file, headers)
    return _content(request, file.data, {**headers, "ETag": f'"{file.oid}"'})


@route("HEAD", r"/_storage/(?P<key>[0-9a-f]{64})/.+")
@route("GET", r"/_storage/(?P<key>[0-9a-f]{64})/.+")
def stored(request: Request, key: str) -> Reply:
    """A large object; its address is the permission, as with signed addresses."""
    if key not in request.store.objects:
        raise HubError(404, "No such object")
    return _content(request, request.store.objects[key].data, {"ETag": f'"{key}"', "Accept-Ranges": "bytes"})


def _redirect(request: Request, repo: Repo, sha: str, path: str, file: File, headers: dict[str, str]) -> Reply:
    where = f"{repo.kind}/{repo.id}/resolve/{sha}/{quote(path)}"
    headers = {**headers, "X-Linked-Etag": f'"{file.sha256}"', "X-Linked-Size": str(file.size)}
    if file.xet:
        headers["X-Xet-Hash"] = file.xet
        headers["X-Xet-Refresh-Route"] = f"{request.base}/api/{repo.kind}/{repo.id}/xet-read-token/{sha}"
    return Reply(302, headers={**headers, "Location": f"{request.storage}/_storage/{file.sha256}/{where}"})


def _content(request: Request, data: bytes, headers: dict[str, str]) -> Reply:
    headers = {**headers, "Content-Type": "application/octet-stream"}
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range") or "")
    status = 200
    if asked and any(asked.groups()):
        start, end = _bounds(asked[1], asked[2], len(data))
        if start >= len(data):
            raise HubError(416, "Range not satisfiable", headers={"Content-Range": f"bytes */{len(data)}"})
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        status, data = 206, data[start:end]
    if request.method == "HEAD":
        return Reply(status, b"", headers, length=len(data))
    return Reply(status, data, headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size
