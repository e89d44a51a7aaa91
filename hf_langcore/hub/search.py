"""Which core masks are on the Hub for a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from hf_langcore.errors import InputError
from hf_langcore.hub.access import hub_api, hub_errors, patiently
from hf_langcore.hub.redaction import Token

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

TAG = "core-mask"
"""Tag of every repository that holds a core mask."""

_LONGEST = 400  # signs
_MOST_LANGUAGES = 1000

FACTS = "core_mask"
"""Key of a mask card's metadata under which the facts stand that a list shows: method, fraction, digest, base_revision."""


@dataclass(frozen=True, slots=True)
class MaskListing:
    """A core mask on the Hub, as its card describes it; nothing of it is downloaded or checked.

    Attributes:
        repo_id: Its repository.
        revision: 40-hex commit of the newest state.
        base_model: The base model that was asked for.
        base_revision: 40-hex commit of the base model that the mask was found on, if the card says so.
        method: The scorer.
        fraction: Share of each tensor that was selected.
        languages: Codes of the languages whose text was used.
        digest: The mask's digest.
        license: Of the mask.
        downloads: In the last month.
        likes: All.
        updated: When it was changed last.
        private: Whether only its owner sees it.
        gated: Whether access has to be asked for.
    """

    repo_id: str
    revision: str | None
    base_model: str
    base_revision: str | None = None
    method: str | None = None
    fraction: float | None = None
    languages: tuple[str, ...] = ()
    digest: str | None = None
    license: str | None = None
    downloads: int = 0
    likes: int = 0
    updated: datetime | None = None
    private: bool = False
    gated: bool = False


def list_core_masks(
    base_model: str, *, author: str | None = None, limit: int | None = 100, token: Token = None
) -> list[MaskListing]:
    """The core masks that have been published for a model, most downloaded first.

    Args:
        base_model: Repository of the model, "owner/name".
        author: Only those of this user or organisation.
        limit: At most so many; None for all.
        token: Access token; None uses the stored one, with which private masks are found, too.

    Returns:
        What the cards say. `CoreMask.from_pretrained(listing.repo_id, revision=listing.revision)` loads one.

    Raises:
        InputError: `base_model` or `limit` is wrong.
        HubError: The Hub cannot be asked.

    Example:
        >>> list_core_masks("meta-llama/Llama-2-7b-hf")[0].repo_id  # doctest: +SKIP
        'somebody/llama-2-7b-core'
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"limit must be a whole number of at least 1 or None, got {limit!r}.")
    if not _REPOSITORY.fullmatch(base_model):
        raise InputError(f"base_model names a repository on the Hub, 'owner/name', got {base_model!r}.")
    with hub_errors("list the core masks of", base_model, token=token):
        found = patiently(
            attempts=1,
            action=lambda: list(
                islice(
                    hub_api(token).list_models(
                        filter=[TAG, f"base_model:{base_model}"],
                        author=author,
                        sort="downloads",
                        full=True,
                        cardData=True,
                        limit=limit,
                    ),
                    limit,
                )
            ),
        )
    return [_listing(info, base_model) for info in found]


def _listing(info: Any, base_model: str) -> MaskListing:
    """What the card says, each field only where it has the form that it should have: cards are written by anybody."""
    card = info.card_data.to_dict() if info.card_data is not None else {}
    facts = card.get(FACTS)
    facts = facts if isinstance(facts, Mapping) else {}
    languages = card.get("language")
    languages = languages if isinstance(languages, (list, tuple)) else [languages]
    return MaskListing(
        repo_id=info.id,
        revision=info.sha,
        base_model=base_model,
        base_revision=_text(facts.get("base_revision")),
        method=_text(facts.get("method")),
        fraction=_number(facts.get("fraction")),
        languages=tuple(code for one in languages[:_MOST_LANGUAGES] if (code := _text(one)) is not None),
        digest=_text(facts.get("digest")),
        license=_text(card.get("license")),
        downloads=info.downloads or 0,
        likes=info.likes or 0,
        updated=info.last_modified,
        private=bool(info.private),
        gated=bool(info.gated),
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() else None


def _number(value: Any) -> float | None:
    is_share = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return float(value) if is_share else None
