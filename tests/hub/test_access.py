"""Errors of the Hub in our words: the right kind, advice, patience, and no token anywhere."""

from __future__ import annotations

import errno
import traceback
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    XetDownloadError,
)
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import (
    HubAccessError,
    HubConflictError,
    HubError,
    HubNotFoundError,
    InputError,
    LangCoreError,
)
from hf_langcore.hub import access
from hf_langcore.hub.access import checked_token, hub_api, hub_errors, is_transient, patiently, redacted

TOKEN = "hf_ABCDEFGHIJKLMNOPQRST"  # noqa: S105 no real one
REQUEST = httpx2.Request("GET", "https://hub.test/api/models/me/core")


def answer(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, headers=headers, request=REQUEST)


def http_error(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError, **headers: str) -> HfHubHTTPError:
    return kind(f"{status} for {REQUEST.url}", response=answer(status, **headers))


def local(cause: Exception) -> LocalEntryNotFoundError:
    error = LocalEntryNotFoundError("not in the cache")
    error.__cause__ = cause
    return error


CASES = [
    (http_error(401), HubAccessError, "Nobody is logged in, or the token is not valid"),
    (http_error(401, RepositoryNotFoundError), HubNotFoundError, "Check the spelling"),
    (http_error(403), HubAccessError, "create_pr=True"),
    (http_error(403, GatedRepoError), HubAccessError, "gated: ask for access"),
    (http_error(403, DisabledRepoError), HubAccessError, "disabled"),
    (http_error(404), HubNotFoundError, "Check the spelling"),
    (http_error(404, RepositoryNotFoundError), HubNotFoundError, "Check the spelling"),
    (http_error(404, RevisionNotFoundError), HubNotFoundError, "Check the revision"),
    (http_error(404, RemoteEntryNotFoundError), HubNotFoundError, "no such file"),
    (EntryNotFoundError("none"), HubNotFoundError, "no such file"),
    (http_error(409), HubConflictError, "changed meanwhile"),
    (http_error(412), HubConflictError, "without parent_commit"),
    (http_error(429), HubError, "Wait some minutes"),
    (http_error(500), HubError, "has a problem"),
    (http_error(418), HubError, "refused it"),
    (LocalTokenNotFoundError("none"), HubAccessError, "hf auth login"),
    (OfflineModeIsEnabled("offline"), HubError, "HF_HUB_OFFLINE"),
    (LocalEntryNotFoundError("none"), HubError, "not in the cache"),
    (local(http_error(403, GatedRepoError)), HubAccessError, "gated: ask for access"),
    (local(http_error(503)), HubError, "has a problem"),
    (local(httpx2.ConnectError("refused")), HubError, "connection broke"),
    (httpx2.ReadTimeout("slow"), HubError, "connection broke"),
    (ConnectionResetError("reset"), HubError, "connection broke"),
    (OSError(errno.ENOSPC, "No space left on device"), HubError, "disk is full"),
    (PermissionError(errno.EACCES, "Permission denied"), HubError, "may not be written"),
    (OSError(errno.EROFS, "Read-only file system"), HubError, "cache_dir"),
    (XetDownloadError("broken"), HubError, "still there"),
    (ValueError("Invalid metadata in README.md"), HubError, "Invalid metadata"),
]


@pytest.mark.parametrize("error, kind, advice", CASES, ids=lambda one: getattr(one, "__name__", None))
def test_each_failure_has_a_kind_and_an_advice(error: Exception, kind: type[HubError], advice: str) -> None:
    """Whoever reads the message knows what was tried, where, what came and what to do."""
    with pytest.raises(HubError) as caught, hub_errors("push to", "me/core", revision="v1"):
        raise error
    said = str(caught.value)
    assert type(caught.value) is kind
    assert said.startswith("Cannot push to 'me/core' at revision 'v1': ")
    assert advice in said
    assert caught.value.repo_id == "me/core"
    assert isinstance(caught.value, OSError)
    assert isinstance(caught.value, LangCoreError)


def test_status_is_kept() -> None:
    """For callers who want to decide by it."""
    with pytest.raises(HubError) as caught, hub_errors("read", "me/core"):
        raise http_error(503)
    assert caught.value.status == 503
    with pytest.raises(HubError) as caught, hub_errors("read", "me/core"):
        raise httpx2.ConnectError("refused")
    assert caught.value.status is None


def test_our_own_errors_pass() -> None:
    """What is said already is not said twice."""
    with pytest.raises(InputError, match=r"^mine$"), hub_errors("read", "me/core"):
        raise InputError("mine")


def test_a_name_that_is_none() -> None:
    """That is the caller's mistake, not the Hub's."""
    with pytest.raises(InputError, match="'a/b/c' is no id of a repository"), hub_errors("read", "a/b/c"):
        raise HFValidationError("bad")


def test_bugs_are_not_hidden() -> None:
    """A programming error stays what it is."""
    with pytest.raises(KeyError), hub_errors("read", "me/core"):
        raise KeyError("x")


@pytest.mark.parametrize(
    "text",
    [
        f"Bearer {TOKEN}",
        f"Illegal header value b'Bearer {TOKEN}\\n'",
        f"https://me:{TOKEN}@hub.test/me/core",
        "https://me:my-pass@hub.test/me/core",
        "Authorization: Bearer something-else-entirely",
        "https://cdn.test/x?X-Amz-Signature=secretsignature&a=b",
    ],
)
def test_secrets_are_hidden(text: str) -> None:
    """Tokens of any form, passwords in addresses, and links that are keys themselves."""
    said = redacted(f"it said: {text} and more")
    for secret in (TOKEN, "my-pass", "something-else-entirely", "secretsignature"):
        assert secret not in said
    assert "it said:" in said
    assert "and more" in said


def test_the_given_and_the_stored_token_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if they do not look like one."""
    monkeypatch.setenv("HF_TOKEN", "from-the-environment")
    assert redacted("a given-secret b from-the-environment c", "given-secret") == "a <hidden> b <hidden> c"


@given(text=st.text(max_size=60))
def test_plain_text_is_left_alone(text: str) -> None:
    """Only secrets are hidden."""
    harmless = text.replace("hf_", "").replace("Bearer", "").replace("://", "")
    assert redacted(harmless) == harmless


def test_no_token_in_the_whole_chain() -> None:
    """Python prints causes, too, so one that tells the token is left out."""

    def fail() -> None:
        try:
            raise httpx2.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'")  # noqa: TRY301 the chain is what matters
        except httpx2.LocalProtocolError as error:
            raise RuntimeError("the request failed") from error

    with pytest.raises(HubError) as caught, hub_errors("read", "me/core", token=TOKEN):
        fail()
    assert TOKEN not in "".join(traceback.format_exception(caught.value))


def test_harmless_causes_are_kept() -> None:
    """For whoever has to find out more."""
    error = http_error(500)
    with pytest.raises(HubError) as caught, hub_errors("read", "me/core"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("token", ["", " ", "hf_abc\n", "hf_a b", "hf_äöü", "\x00", 5])
def test_what_is_no_token_is_refused(token: Any) -> None:
    """Before HTTP refuses it with a message that prints it."""
    with pytest.raises(InputError) as caught:
        hub_api(token)
    assert "token is no access token" in str(caught.value)
    assert "hf_a" not in str(caught.value)


@pytest.mark.parametrize("token", [None, True, False, TOKEN])
def test_tokens_as_huggingface_hub_knows_them(token: Any) -> None:
    assert checked_token(token) is token
    assert hub_api(token).library_name == "hf_langcore"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(access.time, "sleep", slept.append)
    return slept


class Failing:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def test_busy_hubs_are_asked_again(pauses: list[float]) -> None:
    """With longer and longer pauses, and those that the Hub asks for."""
    limit = {"RateLimit": '"api";r=0;t=17'}
    action = Failing(
        http_error(503),
        httpx2.ConnectError("refused"),
        http_error(429, **{"Retry-After": "7"}),
        http_error(429, **limit),
    )
    assert patiently(action) == "done"
    assert pauses == [1, 2, 7, 17]


def test_patience_has_an_end(pauses: list[float]) -> None:
    """Five attempts, then the Hub's own error."""
    action = Failing(*[http_error(502)] * 9)
    with pytest.raises(HfHubHTTPError):
        patiently(action)
    assert (action.calls, len(pauses)) == (5, 4)


def test_nobody_waits_for_an_hour(pauses: list[float]) -> None:
    """A long wait is said, not slept."""
    action = Failing(http_error(429, **{"Retry-After": "3600"}))
    with pytest.raises(HubError, match="3600 seconds of patience"), hub_errors("read", "me/core"):
        patiently(action)
    assert (action.calls, pauses) == (1, [])


@pytest.mark.parametrize(
    "error",
    [http_error(404), http_error(401), http_error(412), OSError(errno.ENOSPC, "full"), OfflineModeIsEnabled("x")],
)
def test_what_will_not_change_is_not_tried_again(error: Exception, pauses: list[float]) -> None:
    action = Failing(error)
    with pytest.raises(type(error)):
        patiently(action)
    assert (action.calls, pauses) == (1, [])


def test_what_must_not_be_repeated_is_not(pauses: list[float]) -> None:
    """A pull request may be open although the answer was lost."""
    action = Failing(httpx2.ReadError("cut"))
    with pytest.raises(httpx2.ReadError):
        patiently(action, may_repeat=lambda _: False)
    assert action.calls == 1


def test_the_reason_behind_a_cache_miss_counts() -> None:
    """huggingface_hub reports a missing file; why the Hub was not asked is in the cause."""
    assert is_transient(local(http_error(503)))
    assert is_transient(local(httpx2.ConnectTimeout("slow")))
    assert not is_transient(local(http_error(401)))
    assert not is_transient(local(OfflineModeIsEnabled("offline")))
    assert not is_transient(LocalEntryNotFoundError("offline"))
