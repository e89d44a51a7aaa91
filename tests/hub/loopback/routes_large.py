"""Uploading large objects: in one piece, in parts, and through the xet protocol where a store is named."""

from __future__ import annotations

import hashlib
import time
from math import ceil
from typing import Any

from loopback.accounts import find, require_access, require_owner, require_writer
from loopback.routing import API, GIT, REVISION, HubError, Reply, Request, route


@route("POST", rf"{GIT}\.git/info/lfs/objects/batch")
def batch(request: Request, kind: str, repo: str) -> Reply:
    find(request, kind, repo)
    require_writer(request)  # also for a pull request to a foreign repository
    asked = request.json()
    transfer = "multipart" if "multipart" in asked.get("transfers", ()) else "basic"
    return Reply.of(
        {"transfer": transfer, "objects": [_instructions(request, item, transfer) for item in asked["objects"]]}
    )


def _instructions(request: Request, item: dict[str, Any], transfer: str) -> dict[str, Any]:
    oid, size = item["oid"], item["size"]
    if oid in request.store.objects:
        return {"oid": oid, "size": size}
    address = f"{request.storage}/_upload/{oid}"
    upload: dict[str, Any] = {"href": address}
    if transfer == "multipart" and size > request.store.multipart_above:
        step = request.store.part_size
        parts = {str(number): f"{address}/{number}" for number in range(1, ceil(size / step) + 1)}
        upload = {"href": f"{request.base}/_complete/{oid}", "header": {"chunk_size": str(step), **parts}}
    return {
        "oid": oid,
        "size": size,
        "actions": {"upload": upload, "verify": {"href": f"{request.base}/_verify/{oid}"}},
    }


@route("PUT", r"/_upload/(?P<oid>[0-9a-f]{64})(?:/(?P<part>\d+))?")
def upload(request: Request, oid: str, part: str) -> Reply:
    """Take bytes, as storage does: whatever they are; `verify` says whether they are right."""
    request.store.parts[oid, int(part or 0)] = request.body
    return Reply(headers={"ETag": f'"{_etag(request.body)}"'})


@route("POST", r"/_complete/(?P<oid>[0-9a-f]{64})")
def complete(request: Request, oid: str) -> Reply:
    """Put the parts together, in the order that the client names."""
    store, body = request.store, bytearray()
    for part in request.json()["parts"]:
        data = store.parts.get((oid, part["partNumber"]))
        if data is None or part["etag"].strip('"') != _etag(data):
            raise HubError(400, f"Part {part['partNumber']} is missing or another one")
        body += data
    store.parts[oid, 0] = bytes(body)
    return Reply.of({})


@route("POST", r"/_verify/(?P<oid>[0-9a-f]{64})")
def verify(request: Request, oid: str) -> Reply:
    """Accept an object whose bytes are what its name says; asked again, say so again."""
    require_writer(request)
    if oid in request.store.objects:
        return Reply.of({})
    data = request.store.parts.get((oid, 0), b"")
    for key in [key for key in request.store.parts if key[0] == oid]:
        del request.store.parts[key]
    if hashlib.sha256(data).hexdigest() != oid or len(data) != request.json()["size"]:
        raise HubError(422, "The uploaded object does not have the sha256 that was announced")
    request.store.keep(data)
    return Reply.of({})


@route("GET", rf"{API}/xet-(?P<mode>read|write)-token/{REVISION}")
def xet_token(request: Request, kind: str, repo: str, mode: str, revision: str) -> Reply:
    """Send hf_xet to a folder in place of a server."""
    found = find(request, kind, repo)
    if not request.store.xet_root:
        raise HubError(404, "This Hub has no xet store")
    if mode == "write":
        require_owner(request, found.id)
    require_access(request, found)
    address, end = f"local://{request.store.xet_root}", int(time.time()) + 3600
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": "local", "X-Xet-Token-Expiration": str(end)}
    return Reply.of({"casUrl": address, "accessToken": "local", "exp": end}, headers=headers)


def _etag(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
