"""Who may speak when."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.instructions.turns import ROLES, RowError, checked, message_of

ASK, TELL = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
RULE, FOUND = {"role": "system", "content": "c"}, {"role": "tool", "content": "d"}


@pytest.mark.parametrize(
    "messages",
    [
        [ASK, TELL],
        [RULE, ASK, TELL],
        [ASK, TELL, ASK, TELL],
        [ASK, TELL, FOUND, FOUND, TELL],
        [ASK, TELL, FOUND, TELL, ASK, TELL],
    ],
)
def test_turns_in_order_pass(messages: list[dict[str, str]]) -> None:
    """As they are."""
    assert checked(messages) == messages


def test_an_empty_system_message_is_left_out() -> None:
    """Many data sets have an empty one in each row."""
    assert checked([{"role": "system", "content": " "}, ASK, TELL]) == [ASK, TELL]


@pytest.mark.parametrize(
    ("messages", "kind", "message"),
    [
        ([], "empty", "no turns"),
        ([RULE], "last_turn", "by 'system'"),
        ([ASK], "last_turn", "by 'user'"),
        ([ASK, TELL, FOUND], "last_turn", "by 'tool'"),
        ([TELL, ASK, TELL], "role_order", "turn 0 is by 'assistant', which cannot come first"),
        ([FOUND, TELL], "role_order", "turn 0 is by 'tool'"),
        ([ASK, ASK, TELL], "role_order", "turn 1 is by 'user', which cannot follow 'user'"),
        ([ASK, TELL, TELL], "role_order", "turn 2 is by 'assistant'"),
        ([ASK, TELL, RULE, ASK, TELL], "role_order", "turn 2 is by 'system'"),
        ([ASK, {**TELL, "content": " \n"}], "missing_answer", "turn 1, by 'assistant', is empty"),
        ([{**RULE, "content": ""}, {**ASK, "content": ""}, TELL], "empty", "turn 1, by 'user', is empty"),
        ([{**ASK, "content": "a\ud83d"}, TELL], "encoding", "turn 0 has half a character"),
        ([ASK, {**TELL, "content": ""}, ASK, TELL], "empty", "turn 1, by 'assistant', is empty"),
    ],
)
def test_turns_out_of_order_are_named(messages: list[dict[str, str]], kind: str, message: str) -> None:
    """With their place."""
    with pytest.raises(RowError, match=message) as caught:
        checked(messages)
    assert caught.value.kind == kind


@pytest.mark.parametrize(("name", "role"), [*ROLES.items(), ("Human", "user"), (" GPT ", "assistant")])
def test_roles_get_their_usual_names(name: str, role: str) -> None:
    """Whatever the data set calls them."""
    assert message_of({"from": name, "value": "a"}, 0, role_key="from", text_key="value") == {
        "role": role,
        "content": "a",
    }


@pytest.mark.parametrize(
    ("turn", "kind", "message"),
    [
        ("hello", "wrong_type", "turn 3 should be an object with 'role' and 'content', it is of type str"),
        ({"content": "a"}, "wrong_type", "'role' of turn 3 should be a string, it is missing"),
        ({"role": "narrator", "content": "a"}, "unknown_role", "turn 3 is by 'narrator'"),
        ({"role": "user"}, "wrong_type", "'content' of turn 3 should be a string, it is missing"),
        ({"role": "user", "content": 5}, "wrong_type", "of type int"),
        ({"role": "user", "content": []}, "wrong_type", "it is empty"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, "wrong_type", "no text"),
        ({"role": "assistant", "content": None, "tool_calls": [{}]}, "tool_call", "turn 3 calls a tool"),
    ],
)
def test_what_is_no_turn_is_named(turn: Any, kind: str, message: str) -> None:
    """With its place."""
    with pytest.raises(RowError, match=message) as caught:
        message_of(turn, 3, role_key="role", text_key="content")
    assert caught.value.kind == kind


def test_pieces_of_text_are_joined() -> None:
    """OpenAI's content may be a list."""
    turn = {
        "role": "user",
        "content": [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}],
        "tool_calls": None,
    }
    assert message_of(turn, 0, role_key="role", text_key="content")["content"] == "a b"
