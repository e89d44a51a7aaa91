"""Who knocks: the accounts of the loopback Hub, their tokens, and who may see and change what."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from loopback.routing import HubError, Request
from loopback.store import Repo

USER, OTHER, MEMBER, ORGANISATION = "ada", "bob", "mia", "guild"


@dataclass(frozen=True)
class Account:
    """A user and the organisations in which it may write."""

    name: str
    organisations: tuple[str, ...] = ()

    def owns(self, repo_id: str) -> bool:
        """Whether a repository lies in a namespace of the user."""
        return repo_id.split("/", maxsplit=1)[0] in {self.name, *self.organisations}


@dataclass
class Accounts:
    """Three users and four tokens, drawn anew for every process so that none is ever written down."""

    tokens: dict[str, str] = field(
        default_factory=lambda: {name: f"hf_{secrets.token_hex(17)}" for name in ("write", "read", "other", "member")}
    )

    def identify(self, request: Request) -> None:
        """Fill in the account of a request.

        Raises:
            HubError: 401 where a token is sent that nobody has.
        """
        header = request.headers.get("Authorization") or ""
        if not header:
            return
        names = [name for name, token in self.tokens.items() if header == f"Bearer {token}"]
        if not names:
            raise HubError(401, "Invalid credentials in Authorization header")
        name = names[0]
        owner = Account(USER, (ORGANISATION,))
        request.account = {"other": Account(OTHER), "member": Account(MEMBER, (ORGANISATION,))}.get(name, owner)
        request.write = name != "read"


def visible(request: Request, repo: Repo) -> bool:
    """Whether the sender may know that a repository exists."""
    return not repo.private or (request.account is not None and request.account.owns(repo.id))


def find(request: Request, kind: str, repo_id: str) -> Repo:
    """A repository that the sender may see.

    Raises:
        HubError: RepoNotFound, the same for a missing repository and for a private one of somebody else.
    """
    repo = request.store.repos.get((kind or "models", repo_id))
    if repo is None or not visible(request, repo):
        raise HubError(404 if request.account else 401, "Repository not found", code="RepoNotFound")
    return repo


def require_writer(request: Request) -> Account:
    """The sender, who must hold a token that may write.

    Raises:
        HubError: 401 without a token, 403 with one that may only read.
    """
    if request.account is None:
        raise HubError(401, "Invalid username or password.")
    if not request.write:
        raise HubError(403, "Forbidden: you must use a write token to upload to a repository")
    return request.account


def require_owner(request: Request, repo_id: str) -> Account:
    """The sender, who must be allowed to write to a namespace.

    Raises:
        HubError: 401 without a token, 403 with a read token or in a foreign namespace.
    """
    account = require_writer(request)
    if not account.owns(repo_id):
        namespace = repo_id.split("/", maxsplit=1)[0]
        raise HubError(403, f"You don't have the rights to write under the namespace {namespace!r}: pass create_pr=1")
    return account


def require_access(request: Request, repo: Repo) -> None:
    """Check that the sender may read the files of a repository.

    Raises:
        HubError: GatedRepo where access has to be asked for.
    """
    if not repo.gated or (request.account and (request.account.owns(repo.id) or request.account.name in repo.readers)):
        return
    status = 403 if request.account else 401
    raise HubError(status, f"Access to {repo.id} is restricted: ask for access on its page", code="GatedRepo")
