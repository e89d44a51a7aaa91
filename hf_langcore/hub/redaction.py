"""Text without secrets: nothing that is shown, logged or published may hold a token."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import get_token

from hf_langcore.errors import InputError

Token = bool | str | None
"""As everywhere in huggingface_hub: a token, True for the stored one, False for none, None for the stored one if there is."""

_TOKENS = re.compile(r"\bhf_[A-Za-z0-9]{20,}|(?<=Bearer )[^\s'\"]+|(?<=://)[^/\s@:]+:[^/\s@]+(?=@)")
_SIGNATURES = re.compile(r"(https?://[^\s?'\"]+)\?[^\s'\"]*(?:Signature|token|X-Amz)[^\s'\"]*", re.IGNORECASE)
_HIDDEN = "<hidden>"


def redacted(text: str, token: Token = None) -> str:
    """`text` without tokens, passwords in addresses and signatures of download links."""
    for secret in _secrets(token):
        text = text.replace(secret, _HIDDEN)
    return _SIGNATURES.sub(rf"\1?{_HIDDEN}", _TOKENS.sub(_HIDDEN, text))


def require_no_secret(files: Mapping[str, bytes | Path], *, token: Token = None) -> None:
    """Refuse to publish an access token that somebody has put into a name, a condition or a card.

    Args:
        files: Path in the repository -> content. Files on disk are not read: weights are large and hold no words.
        token: The one that is in use.

    Raises:
        InputError: A content holds one. It is not part of the message.
    """
    secrets = [secret.encode() for secret in _secrets(token)]
    for name, content in files.items():
        if isinstance(content, bytes) and any(secret in content for secret in secrets):
            raise InputError(
                f"{name} would hold your access token. Remove it from the results or from the card first."
            )


def _secrets(token: Token) -> list[str]:
    known = (token if isinstance(token, str) else None, os.environ.get("HF_TOKEN"), get_token())
    # A short one would blot out ordinary words.
    return sorted({secret for secret in known if secret and len(secret) >= len("hf_0123")}, key=len, reverse=True)
