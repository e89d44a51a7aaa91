"""A row as the pieces of text that people wrote, whatever its form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hf_langcore.data.rows import Form, Row

_FENCED = re.compile(r"```.*?(?:```|\Z)|`[^`\n]+`", re.DOTALL)
_ADDRESS = re.compile(r"\b(?:https?|ftp)://\S+|\bwww\.\S+|\S+@\S+\.\w+|data:\w+/[\w.+-]+;base64,\S+")


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of a row.

    Attributes:
        name: Where it stands: "text", "prompt", "completion", "messages[2]", "completion[0]".
        text: The text as it is.
        role: Who says it, in conversations.
    """

    name: str
    text: str
    role: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """What the checks see of a row.

    Attributes:
        number: Position of the row, from 0.
        row: The row itself.
        parts: Its texts; those that are empty too.
        problem: What is wrong with the row's structure; None if nothing is.
    """

    number: int
    row: Row
    parts: tuple[Part, ...]
    problem: str | None = None


def view_of(number: int, row: Row, *, form: Form, tokenizer: Any = None) -> View:
    """The texts of a row; a row that does not have the form has none and a problem instead."""
    try:
        return View(number, row, tuple(_parts(row, form, tokenizer)))
    except _MisshapenError as error:
        return View(number, row, (), str(error))


def prose(text: str) -> str:
    """The text without code between backticks, addresses and embedded data, which noise is not looked for in."""
    return _ADDRESS.sub(" ", _FENCED.sub(" ", text)) if "`" in text else _ADDRESS.sub(" ", text)


def excerpt(text: str, start: int = 0, end: int | None = None, *, width: int = 120) -> str:
    """The piece from `start` to `end` on one line with a little of what surrounds it, `width` characters at most."""
    end = len(text) if end is None else end
    before = max(0, start - max(0, (width - (end - start)) // 2))
    piece = text[before : before + width]
    line = " ".join("".join(c if c.isprintable() or c.isspace() else repr(c)[1:-1] for c in piece).split())
    return ("…" if before else "") + line + ("…" if before + width < len(text) else "")


class _MisshapenError(Exception):
    """A row does not have the form of its data set."""


def _parts(row: Row, form: Form, tokenizer: Any) -> Iterator[Part]:
    if form == "text":
        yield Part("text", _string(row, "text"))
    elif form == "prompt_completion":
        yield Part("prompt", _string(row, "prompt"))
        yield Part("completion", _string(row, "completion"))
    elif form == "messages":
        yield from _messages(row, "messages")
    elif form == "conversation_pair":
        yield from _messages(row, "prompt")
        yield from _messages(row, "completion")
    else:
        yield Part("text", str(tokenizer.decode(row["input_ids"], skip_special_tokens=True)))


def _string(row: Row, column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str):
        raise _MisshapenError(f"{column!r} should be a string, it is {_kind(value)}")
    return value


def _messages(row: Row, column: str) -> Iterator[Part]:
    messages = row.get(column)
    if not isinstance(messages, (list, tuple)) or not messages:
        raise _MisshapenError(f"{column!r} should be a list of messages, it is {_kind(messages)}")
    for index, message in enumerate(messages):
        name = f"{column}[{index}]"
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _MisshapenError(f"{name} should be a message with a role, it is {_kind(message)}")
        yield Part(name, _content(message, name), message["role"])


def _content(message: Mapping[str, Any], name: str) -> str:
    """The text of a message: a string, or the text pieces of a list; a message may consist of tool calls alone."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, (list, tuple)):
        return "\n".join(str(piece.get("text") or "") for piece in content if isinstance(piece, Mapping))
    if content is None and message.get("tool_calls"):
        return ""
    raise _MisshapenError(f"the content of {name} should be a string, it is {_kind(content)}")


def _kind(value: Any) -> str:
    if value is None:
        return "missing"
    return "an empty list" if isinstance(value, (list, tuple)) and not value else f"of type {type(value).__name__}"
