"""A model writes general data: the same texts in batches of any size, kept on disk, without the useless ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerFast

from hf_langcore.errors import ConfigurationError, CorpusError, InputError, UnsupportedModelError
from hf_langcore.replay import ReplaySettings, generate_general_data, generate_replay

SHORT = ReplaySettings(max_new_tokens=12)
Texts = dict[str, list[str]]


@pytest.fixture
def written(model: Any, tokenizer: PreTrainedTokenizerFast) -> Callable[..., Any]:
    """Generate ten rows unless told otherwise."""

    def run(texts: Texts | None = None, **options: Any) -> Any:
        values = {"rows": 10, "settings": SHORT, "progress": False, "batch_size": 4, **options}
        return generate_replay(values.pop("model", model), tokenizer, texts, **values)

    return run


def test_each_language_has_its_part_and_begins_with_its_texts(
    written: Callable[..., Any], texts: Texts, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Rows are shared equally, and begin with the first four tokens of the texts, each in its turn."""
    rows = written(texts).rows
    assert rows.column_names == ["text", "language", "source"]
    assert Counter(rows["language"]) == {"en": 5, "de": 5}
    assert set(rows["source"]) == {"seeded"}
    english = [row["text"] for row in rows if row["language"] == "en"]
    assert [text[:4] for text in english] == ["the ", "a do", "we s", "the ", "a do"]
    assert len(set(english)) == 5


def test_without_texts_rows_begin_with_nothing(written: Callable[..., Any]) -> None:
    """Their language is unknown."""
    rows = written().rows
    assert set(rows["language"]) == set(rows["source"]) == {"unconditional"}
    assert len(set(rows["text"])) == 10


@pytest.mark.parametrize("batch_size", [1, 3, "auto"])
def test_the_texts_do_not_depend_on_the_batches(
    written: Callable[..., Any], texts: Texts, batch_size: int | str
) -> None:
    """Each row has random numbers of its own, and padding is not seen."""
    assert written(texts, batch_size=batch_size).rows.to_list() == written(texts).rows.to_list()


def test_the_seed_decides(written: Callable[..., Any], texts: Texts) -> None:
    """The global generator has no part in it, and is left alone."""
    first = written(texts).rows.to_list()
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    assert written(texts).rows.to_list() == first
    assert torch.equal(torch.random.get_rng_state(), state)
    assert written(texts, settings=ReplaySettings(max_new_tokens=12, seed=1)).rows.to_list() != first


def test_more_rows_begin_with_the_same(written: Callable[..., Any]) -> None:
    """So that asking for more generates only those."""
    assert written(rows=15).rows.to_list()[:10] == written().rows.to_list()


def test_a_second_call_generates_nothing(written: Callable[..., Any], texts: Texts, tmp_path: Path) -> None:
    """Finished batches are kept; more rows cost only what is new."""
    first = written(texts, cache_dir=tmp_path)
    again = written(texts, cache_dir=tmp_path, batch_size=3)
    assert first.generated >= 10
    assert again.generated == 0
    assert again.rows.to_list() == first.rows.to_list()
    more = written(texts, cache_dir=tmp_path, rows=14)
    assert more.generated == 4 + sum(sum(flaws.values()) for flaws in more.dropped.values()) - sum(
        sum(flaws.values()) for flaws in first.dropped.values()
    )


@pytest.mark.parametrize("change", ["weights", "settings", "texts", "tokenizer"])
def test_other_models_texts_and_settings_have_batches_of_their_own(
    written: Callable[..., Any],
    texts: Texts,
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    change: str,
) -> None:
    """Nothing of one is taken for the other."""
    written(texts, cache_dir=tmp_path)
    options: dict[str, Any] = {}
    if change == "weights":
        with torch.no_grad():
            model.lm_head.weight[5, 5] += 1e-3
    elif change == "tokenizer":
        tokenizer.chat_template = "other"
    elif change == "settings":
        options["settings"] = ReplaySettings(max_new_tokens=12, top_p=0.9)
    else:
        texts = {language: [f"x{text}" for text in documents] for language, documents in texts.items()}
    assert written(texts, cache_dir=tmp_path, **options).generated >= 10


def test_an_adapter_writes_and_is_kept_for_itself(written: Callable[..., Any], model: Any, tmp_path: Path) -> None:
    """Its texts are neither those of the base nor those of other adapters."""
    base = written(cache_dir=tmp_path).rows.to_list()
    found = [base]
    for seed in (0, 1):
        torch.manual_seed(seed)
        adapter = LoraConfig(init_lora_weights=False, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        wrapped = get_peft_model(model, adapter)
        found.append(written(cache_dir=tmp_path, model=wrapped).rows.to_list())
        model = wrapped.unload()
    assert all(rows not in found[:number] for number, rows in enumerate(found))
    assert written(cache_dir=tmp_path, model=model).rows.to_list() == base


def test_a_killed_run_goes_on_at_the_next_batch(
    written: Callable[..., Any], model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is not written again, and the texts are those of a run that was not interrupted."""
    whole = written()
    generate, calls = model.generate, []

    def die(**options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return generate(**options)

    monkeypatch.setattr(model, "generate", die)
    with pytest.raises(KeyboardInterrupt):
        written(cache_dir=tmp_path)
    monkeypatch.setattr(model, "generate", generate)
    resumed = written(cache_dir=tmp_path)
    assert resumed.rows.to_list() == whole.rows.to_list()
    assert resumed.generated == whole.generated - 8


def test_a_batch_that_cannot_be_read_is_written_again(written: Callable[..., Any], tmp_path: Path) -> None:
    """A damaged file costs its batch and nothing else."""
    first = written(cache_dir=tmp_path)
    damaged = min(tmp_path.glob("replay-*/batch-*.json"))
    damaged.write_text("{", encoding="utf-8")
    again = written(cache_dir=tmp_path)
    assert 0 < again.generated <= 4
    assert again.rows.to_list() == first.rows.to_list()


def test_loops_and_nothing_are_dropped_and_replaced(written: Callable[..., Any], model: Any, texts: Texts) -> None:
    """A model that mostly repeats itself gives fewer rows of use; what was dropped is counted."""
    with torch.no_grad():
        model.lm_head.weight *= 8  # so sure of itself that it runs in loops
    replay = written(texts, rows=4, settings=ReplaySettings(max_new_tokens=40, temperature=0.3))
    dropped = sum(sum(flaws.values()) for flaws in replay.dropped.values())
    assert dropped > 0
    assert replay.generated >= len(replay.rows) + dropped


def test_a_model_that_writes_nothing_is_an_error(written: Callable[..., Any], model: Any) -> None:
    """With what was dropped."""
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[1] = 0
        model.model.norm.weight.fill_(0)
    model.generation_config.eos_token_id = list(range(258))  # every token ends the text
    with pytest.raises(CorpusError, match=r"unconditional.*none is of use \(dropped: 40 empty\)"):
        written()


def test_chat_models_invent_instructions_and_answer_them(
    written: Callable[..., Any], tokenizer: PreTrainedTokenizerFast
) -> None:
    """The user's turn is opened as the template opens it, and the answer follows the whole turn."""
    rows = written(settings=ReplaySettings(max_new_tokens=10, chat=True), rows=5).rows
    assert rows.column_names == ["messages", "language", "source"]
    assert set(rows["source"]) == {"chat"}
    for messages in rows["messages"]:
        assert [message["role"] for message in messages] == ["user", "assistant"]
        assert all(0 < len(message["content"]) <= 20 for message in messages)
    again = written(settings=ReplaySettings(max_new_tokens=10, chat=True), rows=5, batch_size=2).rows
    assert again.to_list() == rows.to_list()


@pytest.mark.parametrize("chat", [False, True])
def test_the_context_is_not_exceeded(
    written: Callable[..., Any], model: Any, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    """More tokens than the model has positions for are cut; a prompt that fills them is an error."""
    generate, lengths = model.generate, []
    model.generation_config.eos_token_id = None

    def watch(**options: Any) -> Any:
        ids = generate(**options)
        lengths.append(ids.shape[1])
        return ids

    monkeypatch.setattr(model, "generate", watch)
    new_tokens = 20 if chat else 500
    written(settings=ReplaySettings(max_new_tokens=new_tokens, chat=chat), rows=6)
    assert max(lengths) == 96 if not chat else max(lengths) <= 96
    with pytest.raises(InputError, match="97 tokens fills the model's context"):
        written({"en": ["a" * 200]}, settings=ReplaySettings(seed_tokens=96))


def test_the_model_is_left_as_it_was(written: Callable[..., Any], model: Any) -> None:
    """Dropout is off meanwhile, and on again."""
    model.train()
    written(rows=2)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_wrong_arguments_are_named(
    written: Callable[..., Any], model: Any, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Before anything is generated."""
    with pytest.raises(InputError, match="rows must be a whole number of at least 1, got 0"):
        written(rows=0)
    with pytest.raises(CorpusError, match="'xx' has no text"):
        written({"xx": []})
    with pytest.raises(UnsupportedModelError, match="Linear has no `generate`"):
        generate_general_data(torch.nn.Linear(1, 1), tokenizer)
    tokenizer.chat_template = None
    with pytest.raises(ConfigurationError, match="chat=True needs a chat template"):
        written(settings=ReplaySettings(chat=True))
