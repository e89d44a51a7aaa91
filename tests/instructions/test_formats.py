"""Every format becomes the same messages."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hf_langcore.instructions.formats import FORMATS, format_of, messages_of
from hf_langcore.instructions.turns import RowError

ANSWERED = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "Tell"}]
TWICE = [*ANSWERED, {"role": "user", "content": "Again"}, {"role": "assistant", "content": "Once more"}]
ROWS: list[tuple[str, dict[str, Any], list[dict[str, str]]]] = [
    ("openai", {"messages": ANSWERED}, ANSWERED),
    ("openai", {"conversations": ANSWERED, "id": 3}, ANSWERED),
    ("sharegpt", {"conversations": [{"from": "human", "value": "Ask"}, {"from": "gpt", "value": "Tell"}]}, ANSWERED),
    ("sharegpt", {"messages": [{"from": "human", "value": "Ask"}, {"from": "assistant", "value": "Tell"}]}, ANSWERED),
    ("sharegpt", {"conversations": '[{"from": "human", "value": "Ask"}, {"from": "gpt", "value": "Tell"}]'}, ANSWERED),
    ("sharegpt", {"messages": '[{"from": "human", "value": "Ask"}, {"from": "gpt", "value": "Tell"}]'}, ANSWERED),
    ("openai", {"conversations": json.dumps(ANSWERED)}, ANSWERED),
    ("prompt_completion", {"prompt": "Ask", "completion": "Tell", "answer": "x"}, ANSWERED),
    ("prompt_completion", {"prompt": TWICE[:3], "completion": TWICE[3:]}, TWICE),
    ("flan", {"inputs": "Ask", "targets": "Tell", "task": "x"}, ANSWERED),
    ("belle", {"input": "Ask", "target": "Tell"}, ANSWERED),
    ("belle", {"instruction": "Ask", "input": "", "target": "Tell"}, ANSWERED),
    ("belle", {"instruction": "Human: Ask\nAssistant: Tell\nHuman: Again\nAssistant:", "output": "Once more"}, TWICE),
    (
        "belle",
        {"input": "Human:Ask\nAssistant:Tell\nHuman\uff1aAgain\nAssistant\uff1a\n", "target": "Once more"},
        TWICE,
    ),
    ("belle", {"instruction": "Human: Ask\nAssistant: Tell\nHuman: Again", "output": "Once more"}, TWICE),
    ("alpaca", {"instruction": "Ask", "input": "", "output": "Tell"}, ANSWERED),
    ("alpaca", {"instruction": "Ask", "context": None, "response": "Tell"}, ANSWERED),
    ("alpaca", {"instruction": "Again", "output": "Once more", "history": [["Ask", "Tell"]]}, TWICE),
    ("question_answer", {"question": "Ask", "answer": "Tell", "prompt": None}, ANSWERED),
    ("question_answer", {"query": "Ask", "response": "Tell"}, ANSWERED),
]


@pytest.mark.parametrize(("layout", "row", "messages"), ROWS)
def test_formats_are_told_apart_and_read(layout: Any, row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    """By the columns that are there."""
    assert format_of(row) == layout
    assert messages_of(row, layout) == messages
    rule = {"role": "system", "content": "Be kind."}
    assert messages_of(row, layout, system="Be kind.") == [rule, *messages]
    assert messages_of({**row, "system": "Be brief."}, layout, system="Be kind.")[0]["content"] == "Be brief."
    assert messages_of({**row, "system": ""}, layout) == messages


def test_all_formats_are_tested() -> None:
    """The table above is complete."""
    assert {layout for layout, _, _ in ROWS} == set(FORMATS)


def test_the_input_stands_below_the_instruction() -> None:
    """As in Alpaca's own prompts."""
    row = {"instruction": "Translate.", "input": "Haus", "output": "house"}
    assert messages_of(row, "alpaca")[0]["content"] == "Translate.\n\nHaus"


def test_a_system_message_of_the_conversation_stays() -> None:
    """One that is given is for rows that have none, or an empty one."""
    own = [{"role": "system", "content": "Own."}, *ANSWERED]
    assert messages_of({"messages": own}, "openai", system="Other.") == own
    blank = [{"role": "system", "content": ""}, *ANSWERED]
    assert messages_of({"messages": blank}, "openai", system="Other.")[0]["content"] == "Other."


@pytest.mark.parametrize("text", ["Human: alone", "Tell me what Human: means\nAssistant: x", "Assistant: x\nHuman: y"])
def test_text_that_only_mentions_speakers_is_no_dialogue(text: str) -> None:
    """It stays one instruction."""
    row = {"instruction": text, "output": "Tell"}
    assert format_of(row) == "alpaca"
    assert messages_of(row, "alpaca")[0]["content"] == text


@pytest.mark.parametrize(
    ("row", "kind", "message"),
    [
        ({"instruction": "Ask"}, "missing_answer", "no answer: expected 'output' or 'response' or 'target'"),
        ({"instruction": "Ask", "output": None}, "missing_answer", "no answer"),
        ({"input": "x", "output": "Tell"}, "missing_prompt", "no prompt: expected 'instruction'"),
        ({"instruction": "Ask", "output": " "}, "empty", "'output', the answer, is empty"),
        ({"inputs": "", "targets": "Tell"}, "empty", "'inputs', the prompt, is empty"),
        ({"inputs": "Ask"}, "missing_answer", "'targets'"),
        ({"targets": "Tell"}, "missing_prompt", "'inputs'"),
        (
            {"prompt": "Ask", "completion": ["Tell"]},
            "wrong_type",
            "'completion' should be a string, it is of type list",
        ),
        ({"question": 5, "answer": "Tell"}, "wrong_type", "'question' should be a string, it is of type int"),
        ({"instruction": "Ask", "input": 5, "output": "Tell"}, "wrong_type", "'input' or 'context'"),
        ({"instruction": "Ask", "output": "Tell", "history": ["x"]}, "wrong_type", "'history'"),
        ({"instruction": "Ask", "output": "Tell", "system": 5}, "wrong_type", "'system'"),
        ({"instruction": "Human: a\nAssistant:\nHuman: b\nAssistant:", "output": "c"}, "empty", "turn 1"),
        ({"messages": []}, "empty", "no turns"),
        ({"messages": "hello"}, "wrong_type", "'messages' should be a list of turns"),
        ({"conversations": "[broken"}, "invalid_json", "'conversations' is no JSON"),
        ({"conversations": "[" * 100_000}, "invalid_json", "nested too deeply"),
        ({"conversations": ["hello"]}, "wrong_type", "turn 0"),
        ({"text": "hello"}, "unknown_format", "the columns 'text'"),
        ({"text": None}, "empty", "all columns"),
        ({}, "empty", "all columns"),
    ],
)
def test_wrong_rows_are_named(row: dict[str, Any], kind: str, message: str) -> None:
    """By what is missing, empty or of another type."""
    with pytest.raises(RowError, match=message) as caught:
        messages_of(row, format_of(row))
    assert caught.value.kind == kind


@pytest.mark.parametrize("layout", FORMATS)
def test_a_row_of_another_format_is_wrong(layout: Any) -> None:
    """Where the format is given, no other is tried."""
    with pytest.raises(RowError):
        messages_of({"text": "hello"}, layout)
