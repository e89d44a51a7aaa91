"""Forms of rows: recognised by their columns, brought into one, tokenised with the right labels."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from hf_langcore.data.blocks import IGNORED
from hf_langcore.data.rows import first_row, form_of, labels_of, tokenise, tokenised, unify
from hf_langcore.errors import ConfigurationError, CorpusError

USER, REPLY = {"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}
PLAIN = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}assistant {% endif %}"
MARKED = (
    "{% for m in messages %}{{ m['role'] }} {% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }} {% endgeneration %}{% else %}{{ m['content'] }} {% endif %}{% endfor %}"
)


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate(["<s>", "</s>", "<unk>", "user", "assistant", *"abcdef"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106 no password
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    loaded = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    loaded.chat_template = PLAIN
    return loaded


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"text": "a"}, "text"),
        ({"prompt": "a", "completion": "b"}, "prompt_completion"),
        ({"prompt": [USER], "completion": [REPLY]}, "conversation_pair"),
        ({"messages": [USER, REPLY]}, "messages"),
        ({"input_ids": [1]}, "tokens"),
        ({"text": "a", "messages": [USER], "input_ids": [1]}, "tokens"),
        ({"text": "a", "messages": [USER]}, "messages"),
        ({"text": "a", "prompt": "b"}, "text"),
    ],
)
def test_forms_are_recognised_by_their_columns(row: dict[str, Any], form: str, streaming: bool) -> None:
    """Where there are several, tokens go before messages, prompts and text."""
    rows = Dataset.from_list([row])
    assert form_of(rows.to_iterable_dataset() if streaming else rows, name="task") == form


def test_unknown_columns_are_named() -> None:
    """The error lists what there is and what was expected."""
    with pytest.raises(CorpusError, match=r"general has the columns \['body', 'title'\].*rename_column"):
        form_of(Dataset.from_list([{"title": "a", "body": "b"}]), name="general")
    with pytest.raises(CorpusError, match="task has no rows"):
        first_row(Dataset.from_list([]), name="task")


@pytest.mark.parametrize(
    ("row", "labels"),
    [
        ({"input_ids": [1, 2, 3]}, [1, 2, 3]),
        ({"input_ids": [1, 2, 3], "labels": [IGNORED, 2, 3]}, [IGNORED, 2, 3]),
        ({"input_ids": [1, 2, 3], "completion_mask": [0, 1, 1]}, [IGNORED, 2, 3]),
        ({"input_ids": [1, 2, 3], "completion_mask": [0, 1, 1], "assistant_masks": [1, 0, 1]}, [IGNORED, IGNORED, 3]),
    ],
)
def test_labels_come_from_what_there_is(row: dict[str, Any], labels: list[int]) -> None:
    """Labels go before masks; every mask has to agree; without any all tokens are trained."""
    assert labels_of(row) == labels


@pytest.mark.parametrize(
    ("form", "row", "tokens", "trained"),
    [
        ("text", {"text": "a b"}, [0, 5, 6, 1], [0, 1, 2, 3]),
        ("text", {"text": "a </s>"}, [0, 5, 1], [0, 1, 2]),
        ("prompt_completion", {"prompt": "a b", "completion": " c"}, [0, 5, 6, 7, 1], [3, 4]),
        ("prompt_completion", {"prompt": "", "completion": "c"}, [0, 7, 1], [0, 1, 2]),
        ("messages", {"messages": [USER, REPLY]}, [3, 5, 6, 4, 7], [0, 1, 2, 3, 4]),
        ("conversation_pair", {"prompt": [USER], "completion": [REPLY]}, [3, 5, 6, 4, 7], [4]),
        ("tokens", {"input_ids": [7, 8], "completion_mask": [0, 1]}, [7, 8], [1]),
    ],
)
def test_each_form_has_its_own_loss(
    tokenizer: PreTrainedTokenizerFast, form: Any, row: dict[str, Any], tokens: list[int], trained: list[int]
) -> None:
    """Text and conversations in full with EOS, prompts not at all."""
    encoded = tokenise(row, tokenizer, form=form)
    assert encoded["input_ids"] == tokens
    assert encoded["labels"] == [token if index in trained else IGNORED for index, token in enumerate(tokens)]


def test_marked_templates_train_the_assistant_alone(tokenizer: PreTrainedTokenizerFast) -> None:
    """Where the template has generation markers, only what is inside is trained."""
    tokenizer.chat_template = MARKED
    encoded = tokenise({"messages": [USER, REPLY]}, tokenizer, form="messages")
    assert encoded == {"input_ids": [3, 5, 6, 4, 7], "labels": [IGNORED, IGNORED, IGNORED, IGNORED, 7]}


def test_a_tokenizer_without_eos_adds_none(tokenizer: PreTrainedTokenizerFast) -> None:
    """Nothing is made up."""
    tokenizer.eos_token = None
    assert tokenise({"text": "a"}, tokenizer, form="text")["input_ids"] == [0, 5]


def test_rows_are_cut_and_those_without_loss_are_left_out(tokenizer: PreTrainedTokenizerFast) -> None:
    """A prompt that fills max_length would be a row of nothing."""
    rows = Dataset.from_list([{"prompt": "a b c", "completion": " d"}, {"prompt": "a", "completion": " b"}])
    assert tokenised(rows, tokenizer, max_length=3).to_list() == [
        {"input_ids": [0, 5, 6], "labels": [IGNORED, IGNORED, 6]}
    ]


def test_conversations_need_a_template(tokenizer: PreTrainedTokenizerFast) -> None:
    """The message says three things that can be done."""
    tokenizer.chat_template = None
    rows = Dataset.from_list([{"messages": [USER]}])
    with pytest.raises(ConfigurationError, match=r"chat_template.*instruction-tuned.*prompt"):
        tokenised(rows, tokenizer)


def test_text_becomes_a_completion_of_nothing() -> None:
    """So that it is trained in full beside prompts."""
    task, general = Dataset.from_list([{"prompt": "a", "completion": "b"}]), Dataset.from_list([{"text": "c"}])
    assert unify(task, general)[1].to_list() == [{"prompt": "", "completion": "c"}]
    assert unify(general, task)[0].to_list() == [{"prompt": "", "completion": "c"}]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"text": "c"}, [REPLY]),
        ({"prompt": "a b", "completion": "c"}, [USER, REPLY]),
        ({"prompt": [USER], "completion": [REPLY]}, [USER, REPLY]),
    ],
)
def test_everything_becomes_messages_beside_messages(row: dict[str, Any], messages: list[dict[str, str]]) -> None:
    """Text is the assistant's; a prompt is the user's."""
    chat = Dataset.from_list([{"messages": [USER, REPLY]}])
    task, general = unify(chat, Dataset.from_list([row]))
    assert general.to_list() == [{"messages": messages}]
    assert task.features == general.features


def test_messages_with_empty_fields_get_one_schema() -> None:
    """Fields that are empty on one side are dropped; full ones are not lost silently."""
    plain = Dataset.from_list([{"messages": [USER]}])
    named = Dataset.from_list([{"messages": [{**USER, "name": None}]}], features=None)
    assert unify(plain, named)[1].to_list() == [{"messages": [USER]}]
    tools = Dataset.from_list([{"messages": [{**USER, "name": "Ann"}]}])
    with pytest.raises(CorpusError, match=r"\['name'\]"):
        unify(plain, tools)
    with pytest.raises(CorpusError, match="no string as its content"):
        unify(plain, Dataset.from_list([{"messages": [{"role": "user", "content": None, "tool": ""}]}]))


def test_messages_of_one_schema_stay_whole() -> None:
    """Tool calls and names survive where both sides have them."""
    rows = Dataset.from_list([{"messages": [{**USER, "name": "Ann"}], "id": 3}])
    assert unify(rows, rows)[0].to_list() == [{"messages": [{**USER, "name": "Ann"}]}]


def test_tokens_have_labels_on_both_sides_or_on_neither() -> None:
    """A column that only one side has would be empty on the other."""
    bare, masked = Dataset.from_list([{"input_ids": [1, 2]}]), Dataset.from_list([{"input_ids": [3], "labels": [3]}])
    assert unify(bare, bare)[0].column_names == ["input_ids"]
    task, general = unify(bare, masked)
    assert task.to_list() == [{"input_ids": [1, 2], "labels": [1, 2]}]
    assert general.to_list() == [{"input_ids": [3], "labels": [3]}]


def test_other_columns_are_dropped() -> None:
    """Whatever else the rows carry does not reach the trainer."""
    rows = Dataset.from_list([{"text": "a", "url": "b"}])
    assert unify(rows, rows)[0].column_names == ["text"]
    assert unify(rows.to_iterable_dataset(), rows)[0].column_names == ["text"]
