"""New tokens in a tokenizer's JSON: BPE with merges, Unigram with scores, WordPiece with neither."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from hf_langcore.errors import UnsupportedModelError
from hf_langcore.vocabulary.learning import Learned

_ABOVE = (
    1e-3  # nats by which a new Unigram piece beats its parts; far less than what one word is likelier than another
)


def written(state: Mapping[str, Any], found: Learned, ids: Mapping[str, int]) -> tuple[dict[str, Any], int]:
    """The JSON of a tokenizer with the new tokens in it.

    Args:
        state: The JSON as it was.
        found: What was learned.
        ids: All tokens that there are, added ones included.

    Returns:
        The JSON, and the id of the first new token.

    Raises:
        UnsupportedModelError: A Unigram vocabulary has gaps.
    """
    made: dict[str, Any] = copy.deepcopy(dict(state))
    model, first_id = made["model"], max(ids.values(), default=-1) + 1
    if model["type"] == "Unigram":
        _write_scores(model, found, ids)
        return made, first_id
    vocabulary = model["vocab"]
    # Added tokens may stand behind the vocabulary, which is going to be longer than they reach, and may not have a gap.
    vocabulary.update({token: number for token, number in ids.items() if token not in vocabulary})
    vocabulary.update({token: first_id + place for place, token in enumerate(found.parts)})
    if model["type"] == "BPE":
        model["merges"] += [list(step) for step in found.steps if len(step) > 1]
    return made, first_id


def _write_scores(model: dict[str, Any], found: Learned, ids: Mapping[str, int]) -> None:
    pieces: list[list[Any]] = model["vocab"]
    lowest = min(float(score) for _, score in pieces)
    behind = sorted((number, token) for token, number in ids.items() if number >= len(pieces))
    for number, token in behind:
        if number != len(pieces):
            raise UnsupportedModelError(
                f"The token {token!r} has the id {number}, and the vocabulary ends at {len(pieces) - 1}: a Unigram vocabulary "
                "is a list without gaps. Save the tokenizer without that token first."
            )
        pieces.append([token, 0.0])
    scores = {token: float(score) for token, score in pieces}
    for token, parts in found.parts.items():
        scores[token] = lowest if len(parts) == 1 else scores[parts[0]] + scores[parts[1]] + _ABOVE
        pieces.append([token, scores[token]])
