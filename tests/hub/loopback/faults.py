"""What can go wrong with a request, switched on by a test: how often, for which requests, and in which way."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from loopback.routing import HubError, Reply, Request

BEFORE = ("status", "echo", "drop", "cut_upload", "corrupt_upload", "slow", "push")
"""Kinds that happen before a request is handled."""
AFTER = ("lose", "cut", "truncate", "wrong_length", "corrupt")
"""Kinds that spoil the answer of a request that was handled."""
BODIES = AFTER[1:]
"""Those of them that need a body to spoil."""


@dataclass
class Fault:
    """One kind of trouble.

    Attributes:
        kind: One of `BEFORE` or `AFTER`.
        method: Regular expression that the whole method matches.
        path: Regular expression that is found in the path.
        times: How often it strikes; None for ever.
        after: How many matching requests pass before the first strike.
        status: HTTP status of "status" and "echo".
        retry_after: Seconds, sent as Retry-After.
        rate_limit: Seconds until the window ends, sent in the RateLimit headers.
        seconds: How long "slow" waits.
        at: Byte at which a body is cut or changed; the middle by default.
        message: Text of the error.
        files: Path to text (None deletes it) that "push" commits to the main branch.
    """

    kind: str
    method: str = ".*"
    path: str = ""
    times: int | None = 1
    after: int = 0
    status: int = 500
    retry_after: int | None = None
    rate_limit: int | None = None
    seconds: float = 0.0
    at: int | None = None
    message: str = "switched on by a test"
    files: dict[str, str | None] | None = None

    def __post_init__(self) -> None:
        if self.kind not in BEFORE + AFTER:
            raise HubError(400, f"No kind of fault is called {self.kind!r}: take one of {', '.join(BEFORE + AFTER)}")

    def matches(self, method: str, path: str) -> bool:
        """Whether a request is meant."""
        return bool(re.fullmatch(self.method, method) and re.search(self.path, path))

    def error(self, request: Request) -> HubError:
        """The answer of "status" and "echo"; the latter repeats the secret that it was sent, in header and body."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.rate_limit is not None:
            headers["RateLimit"] = f'"api";r=0;t={self.rate_limit}'
            headers["RateLimit-Policy"] = '"fixed window";"api";q=500;w=300'
        message = self.message
        if self.kind == "echo":
            authorization = request.headers.get("Authorization") or "no Authorization header"
            message = f"Cannot serve this request: {authorization}"
            headers |= {"X-Request-Id": authorization, "X-Echo": authorization}
        return HubError(self.status, message, headers=headers)

    def spoil(self, reply: Reply) -> Reply:
        """The answer with its body damaged, for the kinds that leave the connection in order."""
        if self.kind == "corrupt":
            return Reply(reply.status, self.flip(reply.body), reply.headers)
        if self.kind == "truncate":
            return Reply(reply.status, self.begin(reply.body), reply.headers)
        return Reply(reply.status, reply.body, reply.headers, length=len(reply.body) + 1)

    def flip(self, body: bytes) -> bytes:
        """A body of the same length with one other byte."""
        at = self._position(body)
        return body[:at] + bytes([body[at] ^ 0xFF]) + body[at + 1 :] if body else body

    def begin(self, body: bytes) -> bytes:
        """The first part of a body."""
        return body[: self._position(body)]

    def _position(self, body: bytes) -> int:
        at = len(body) // 2 if self.at is None else self.at
        return max(0, min(at, len(body) - 1))


class Faults:
    """The faults that are switched on; the first that matches strikes."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.active: list[Fault] = []

    def add(self, **options: Any) -> None:
        """Switch a fault on."""
        self.active.append(Fault(**options))

    def take(self, kinds: tuple[str, ...], method: str, path: str) -> Fault | None:
        """The fault that strikes a request now, counted down."""
        with self.lock:
            for fault in self.active:
                if fault.kind not in kinds or not fault.matches(method, path):
                    continue
                if fault.after > 0:
                    fault.after -= 1
                elif fault.times != 0:
                    fault.times = None if fault.times is None else fault.times - 1
                    return fault
        return None
