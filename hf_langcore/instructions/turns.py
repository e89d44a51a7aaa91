"""The turns of a conversation: what the roles are called, and the order in which they speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, str]

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "chatbot", "bard", "bing"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "function_response"), "tool"),
}
"""What formats call the roles, and what chat templates call them."""

_NEXT = {
    None: {"system", "user"},
    "system": {"user"},
    "user": {"assistant"},
    "assistant": {"user", "tool"},
    "tool": {"tool", "assistant"},
}
_CALLS = ("tool_calls", "function_call")


class RowError(Exception):
    """A row cannot be used.

    Attributes:
        kind: In one word, for counting.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def message_of(turn: Any, place: int, *, role_key: str, text_key: str) -> Message:
    """One turn with the role's usual name.

    Raises:
        RowError: It is no turn, its role is unknown, or its text is no text.
    """
    if not isinstance(turn, Mapping):
        raise RowError(
            "wrong_type", f"turn {place} should be an object with {role_key!r} and {text_key!r}, it is {kind_of(turn)}"
        )
    name = turn.get(role_key)
    if not isinstance(name, str):
        raise RowError("wrong_type", f"the {role_key!r} of turn {place} should be a string, it is {kind_of(name)}")
    role = ROLES.get(name.strip().casefold())
    if role is None:
        raise RowError(
            "unknown_role",
            f"turn {place} is by {name!r}; known are system, user, assistant, tool and what ShareGPT calls them, such as human and gpt",
        )
    if any(turn.get(key) for key in _CALLS):
        raise RowError("tool_call", f"turn {place} calls a tool, which role and content cannot hold")
    return {"role": role, "content": _content(turn.get(text_key), place, text_key)}


def checked(messages: Sequence[Message]) -> list[Message]:
    """The messages, if they can be trained: a user first, turns in order, the assistant last, nothing empty.

    An empty system message is left out.

    Raises:
        RowError: They cannot.
    """
    kept = [
        (place, message)
        for place, message in enumerate(messages)
        if message["role"] != "system" or message["content"].strip()
    ]
    if not kept:
        raise RowError("empty", "the conversation has no turns")
    before = None
    for place, message in kept:
        role = message["role"]
        if role not in _NEXT[before]:
            follows = "come first" if before is None else f"follow {before!r}"
            raise RowError("role_order", f"turn {place} is by {role!r}, which cannot {follows}")
        before = role
    if before != "assistant":
        raise RowError(
            "last_turn", f"the last turn is by {before!r}; it should be the assistant's, there is no answer to learn"
        )
    for place, message in kept:
        if not message["content"].strip():
            kind = "missing_answer" if place == len(messages) - 1 else "empty"
            raise RowError(kind, f"turn {place}, by {message['role']!r}, is empty")
        _require_text(message["content"], place)
    return [message for _, message in kept]


def kind_of(value: Any) -> str:
    """What a value is, for messages."""
    if value is None:
        return "missing"
    if isinstance(value, (list, tuple, Mapping)) and not value:
        return "empty"
    return f"of type {type(value).__name__}"


def _require_text(text: str, place: int) -> None:
    """Refuse halves of characters, which JSON can spell and no file or table can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError("encoding", f"turn {place} has half a character ({text[error.start]!r})") from error


def _content(value: Any, place: int, key: str) -> str:
    """A text, or the pieces of text of a list, as OpenAI writes them."""
    if isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and value:
        pieces = [piece.get("text") if isinstance(piece, Mapping) else piece for piece in value]
        texts = [piece for piece in pieces if isinstance(piece, str)]
        if len(texts) == len(pieces):
            return "".join(texts)
        raise RowError("wrong_type", f"the {key!r} of turn {place} has pieces that are no text, such as images")
    raise RowError("wrong_type", f"the {key!r} of turn {place} should be a string, it is {kind_of(value)}")
