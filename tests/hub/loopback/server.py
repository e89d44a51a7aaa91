"""The loopback Hub as a process: reads requests, lets faults strike, asks the routes, keeps a log.

Prints one line of JSON (ports, secret, tokens) and ends when its standard input is closed, so that it cannot outlive
the process that started it.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from loopback import control, routes_files, routes_large, routes_pulls, routes_repos, routes_write  # noqa: F401, register
from loopback.accounts import Accounts
from loopback.faults import AFTER, BEFORE, Fault, Faults
from loopback.routing import HubError, Reply, Request, dispatch
from loopback.store import Store

BLOCK = 1 << 16
"""Bytes read at once."""


class Hub:
    """What all connections share."""

    def __init__(self) -> None:
        self.store = Store()
        self.accounts = Accounts()
        self.faults = Faults()
        self.log: list[dict[str, Any]] = []
        self.secret = secrets.token_hex(16)
        self.servers = [_Server(("127.0.0.1", 0), _Connection) for _ in range(2)]
        for server in self.servers:
            server.hub = self

    @property
    def ports(self) -> list[int]:
        """The port of the Hub and that of its storage host."""
        return [server.server_address[1] for server in self.servers]

    def run(self) -> None:
        """Serve until standard input ends."""
        for server in self.servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        greeting = {"ports": self.ports, "secret": self.secret, "tokens": self.accounts.tokens}
        print(json.dumps(greeting), flush=True)  # noqa: T201, the parent reads it
        sys.stdin.buffer.read()
        os._exit(0)  # without waiting for slow answers


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up; that is what the tests are about."""


class _Cut(Exception):  # noqa: N818, not an error: it ends a connection
    """Close the connection now."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def handle_one_request(self) -> None:
        """Read one request and answer it, or cut the connection."""
        self.raw_requestline = self.rfile.readline(BLOCK)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        try:
            self._serve()
        except _Cut:
            self.close_connection = True

    def _serve(self) -> None:
        path, hub = urlsplit(self.path).path, self.server.hub
        if path.startswith("/_control/"):
            self._send(control.answer(hub, path, self.headers, self._body()))
            return
        fault = hub.faults.take(BEFORE, self.command, path)
        entry = self._enter(fault)
        if fault and fault.kind in {"drop", "cut_upload"}:
            if fault.kind == "cut_upload":
                self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            raise _Cut
        request = self._request()
        reply = self._answer(request, fault)
        entry["status"], entry["user"] = reply.status, request.account.name if request.account else None
        self._finish(request, reply, entry)

    def _finish(self, request: Request, reply: Reply, entry: dict[str, Any]) -> None:
        kinds = AFTER if reply.body and reply.status < 300 and self.command != "HEAD" else AFTER[:1]
        fault = self.server.hub.faults.take(kinds, self.command, request.path)
        if fault is None:
            self._send(reply)
            return
        entry["fault"] = fault.kind
        if fault.kind == "lose":
            raise _Cut
        if fault.kind == "cut":
            self._send(Reply(reply.status, fault.begin(reply.body), reply.headers, length=len(reply.body)))
            raise _Cut
        self._send(fault.spoil(reply))
        if fault.kind == "wrong_length":
            raise _Cut

    def _answer(self, request: Request, fault: Fault | None) -> Reply:
        hub = self.server.hub
        try:
            if fault and fault.kind in {"status", "echo"}:
                return fault.error(request).reply()
            if fault and fault.kind == "corrupt_upload":
                request.body = fault.flip(request.body)
            if fault and fault.kind == "slow":
                time.sleep(fault.seconds)
            with hub.store.lock:
                if fault and fault.kind == "push":
                    control.push(hub, request.path, fault.files or {})
                hub.accounts.identify(request)
                return dispatch(request)
        except HubError as error:
            return error.reply()
        except Exception as error:  # noqa: BLE001, a mistake of the Hub must reach the test, not only standard error
            return Reply.of({"error": f"The loopback Hub itself failed: {error!r}"}, status=501)

    def _request(self) -> Request:
        parts, host = urlsplit(self.path), self.headers.get("Host") or ""
        return Request(
            method=self.command,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=self.headers,
            body=self._body(),
            store=self.server.hub.store,
            base=f"http://{host}",
            storage=f"http://{host.rsplit(':', 1)[0]}:{self.server.hub.ports[1]}",
        )

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = bytearray()
        while size := int(self.rfile.readline(BLOCK).split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline(BLOCK)
        self.rfile.readline(BLOCK)
        return bytes(body)

    def _enter(self, fault: Fault | None) -> dict[str, Any]:
        hub, parts = self.server.hub, urlsplit(self.path)
        entry = {
            "method": self.command,
            "path": parts.path,
            "query": parts.query,
            "agent": self.headers.get("User-Agent", ""),
            "token": "Authorization" in self.headers,
            "storage": self.connection.getsockname()[1] == hub.ports[1],
            "range": self.headers.get("Range"),
            "fault": fault.kind if fault else None,
            "status": None,
            "user": None,
        }
        hub.log.append(entry)
        return entry

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        """Say nothing: the log is asked for over the wire."""


if __name__ == "__main__":
    Hub().run()
