"""The formats in which people have instructions, each read into messages.

| format | columns |
| --- | --- |
| openai | `messages` (or `conversations`), a list of {"role", "content"} |
| sharegpt | `conversations`, a list of {"from", "value"} |
| prompt_completion | `prompt` and `completion`, strings or lists of messages |
| flan | `inputs` and `targets` |
| belle | `input` and `target`, `instruction` and `target`, or an instruction written as `Human: ...` and `Assistant: ...` |
| alpaca | `instruction`, `input` (may be missing or empty), `output`; or Dolly's `context` and `response`; `history` |
| question_answer | `question` (`query`) and `answer` (`response`) |

Any of them may have a column `system`. Chinese-Vicuna's files have the columns of alpaca, and ShareGPT's form.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, get_args

from hf_langcore.instructions.turns import Message, RowError, checked, kind_of, message_of
from hf_langcore.strict_json import parse_json

Format = Literal["openai", "sharegpt", "prompt_completion", "flan", "belle", "alpaca", "question_answer"]
FORMATS: tuple[Format, ...] = get_args(Format)

_CONVERSATIONS = ("conversations", "conversation", "messages")
_INSTRUCTION, _INPUT, _OUTPUT = ("instruction",), ("input", "context"), ("output", "response", "target")
_QUESTION, _ANSWER = ("question", "query"), ("answer", "response")
_SPEAKER = re.compile(r"^[ \t]*(Human|Assistant)[ \t]*[:\uff1a]", re.MULTILINE)  # also the full-width colon
_PAIR = 2


def format_of(row: Mapping[str, Any]) -> Format:
    """The format of a row, judged by its columns that are not missing; the first in the order of the table counts.

    Raises:
        RowError: It has none that is known.
    """
    columns = {name for name, value in row.items() if value is not None}
    if columns & set(_CONVERSATIONS):
        return _conversation_format(row)
    if columns & {"prompt", "completion"}:
        return "prompt_completion"
    if columns & {"inputs", "targets"}:
        return "flan"
    if columns & {"input", "instruction"} and ("target" in columns or _is_dialogue(row)):
        return "belle"
    if columns & {"instruction", "input", "output"}:
        return "alpaca"
    if columns & {*_QUESTION, *_ANSWER}:
        return "question_answer"
    if not columns:
        raise RowError("empty", "all columns are missing or empty")
    raise RowError("unknown_format", f"the columns {', '.join(sorted(map(repr, columns)))} belong to no known format")


def messages_of(row: Mapping[str, Any], layout: Format, *, system: str | None = None) -> list[Message]:
    """A row of a format as messages.

    Args:
        row: The row.
        layout: Its format.
        system: System message of rows without one.

    Raises:
        RowError: The row cannot be used; the message says why.
    """
    messages = _READERS[layout](row)
    own = row.get("system")
    if own is not None and not isinstance(own, str):
        raise RowError("wrong_type", f"'system' should be a string, it is {kind_of(own)}")
    first = own if own and own.strip() else system
    if first and not any(message["role"] == "system" and message["content"].strip() for message in messages):
        messages = [{"role": "system", "content": first}, *messages]
    return checked(messages)


def _conversation_format(row: Mapping[str, Any]) -> Format:
    """By the keys of the turns; a broken list is reported as what its column suggests."""
    column = next(name for name in _CONVERSATIONS if row.get(name) is not None)
    with suppress(RowError):
        turns = row[column]
        turns = _unpacked(turns, column)
    first = turns[0] if isinstance(turns, (list, tuple)) and turns else None
    keys = set(first) if isinstance(first, Mapping) else set()
    if column == "messages":
        return "sharegpt" if "from" in keys and "role" not in keys else "openai"
    return "openai" if "role" in keys and "from" not in keys else "sharegpt"


def _turns(row: Mapping[str, Any], *, role_key: str, text_key: str) -> list[Message]:
    column = next((name for name in _CONVERSATIONS if row.get(name) is not None), None)
    if column is None:
        raise RowError("empty", f"there is no conversation in any of {', '.join(map(repr, _CONVERSATIONS))}")
    return _listed(row[column], column, role_key=role_key, text_key=text_key)


def _listed(turns: Any, column: str, *, role_key: str = "role", text_key: str = "content") -> list[Message]:
    turns = _unpacked(turns, column)
    if not isinstance(turns, (list, tuple)):
        raise RowError("wrong_type", f"{column!r} should be a list of turns, it is {kind_of(turns)}")
    return [message_of(turn, place, role_key=role_key, text_key=text_key) for place, turn in enumerate(turns)]


def _unpacked(turns: Any, column: str) -> Any:
    """A list that a table keeps as JSON."""
    if not isinstance(turns, str) or not turns.lstrip().startswith("["):
        return turns
    try:
        return parse_json(turns)
    except ValueError as error:
        raise RowError("invalid_json", f"{column!r} is no JSON: {error}") from error


def _prompt_completion(row: Mapping[str, Any]) -> list[Message]:
    prompt, completion = row.get("prompt"), row.get("completion")
    if isinstance(prompt, (list, tuple)) and isinstance(completion, (list, tuple)):
        return [*_listed(prompt, "prompt"), *_listed(completion, "completion")]
    return _pair(_text(row, ("prompt",), "missing_prompt"), _text(row, ("completion",), "missing_answer"))


def _instruction(row: Mapping[str, Any]) -> list[Message]:
    """Instruction, with the input below it; a dialogue in one text becomes turns."""
    answer = _text(row, _OUTPUT, "missing_answer")
    asked = [_text(row, _INSTRUCTION, "missing_prompt"), _optional(row, _INPUT)]
    prompt = "\n\n".join(text for text in asked if text.strip())
    turns = _dialogue(prompt)
    return [
        *_history(row),
        *(turns or [{"role": "user", "content": prompt}]),
        {"role": "assistant", "content": answer},
    ]


def _belle(row: Mapping[str, Any]) -> list[Message]:
    if row.get("instruction") is not None:
        return _instruction(row)
    prompt, answer = _text(row, ("input",), "missing_prompt"), _text(row, _OUTPUT, "missing_answer")
    return [*(_dialogue(prompt) or [{"role": "user", "content": prompt}]), {"role": "assistant", "content": answer}]


def _is_dialogue(row: Mapping[str, Any]) -> bool:
    text = row.get("instruction") or row.get("input")
    return isinstance(text, str) and _dialogue(text) is not None


def _dialogue(text: str) -> list[Message] | None:
    """The turns of `Human: ...`, `Assistant: ...` lines; None where the text is not written like that.

    The empty turn of the assistant at the end is where the answer goes, which stands in another column.
    """
    pieces = _SPEAKER.split(text)
    speakers, texts = pieces[1::2], pieces[2::2]
    if pieces[0].strip() or "Assistant" not in speakers or speakers[0] != "Human":
        return None
    if speakers[-1] == "Assistant" and not texts[-1].strip():
        speakers, texts = speakers[:-1], texts[:-1]
    names = {"Human": "user", "Assistant": "assistant"}
    return [{"role": names[speaker], "content": said.strip()} for speaker, said in zip(speakers, texts, strict=True)]


def _history(row: Mapping[str, Any]) -> list[Message]:
    """Earlier questions and answers, as pairs."""
    pairs = row.get("history") or []
    if not isinstance(pairs, (list, tuple)) or not all(
        isinstance(pair, (list, tuple)) and len(pair) == _PAIR and all(isinstance(text, str) for text in pair)
        for pair in pairs
    ):
        raise RowError("wrong_type", "'history' should be a list of pairs of a question and an answer")
    return [message for question, answer in pairs for message in _pair(question, answer)]


def _pair(prompt: str, answer: str) -> list[Message]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def _text(row: Mapping[str, Any], names: tuple[str, ...], missing: str) -> str:
    """The text of the first of the columns that is there.

    Raises:
        RowError: None is, or it is no text, or empty.
    """
    name = next((name for name in names if row.get(name) is not None), None)
    what = "answer" if missing == "missing_answer" else "prompt"
    if name is None:
        raise RowError(missing, f"there is no {what}: expected {' or '.join(map(repr, names))}")
    if not isinstance(row[name], str):
        raise RowError("wrong_type", f"{name!r} should be a string, it is {kind_of(row[name])}")
    if not row[name].strip():
        raise RowError("empty", f"{name!r}, the {what}, is empty")
    return str(row[name])


def _optional(row: Mapping[str, Any], names: tuple[str, ...]) -> str:
    value = next((row[name] for name in names if row.get(name) is not None), "")
    if not isinstance(value, str):
        raise RowError("wrong_type", f"{' or '.join(map(repr, names))} should be a string, it is {kind_of(value)}")
    return value


_READERS: dict[Format, Callable[[Mapping[str, Any]], list[Message]]] = {
    "openai": lambda row: _turns(row, role_key="role", text_key="content"),
    "sharegpt": lambda row: _turns(row, role_key="from", text_key="value"),
    "prompt_completion": _prompt_completion,
    "flan": lambda row: _pair(_text(row, ("inputs",), "missing_prompt"), _text(row, ("targets",), "missing_answer")),
    "belle": _belle,
    "alpaca": _instruction,
    "question_answer": lambda row: _pair(
        _text(row, _QUESTION, "missing_prompt"), _text(row, _ANSWER, "missing_answer")
    ),
}
