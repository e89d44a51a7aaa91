"""One client for the Hub, and its errors in this library's words: what failed, what to do, and never a token."""

from __future__ import annotations

import errno
import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors_module
from huggingface_hub.errors import (
    CacheNotFound,
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
    XetDownloadError,
)

from hf_langcore._version import __version__
from hf_langcore.errors import (
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    InputError,
    LangCoreError,
)
from hf_langcore.hub.redaction import Token, redacted

LIBRARY = "hf_langcore"

HTTPError: type[Exception] = hub_errors_module.HTTPError  # type: ignore[attr-defined]  # of the HTTP library that it uses

T = TypeVar("T")

_FAILURES = (
    HfHubHTTPError,
    HTTPError,
    OSError,
    ValueError,
    RuntimeError,
    CacheNotFound,
    EntryNotFoundError,
    RevisionResolutionError,
    XetDownloadError,
)

logger = logging.getLogger(__name__)

_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _PRECONDITION, _TOO_MANY = 401, 403, 404, 409, 412, 429
_ATTEMPTS = 5
_PUSH = "Cannot push"
_LONGEST = 300.0  # seconds; who is asked to wait longer gets the error instead of a process that seems to hang


def hub_api(token: Token = None) -> HfApi:
    """A client that says who is asking.

    Args:
        token: As everywhere in huggingface_hub: a token, True for the stored one, False for none, None for the stored one
            where there is one.

    Raises:
        InputError: The token cannot be one. It is not part of the message.
    """
    return HfApi(token=checked_token(token), library_name=LIBRARY, library_version=__version__)


def checked_token(token: Token) -> Token:
    """Refuse what HTTP cannot send, because its own error would print the token.

    Raises:
        InputError: The token is empty, or holds white space or signs outside ASCII.
    """
    if token is None or isinstance(token, bool):
        return token
    if not isinstance(token, str) or not token or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise InputError(
            "token is no access token: it is empty, no text, or holds white space, a line break or signs outside ASCII. Copy "
            "it again from the settings of your account, or use `hf auth login` and leave token out."
        )
    return token


@contextmanager
def hub_errors(doing: str, repo_id: str, *, revision: str | None = None, token: Token = None) -> Iterator[None]:
    """While this is open, errors of huggingface_hub and of the connection become `HubError`s.

    Args:
        doing: What is being done, for the message: "read the core mask".
        repo_id: The repository.
        revision: Its revision.
        token: What must not be in the message.

    Raises:
        HubError: What was done failed. The message says what to do.
        InputError: The repository's name is none.
    """
    try:
        yield
    except LangCoreError:
        raise
    except HFValidationError as error:
        raise InputError(
            f"{repo_id!r} is no id of a repository: expected 'owner/name' ({redacted(str(error), token)})."
        ) from None
    except _FAILURES as error:
        where = f"{repo_id!r}" + (f" at revision {revision!r}" if revision is not None else "")
        problem = _translated(error, f"Cannot {doing} {where}", repo_id, token)
        # The chain is printed with the error, so that it may hold no token either.
        raise problem from (None if _is_telling(error, token) else error)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    cause = _cause(error)
    if isinstance(cause, (OfflineModeIsEnabled, LocalTokenNotFoundError)):
        return False
    if isinstance(cause, HfHubHTTPError):
        return status_of(cause) in _TRANSIENT_STATUS
    # huggingface_hub reports a file that arrived too short as a plain OSError.
    is_short = type(cause) is OSError and "Consistency check failed" in str(cause)
    return is_short or isinstance(cause, (HTTPError, ConnectionError, TimeoutError))


def patiently(
    action: Callable[[], T], *, attempts: int = _ATTEMPTS, may_repeat: Callable[[BaseException], bool] = lambda _: True
) -> T:
    """Do something, again after a while where the Hub is busy or the connection broke, a few times.

    Args:
        action: What to do; has to be safe to repeat.
        attempts: How often at most; 1 for what huggingface_hub repeats itself.
        may_repeat: Asked about a transient error; False raises it.
    """
    for attempt in range(attempts):
        try:
            return action()
        except _FAILURES as error:
            pause = seconds_to_wait(error, attempt)
            is_last = attempt + 1 == attempts or pause > _LONGEST
            if is_last or not is_transient(error) or not may_repeat(error):
                raise
            logger.warning("The Hub could not answer (%s); trying again in %g s.", _cause_in_words(error), pause)
            time.sleep(pause)
    raise AssertionError  # pragma: no cover the last attempt returns or raises


def seconds_to_wait(error: BaseException, attempt: int) -> float:
    """How long to wait before the next attempt: what the Hub asks for, or 1, 2, 4 ... seconds."""
    headers = getattr(getattr(_cause(error), "response", None), "headers", {})
    asked = str(headers.get("Retry-After", "")).strip()
    if not asked.isdecimal():
        found = re.search(r"(?:^|[;,\s])t=(\d+)", str(headers.get("RateLimit", "")))
        asked = found[1] if found else ""
    return float(asked) if asked else float(2**attempt)


def status_of(error: BaseException) -> int | None:
    """HTTP status of the answer that an error is about."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _is_telling(error: BaseException, token: Token) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if redacted(f"{seen!s} {seen!r}", token) != f"{seen!s} {seen!r}":
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _translated(error: Exception, failed: str, repo_id: str, token: Token) -> HubError:
    error = _cause(error)
    status = status_of(error)
    kind, advice = _kind(error, status, is_push=failed.startswith(_PUSH))
    pause = seconds_to_wait(error, 0)
    if status == _TOO_MANY and pause > 1:
        advice = f"{advice} It asks for {pause:g} seconds of patience."
    said = redacted(_first_line(error), token)
    return kind(f"{failed}: {said}. {advice}", repo_id=repo_id, status=status)


def _cause(error: Any) -> Any:
    """Why a file is not in the cache, or could not be uploaded, is in the error's cause: the Hub's answer, or the connection."""
    if isinstance(error, (LocalEntryNotFoundError, RuntimeError)) and isinstance(
        error.__cause__, (HTTPError, OSError)
    ):
        return error.__cause__
    return error


def _cause_in_words(error: BaseException) -> str:
    status = status_of(_cause(error))
    return f"status {status}" if status is not None else type(_cause(error)).__name__


def _kind(error: Exception, status: int | None, *, is_push: bool) -> tuple[type[HubError], str]:  # noqa: C901, PLR0911 a table
    if isinstance(error, LocalTokenNotFoundError):
        return HubAccessError, "Log in with `hf auth login`, set HF_TOKEN, or pass token=."
    if isinstance(error, OfflineModeIsEnabled):
        return (
            HubError,
            "Offline mode is on (HF_HUB_OFFLINE): only what is in the cache can be read. Unset it to reach the Hub.",
        )
    if isinstance(error, LocalEntryNotFoundError):
        return HubError, (
            "It is not in the cache, and the Hub could not be asked. Check the connection, and HF_HUB_OFFLINE and "
            "HF_ENDPOINT; once downloaded it can be read offline."
        )
    if isinstance(error, GatedRepoError):
        return HubAccessError, (
            "The repository is gated: ask for access on its page, then log in (`hf auth login`) or pass token= of the "
            "account that has it."
        )
    if isinstance(error, DisabledRepoError):
        return HubAccessError, "The Hub has disabled this repository; nothing can be done from here."
    if isinstance(error, RevisionNotFoundError):
        return HubNotFoundError, "Check the revision: a branch, a tag, or a 40-hex commit."
    if isinstance(error, EntryNotFoundError):
        return HubNotFoundError, "The repository has no such file: is it a repository of this kind?"
    # The Hub answers 401 for a missing repository too, if nobody is logged in; huggingface_hub tells the two apart.
    if isinstance(error, RepositoryNotFoundError) or status == _NOT_FOUND:
        return HubNotFoundError, (
            "Check the spelling. If it is private, log in with `hf auth login` or pass token= of an account that may see it."
        )
    if status == _UNAUTHORIZED:
        return (
            HubAccessError,
            "Nobody is logged in, or the token is not valid: use `hf auth login`, HF_TOKEN or token=.",
        )
    if status is not None:
        return _kind_of_status(status, is_push=is_push)
    return HubError, _advice_of_system(error)


def _kind_of_status(status: int, *, is_push: bool) -> tuple[type[HubError], str]:
    if status == _FORBIDDEN and not is_push:
        return HubAccessError, "This account or token may not read it: log in as another one, or ask its owner."
    if status == _FORBIDDEN:
        return HubAccessError, (
            "The token may not do that: it has to have the right to write, and its account the right to this repository. "
            "create_pr=True proposes a change to somebody else's."
        )
    if status in {_CONFLICT, _PRECONDITION}:
        return HubConflictError, (
            "The repository was changed meanwhile, and nothing of this was written. Look at what was pushed, then push "
            "again without parent_commit, or with the new one."
        )
    if status == _TOO_MANY:
        return (
            HubError,
            "The Hub limits how often it may be asked. Wait some minutes and try again; log in for a higher limit.",
        )
    if status in _TRANSIENT_STATUS:
        return HubError, "The Hub has a problem. Nothing was changed; try again later."
    return HubError, "The Hub refused it; nothing was changed."


def _advice_of_system(error: Exception) -> str:
    code = getattr(error, "errno", None)
    if code in {errno.ENOSPC, errno.EDQUOT}:
        return "The disk is full. Free some space, or choose another place with cache_dir= or HF_HOME; nothing half is left."
    if code in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return "The place may not be written to. Choose another one with cache_dir= or HF_HOME."
    if isinstance(error, (HTTPError, ConnectionError, TimeoutError)):
        return (
            "The connection broke or could not be made, and what was there before is still there. Check the network, "
            "HF_ENDPOINT and proxies, and try again: what has arrived is not transferred again."
        )
    return "What was there before is still there."


def _first_line(error: Exception) -> str:
    lines: list[Any] = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400] or type(error).__name__
    return said.rstrip(".")
