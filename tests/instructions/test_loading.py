"""Mixed files become conversations, and wrong rows a list."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.data.rows import form_of
from hf_langcore.errors import CorpusError, InputError
from hf_langcore.instructions import inspect_instructions, load_instructions
from tests.instructions.conftest import llama

RIGHT = [
    {"instruction": "Name a colour.", "input": "", "output": "Red."},
    {"inputs": "Is it late?", "targets": "No."},
    {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    {"instruction": "Human: a\nAssistant: b\nHuman: c\nAssistant:", "output": "d"},
    {"question": "Where?", "answer": "Here."},
    {"prompt": "1 + 1 =", "completion": " 2"},
    {"question": "When?", "answer": "Now."},
]
WRONG = [{"instruction": "Ask"}, {"messages": [{"role": "user", "content": "x" * 500}]}, {"foo": 1}]


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Right rows, wrong ones between and behind them, and a broken line."""
    rows: list[Any] = [*RIGHT[:3], WRONG[0], *RIGHT[3:], *WRONG[1:]]
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n", encoding="utf-8")
    return path


def test_mixed_formats_are_counted_and_wrong_rows_listed(mixed: Path) -> None:
    """In order, with row, line, format, reason and the beginning of the row."""
    found = load_instructions(mixed, on_error="skip")
    assert len(found.dataset) == 8
    assert found.dataset.column_names == ["messages"]
    assert found.dataset[6]["messages"] == [
        {"role": "user", "content": "1 + 1 ="},
        {"role": "assistant", "content": " 2"},
    ]
    assert len(found.dataset[4]["messages"]) == 4
    assert found.formats == {
        "question_answer": 2,
        **dict.fromkeys(("alpaca", "flan", "sharegpt", "openai", "belle", "prompt_completion"), 1),
    }
    assert [(one.row, one.line, one.format, one.kind) for one in found.problems] == [
        (3, 4, "alpaca", "missing_answer"),
        (9, 10, "openai", "last_turn"),
        (10, 11, None, "unknown_format"),
        (11, 12, None, "invalid_json"),
    ]
    assert found.problems[0].excerpt == '{"instruction": "Ask"}'
    assert len(found.problems[1].excerpt) == 121
    assert str(found.problems[3]).startswith("row 11 (line 12): the line is no JSON")


def test_wrong_rows_are_an_error_that_lists_them(mixed: Path) -> None:
    """Unless they are to be skipped; where no row is right, in any case."""
    with pytest.raises(CorpusError, match="4 of 12 rows cannot be used") as caught:
        load_instructions(mixed)
    assert "row 3 (line 4): there is no answer" in str(caught.value)
    assert "on_error='skip'" in str(caught.value)
    with pytest.raises(CorpusError, match="No row is right"):
        load_instructions(WRONG, on_error="skip")
    with pytest.raises(CorpusError, match="and 3 more"):
        load_instructions(WRONG[:1] * 13)
    with pytest.raises(CorpusError, match="no rows"):
        load_instructions([])


def test_a_given_format_holds_for_all_rows() -> None:
    """Rows of others are wrong then."""
    found = inspect_instructions(RIGHT, format="question_answer")
    assert found.formats == {"question_answer": 2}
    assert [one.row for one in found.problems] == [0, 1, 2, 3, 4, 6]
    assert found.problems[0].line is None
    assert json.loads(json.dumps(found.to_dict()))["wrong_rows"] == 6


def test_the_last_answer_as_a_completion() -> None:
    """What comes before it is the prompt, the system message included."""
    found = load_instructions(RIGHT[4:5], form="conversation_pair", system="Be kind.")
    row = found.dataset[0]
    assert [message["content"] for message in row["prompt"]] == ["Be kind.", "a", "b", "c"]
    assert row["completion"] == [{"role": "assistant", "content": "d"}]
    assert form_of(found.dataset, name="rows") == "conversation_pair"


@pytest.mark.parametrize(
    "options", [{"format": "odd"}, {"on_error": "ignore"}, {"form": "text"}], ids=lambda options: next(iter(options))
)
def test_unknown_options_are_named(options: dict[str, Any]) -> None:
    """With the ones that are possible."""
    with pytest.raises(InputError, match=f"{next(iter(options))} is"):
        load_instructions(RIGHT, **options)


@pytest.mark.parametrize("form", ["messages", "conversation_pair"])
def test_what_is_loaded_can_be_trained(bytewise: Any, tmp_path: Path, form: Any) -> None:
    """TRL's trainer takes the data set as it is; one step changes the model."""
    from hf_langcore import CoreRegionSFTConfig, CoreRegionSFTTrainer

    model = llama().train()
    before = model.lm_head.weight.detach().clone()
    arguments = CoreRegionSFTConfig(
        output_dir=str(tmp_path),
        max_steps=1,
        per_device_train_batch_size=8,
        report_to="none",
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
        logging_strategy="no",
        learning_rate=1e-2,
    )
    trainer = CoreRegionSFTTrainer(
        model=model,
        args=arguments,
        train_dataset=load_instructions(RIGHT, form=form).dataset,
        processing_class=bytewise,
    )
    trainer.train()
    assert not torch.equal(model.lm_head.weight, before)
