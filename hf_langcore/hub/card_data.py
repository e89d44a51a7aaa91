"""The metadata of a mask's card: what the Hub's search and its page are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_langcore.errors import InputError, LangCoreError
from hf_langcore.hub.access import LIBRARY
from hf_langcore.hub.fetch import Repository
from hf_langcore.hub.front_matter import CARD_FILE, as_list, split_card, union
from hf_langcore.hub.languages import hub_languages
from hf_langcore.hub.references import public_base
from hf_langcore.hub.search import FACTS, TAG
from hf_langcore.masks import CoreMask

LICENSE_KEYS = ("license", "license_name", "license_link")

_LIMIT = 4 << 20
_UNTAGGED = ("given", "combined")
_REPOSITORY = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)


def mask_metadata(
    core_mask: CoreMask,
    *,
    license: str | None,  # noqa: A002 the card's word
    base_license: Mapping[str, str],
    datasets: Sequence[str],
    known: Mapping[str, Any],
) -> dict[str, Any]:
    """Metadata of a mask's repository.

    Args:
        core_mask: The mask.
        license: Its license; None keeps that of `known`.
        base_license: What stands in for it where `known` has none.
        datasets: Repositories of data sets.
        known: What the card said before; keys that are not ours stay, tags and data sets are added to.
    """
    provenance = core_mask.provenance
    base_model, base_revision = public_base(core_mask)
    facts = {
        "method": provenance.method,
        "fraction": provenance.fraction,
        "digest": core_mask.digest(),
        "base_revision": base_revision,
    }
    before = known.get(FACTS)
    outdated = before.get("method") if isinstance(before, Mapping) else None
    method = [] if provenance.method in _UNTAGGED else [provenance.method]
    tags = union([TAG, *method], [tag for tag in as_list(known.get("tags")) if tag != outdated])
    ours = {
        "library_name": LIBRARY,
        "base_model": base_model,
        # Unset, the Hub guesses that this is a fine-tuned model, and counts it as one.
        "base_model_relation": "adapter" if base_model else None,
        "tags": tags,
        "language": hub_languages(provenance.languages) or known.get("language"),
        **_license(license, base_license, known),
        "datasets": union(_repositories(datasets), known.get("datasets")),
        FACTS: {name: value for name, value in facts.items() if value is not None},
    }
    others = {name: value for name, value in known.items() if name not in ours}
    return {name: value for name, value in {**ours, **others}.items() if value not in (None, [], "")}


def license_of_base(core_mask: CoreMask, *, token: bool | str | None = None) -> dict[str, str]:
    """License, name and link of the base model's card, as far as the cache or the Hub know them.

    A card is worth no failed push: whatever goes wrong, nothing is known.

    Args:
        core_mask: A mask of that model.
        token: Of huggingface_hub.
    """
    name, revision = public_base(core_mask)
    if name is None:
        return {}
    try:
        card = Repository(name, revision=revision, token=token).fetch(CARD_FILE, limit=_LIMIT)
        metadata, _ = split_card(card.read_text(encoding="utf-8", errors="replace"))
    except (LangCoreError, OSError):
        return {}
    found = {key: metadata[key] for key in LICENSE_KEYS if isinstance(metadata.get(key), str)}
    if not found.get("license_link", "https://").startswith("https://"):
        del found["license_link"]  # a file of that repository, which this one does not have
    return found if "license" in found else {}


def _license(given: str | None, base: Mapping[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """License, name and link, all three from one source."""
    if given is not None and given != known.get("license"):
        return {**dict.fromkeys(LICENSE_KEYS), "license": given}
    source = known if known.get("license") else base
    return {key: source.get(key) for key in LICENSE_KEYS}


def _repositories(datasets: Sequence[str]) -> list[str]:
    """Data sets by repository: "owner/name:config:split" is a way to read one."""
    if isinstance(datasets, str):
        raise InputError(f"datasets must be a list of repositories, got the text {datasets!r}. Put it in a list.")
    names = [name.split(":")[0] for name in datasets]
    for name in names:
        if not _REPOSITORY.fullmatch(name):
            raise InputError(f"datasets names repositories on the Hub, 'owner/name', got {name!r}.")
    return names
