"""What the parts of the loopback Hub share: a request, a reply, an error that is a reply, and the table of routes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode

if TYPE_CHECKING:
    from loopback.accounts import Account
    from loopback.store import Store

REPO = r"(?P<repo>(?:[^/]+/)?[^/]+)"
API = rf"/api/(?P<kind>models|datasets|spaces)/{REPO}"
GIT = rf"/(?:(?P<kind>datasets|spaces)/)?{REPO}"
REVISION = r"(?P<revision>[^/]+)"


class HubError(Exception):
    """An answer other than success; `code` becomes the header from which huggingface_hub picks its exception."""

    def __init__(self, status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def reply(self) -> Reply:
        """The error as it goes over the wire: header and JSON body say the same."""
        headers = {**self.headers, "X-Error-Message": " ".join(ascii(str(self))[1:-1].split())}
        if self.code:
            headers["X-Error-Code"] = self.code
        return Reply.of({"error": str(self)}, status=self.status, headers=headers)


@dataclass
class Reply:
    """One answer; `length` is announced instead of the size of the body where a HEAD or a fault asks for it."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None

    @classmethod
    def of(cls, content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """A JSON answer; dates of a card become strings."""
        body = json.dumps(content, default=str).encode()
        return cls(status, body, {"Content-Type": "application/json", **(headers or {})})


@dataclass
class Request:
    """One question, read completely."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Message
    body: bytes
    store: Store
    base: str
    """Scheme, host and port as the client wrote them: huggingface_hub refuses addresses of another host."""
    storage: str
    """The same for the storage host: another port, to which a client must not send its token."""
    account: Account | None = None
    write: bool = False
    """Whether the token may write at all."""

    def json(self) -> Any:
        """The body as JSON, an empty mapping without a body."""
        try:
            return json.loads(self.body) if self.body else {}
        except ValueError as error:
            raise HubError(400, f"The body is no JSON: {error}") from error

    def form(self) -> dict[str, list[str]]:
        """The body as a web form."""
        return parse_qs(self.body.decode(), keep_blank_values=True)

    def option(self, name: str, default: str = "") -> str:
        """The first value of a query parameter."""
        return self.query.get(name, [default])[0]

    def flag(self, name: str) -> bool:
        """Whether a query parameter says yes."""
        return self.option(name).lower() in {"1", "true"}


Handler = Callable[..., Reply]
_ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Register a handler: it gets the request and the named groups of `pattern`, unquoted; earlier routes go first."""

    def register(handler: Handler) -> Handler:
        _ROUTES.append((method, re.compile(pattern), handler))
        return handler

    return register


def dispatch(request: Request) -> Reply:
    """Answer a request.

    Raises:
        HubError: Where nothing is served at the path, or a handler refuses.
    """
    for method, pattern, handler in _ROUTES:
        match = pattern.fullmatch(request.path)
        if match and method == request.method:
            parts = {name: unquote(value or "") for name, value in match.groupdict().items()}
            return handler(request, **parts)
    raise HubError(404, f"Nothing is served at {request.method} {request.path}")


def paged(request: Request, items: list[Any]) -> Reply:
    """One page of a list, with the address of the next one in the Link header."""
    start = int(request.option("cursor", "0"))
    size = min(int(request.option("limit") or request.store.page_size), request.store.page_size)
    headers = {}
    if start + size < len(items):
        rest = {**request.query, "cursor": [str(start + size)]}
        headers["Link"] = f'<{request.base}{request.path}?{urlencode(rest, doseq=True)}>; rel="next"'
    return Reply.of(items[start : start + size], headers=headers)
