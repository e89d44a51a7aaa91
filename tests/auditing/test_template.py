"""What does not fit the model's chat template."""

from __future__ import annotations

from typing import Any

import pytest

from hf_langcore.auditing.findings import Finding
from hf_langcore.auditing.parts import view_of
from hf_langcore.auditing.template import TemplateCheck

CHATML = (
    "{% for m in messages %}{% if m.role not in ['user', 'assistant', 'system'] %}"
    "{{ raise_exception('no role ' + m.role) }}{% endif %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
FORGETFUL = "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"


class Templated:
    """The part of a tokenizer that the check uses, with transformers' own rendering."""

    all_special_tokens = ("</s>",)

    def __init__(self, template: str) -> None:
        self.chat_template = template

    def get_added_vocab(self) -> dict[str, int]:
        return {"<|im_end|>": 7}

    def apply_chat_template(self, messages: list[Any], *, tokenize: bool) -> str:
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        return render_jinja_template([messages], chat_template=self.chat_template)[0][0]


def look(row: dict[str, Any], *, form: Any = "text", tokenizer: Any = None) -> list[Finding]:
    return list(TemplateCheck(tokenizer, form=form).examine(view_of(0, row, form=form)))


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    "marker",
    [
        "### Instruction:",
        "### Human:",
        "<|im_start|>",
        "[INST]",
        "[/INST]",
        "<<SYS>>",
        "<start_of_turn>",
        "<|eot_id|>",
        "<|user|>",
        "<|start_header_id|>",
        "</s>",
        "<|endoftext|>",
        "<\uff5cUser\uff5c>",
        "Below is an instruction that describes a task",
    ],
)
def test_markers_of_chat_formats_are_found(marker: str) -> None:
    """Without a tokenizer every one of them counts."""
    (found,) = look({"text": f"{marker} Say yes.\nYes."})
    assert (found.kind, found.part) == ("foreign_marker", "text")
    assert marker.strip() in found.detail


def test_markers_of_the_own_template_fit_text_but_not_messages() -> None:
    """Text may be rendered already; a message with a marker breaks out of its turn."""
    chatml = Templated(CHATML)
    assert look({"text": "<|im_start|>user\nHi<|im_end|></s>"}, tokenizer=chatml) == []
    assert [one.kind for one in look({"text": "[INST] Hi [/INST]"}, tokenizer=chatml)] == ["foreign_marker"]
    (found,) = look(said(("user", "Hi<|im_end|>"), ("assistant", "Yes.")), form="messages", tokenizer=chatml)
    assert (found.part, found.detail) == ("messages[0]", "the marker <|im_end|> inside a message")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Human: Hi\n\nAssistant: Hello.", 1),
        ("User: Hi\nAI: Hello.", 1),
        ("What is two and two?\nAssistant:", 1),
        ("Human: a brief history of our species.", 0),
        ("The assistant: a novel. The user: a play.", 0),
        ("Use `Human:` and `Assistant:` as labels.", 0),
    ],
)
def test_labels_of_both_speakers(text: str, count: int) -> None:
    """Two speakers, or a text that ends in a label."""
    assert [one.kind for one in look({"text": text})] == ["role_label"] * count


def test_a_message_that_begins_with_a_label() -> None:
    """Its role says who speaks already."""
    row = said(("user", "Hi"), ("assistant", "Assistant: Hello."))
    assert [(one.kind, one.part) for one in look(row, form="messages")] == [("role_label", "messages[1]")]


def test_labels_that_the_template_uses_fit() -> None:
    """Some templates are written with words."""
    words = Templated(
        "{% for m in messages %}{% if m.role == 'user' %}Human: {% else %}Assistant: {% endif %}{{ m.content }}\n{% endfor %}"
    )
    assert look({"text": "Human: Hi\n\nAssistant: Hello."}, tokenizer=words) == []


@pytest.mark.parametrize(
    ("row", "form", "part"),
    [
        ({"text": " \n"}, "text", "text"),
        ({"prompt": "Hi", "completion": ""}, "prompt_completion", "completion"),
        (said(("user", "Hi"), ("assistant", "  ")), "messages", "messages[1]"),
        (said(("user", "Hi")), "messages", "row"),
        (
            {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": ""}]},
            "conversation_pair",
            "completion[0]",
        ),
    ],
)
def test_nothing_to_learn(row: dict[str, Any], form: Any, part: str) -> None:
    """Empty texts and turns, and conversations in which the assistant does not speak."""
    assert [(one.kind, one.part) for one in look(row, form=form)] == [("empty", part)]


def test_tool_calls_are_something() -> None:
    """A turn that calls a tool says nothing else; an empty prompt is fine."""
    row = {
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": None, "tool_calls": [{"name": "f"}]},
        ]
    }
    assert look(row, form="messages") == []
    assert look({"prompt": "", "completion": "Yes."}, form="prompt_completion") == []


def test_the_template_has_the_last_word() -> None:
    """Roles that it refuses, and messages that it leaves out."""
    row = said(("tool", "22 degrees"), ("assistant", "Warm."))
    (found,) = look(row, form="messages", tokenizer=Templated(CHATML))
    assert (found.kind, found.detail) == ("refused", "the chat template refuses it: no role tool")
    row = said(("system", "Be brief."), ("user", "Hi"), ("assistant", "Yes."))
    (found,) = look(row, form="messages", tokenizer=Templated(FORGETFUL))
    assert (found.kind, found.part, found.excerpt) == ("dropped_message", "messages[0]", "Be brief.")
    assert look(row, form="messages", tokenizer=Templated(CHATML)) == []


@pytest.mark.parametrize(
    ("row", "form", "problem"),
    [
        ({"text": None}, "text", "'text' should be a string, it is missing"),
        ({"text": 3}, "text", "of type int"),
        ({"prompt": "a"}, "prompt_completion", "'completion' should be a string"),
        ({"messages": []}, "messages", "it is an empty list"),
        ({"messages": ["hi"]}, "messages", r"messages[0] should be a message with a role"),
        ({"messages": [{"role": "user", "content": 4}]}, "messages", "the content of messages[0]"),
    ],
)
def test_rows_of_another_shape_are_malformed(row: dict[str, Any], form: Any, problem: str) -> None:
    """Nothing else is said about them."""
    (found,) = look(row, form=form)
    assert found.kind == "malformed"
    assert problem in found.detail
