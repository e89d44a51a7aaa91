"""Mixing: the ratio is exact, epochs differ, nothing is empty, streams keep time."""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, IterableDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

from hf_langcore.data.mixture import mix_general_data
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

FORMS: dict[str, dict[str, Any]] = {
    "text": {"text": "a b c"},
    "prompt_completion": {"prompt": "a b", "completion": " c d"},
    "messages": {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
    "conversation_pair": {
        "prompt": [{"role": "user", "content": "a"}],
        "completion": [{"role": "assistant", "content": "b"}],
    },
    "tokens": {"input_ids": [4, 5, 6], "labels": [-100, 5, 6]},
}
PAIRS = list(itertools.product(FORMS, FORMS))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word, with BOS and EOS and a chat template."""
    words = {word: index for index, word in enumerate(["<s>", "</s>", "<unk>", "user", *"abcdefgh", "assistant"])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))  # noqa: S106 no password
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    loaded = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    loaded.chat_template = (
        "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}assistant {% endif %}"
    )
    return loaded


def texts(count: int, *, prefix: str) -> Dataset:
    return Dataset.from_list([{"text": f"{prefix}{index}"} for index in range(count)])


def split(rows: Any) -> tuple[list[str], list[str]]:
    """Texts of task rows and of general rows, in order."""
    found = [row["text"] for row in rows]
    return [text for text in found if text[0] == "t"], [text for text in found if text[0] == "g"]


@given(
    task=st.integers(1, 15),
    general=st.integers(1, 30),
    ratio=st.floats(0, 6),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
@settings(max_examples=20, deadline=None)
def test_the_ratio_is_exact(task: int, general: int, ratio: float, seed: int, epoch: int) -> None:
    """All task rows once and round(ratio * task) general rows, as evenly as they can be spread."""
    mixed = mix_general_data(texts(task, prefix="t"), texts(general, prefix="g"), ratio=ratio, seed=seed, epoch=epoch)
    from_task, from_general = split(mixed)
    assert sorted(from_task) == sorted(f"t{index}" for index in range(task))
    assert len(from_general) == round(ratio * task)
    times = Counter(from_general)
    assert max(times.values(), default=0) - min(times[f"g{i}"] for i in range(general)) <= 1


@given(task=st.integers(1, 12), general=st.integers(1, 30), ratio=st.floats(0, 5), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_stream_keeps_the_ratio_after_every_task_row(task: int, general: int, ratio: float, seed: int) -> None:
    """When the next task row comes, round(ratio * k) general rows have come for the k before it."""
    stream = mix_general_data(
        texts(task, prefix="t").to_iterable_dataset(), texts(general, prefix="g"), ratio=ratio, seed=seed
    )
    seen_task = seen_general = 0
    for row in stream:
        if row["text"].startswith("t"):
            assert seen_general == round(ratio * seen_task)
            seen_task += 1
        else:
            seen_general += 1
    assert (seen_task, seen_general) == (task, round(ratio * task))


def test_seed_and_epoch_decide_everything() -> None:
    """The same pair gives the same rows in the same order; another epoch has another sample."""
    task, general = texts(10, prefix="t"), texts(200, prefix="g")
    first = mix_general_data(task, general, seed=3, epoch=1)["text"]
    assert list(mix_general_data(task, general, seed=3, epoch=1)["text"]) == list(first)
    for other in ({"seed": 4, "epoch": 1}, {"seed": 3, "epoch": 2}):
        mixed = mix_general_data(task, general, **other)["text"]
        assert set(mixed) != set(first)
        assert len(mixed) == len(first) == 60


def test_rows_are_shuffled_together() -> None:
    """Task rows do not come first, nor in their own order."""
    mixed = list(mix_general_data(texts(20, prefix="t"), texts(200, prefix="g"), ratio=1)["text"])
    from_task = [text for text in mixed if text[0] == "t"]
    assert from_task != sorted(from_task, key=lambda text: int(text[1:]))
    assert {text[0] for text in mixed[:20]} == {"t", "g"}
    assert len(mixed) == 40


def test_a_small_general_set_repeats_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The warning says how often rows repeat."""
    with caplog.at_level(logging.WARNING):
        mix_general_data(texts(4, prefix="t"), texts(5, prefix="g"), ratio=5)
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "The mixture needs 20 rows of general and there are 5: each comes 4 times on average in one epoch."
    )


@pytest.mark.parametrize(("task", "general"), PAIRS)
@pytest.mark.parametrize("streaming", [False, True])
def test_every_pair_of_forms_mixes_with_a_tokenizer(
    tokenizer: PreTrainedTokenizerFast, task: str, general: str, streaming: bool
) -> None:
    """No column is empty in any row, and the rows have one schema."""
    sides = [Dataset.from_list([FORMS[form] | {"extra": index} for index in range(6)]) for form in (task, general)]
    if streaming:
        sides = [side.to_iterable_dataset() for side in sides]
    mixed = mix_general_data(*sides, ratio=2, tokenizer=tokenizer)
    assert isinstance(mixed, IterableDataset if streaming else Dataset)
    rows = list(mixed)
    expected = set(FORMS[task]) if task == general else {"input_ids", "labels"}
    assert len(rows) == 18
    assert all(set(row) == expected and None not in row.values() for row in rows)
    assert set(mixed.column_names) == expected


@pytest.mark.parametrize(("task", "general"), [pair for pair in PAIRS if "tokens" not in pair])
def test_every_pair_of_forms_mixes_without_a_tokenizer(
    task: str, general: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Text beside prompts becomes a completion, anything beside conversations becomes messages, with a warning."""
    sides = [Dataset.from_list([FORMS[form]] * 3) for form in (task, general)]
    with caplog.at_level(logging.WARNING):
        mixed = mix_general_data(*sides, ratio=1)
    forms = {task, general}
    if len(forms) == 1:
        expected = set(FORMS[task])
    else:
        expected = {"prompt", "completion"} if forms == {"text", "prompt_completion"} else {"messages"}
    assert set(mixed.column_names) == expected
    assert all(None not in row.values() for row in mixed)
    assert ("tokenizer=" in caplog.text) == (expected == {"messages"} and len(forms) > 1)


def test_tokens_and_text_need_a_tokenizer() -> None:
    """There is no form that holds both."""
    with pytest.raises(ConfigurationError, match=r"task: tokens, general: text.*tokenizer="):
        mix_general_data(Dataset.from_list([FORMS["tokens"]]), Dataset.from_list([FORMS["text"]]))


def test_losses_are_exact(tokenizer: PreTrainedTokenizerFast) -> None:
    """Of a prompt nothing is trained, of text all, EOS included."""
    task = Dataset.from_list([{"prompt": "a b", "completion": " c d"}])
    mixed = mix_general_data(task, Dataset.from_list([{"text": "e f"}]), ratio=1, tokenizer=tokenizer)
    vocab = tokenizer.get_vocab()
    a, b, c, d, e, f = (vocab[word] for word in "abcdef")
    assert {tuple(row["input_ids"]): row["labels"] for row in mixed} == {
        (0, a, b, c, d, 1): [-100, -100, -100, c, d, 1],
        (0, e, f, 1): [0, e, f, 1],
    }


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("form", ["text", "tokens"])
def test_counted_by_tokens(tokenizer: PreTrainedTokenizerFast, form: str, streaming: bool) -> None:
    """General rows come until their tokens reach the ratio: 4 task rows of 4 tokens want 16 rows of 3."""
    rows = {
        "text": ([{"text": "a b"}] * 4, [{"text": "c"}] * 40),
        "tokens": ([{"input_ids": [0, 4, 5, 1]}] * 4, [{"input_ids": [0, 6, 1]}] * 40),
    }[form]
    task, general = (Dataset.from_list(side) for side in rows)
    if streaming:
        task = task.to_iterable_dataset()
    mixed = mix_general_data(task, general, ratio=3, by="tokens", tokenizer=tokenizer if form == "text" else None)
    assert len(list(mixed)) == 4 + 16


def test_tokens_are_counted_as_they_are_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    """Tokens behind max_length do not count."""
    task, general = Dataset.from_list([{"text": "a b c d e f"}]), Dataset.from_list([{"text": "a"}] * 9)
    mixed = mix_general_data(task, general, ratio=3, by="tokens", tokenizer=tokenizer, max_length=4)
    assert len(mixed) == 1 + 4  # 12 tokens of 3 each


def test_counting_tokens_needs_a_tokenizer() -> None:
    """Text has no tokens by itself."""
    with pytest.raises(ConfigurationError, match="needs tokenizer="):
        mix_general_data(texts(1, prefix="t"), texts(1, prefix="g"), by="tokens")


@pytest.mark.parametrize("mapped", [False, True])
def test_a_stream_draws_again_with_set_epoch(mapped: bool) -> None:
    """Another epoch has other general rows, also behind a map; the same epoch has the same ones."""
    stream = mix_general_data(texts(5, prefix="t").to_iterable_dataset(), texts(100, prefix="g"), ratio=2)
    if mapped:
        stream = stream.map(lambda row: {"text": row["text"] + "!"})
    epochs = []
    for epoch in (0, 1, 0, 2):
        stream.set_epoch(epoch)
        epochs.append(split(stream))
    assert epochs[0] == epochs[2]
    assert len({frozenset(general) for _, general in epochs}) == 3
    assert len({frozenset(task) for task, _ in epochs}) == 1


def test_a_stream_has_seeds_and_an_epoch_to_begin_with() -> None:
    """As in memory: seed and epoch decide, and datasets' own shuffle draws again."""
    task, general = texts(5, prefix="t").to_iterable_dataset(), texts(100, prefix="g").to_iterable_dataset()
    runs = [
        frozenset(split(mix_general_data(task, general, **options))[1])
        for options in ({}, {}, {"seed": 1}, {"epoch": 1})
    ]
    assert runs[0] == runs[1]
    assert len(set(runs)) == 3
    shuffled = mix_general_data(task, general).shuffle(seed=5, buffer_size=4)
    assert frozenset(split(shuffled)[1]) != runs[0]


def test_a_stream_starts_the_general_data_again(caplog: pytest.LogCaptureFixture) -> None:
    """It ends with the task rows, not with the general ones; one warning says so."""
    stream = mix_general_data(
        texts(6, prefix="t").to_iterable_dataset(), texts(4, prefix="g").to_iterable_dataset(), ratio=2
    )
    with caplog.at_level(logging.WARNING):
        task, general = split(stream)
    assert len(task) == 6
    assert set(Counter(general).values()) == {3}
    assert len(caplog.records) == 1


def test_a_stream_loads_in_workers_without_repeating() -> None:
    """With two workers every row still comes once: there is one source, so one worker does the work."""
    stream = mix_general_data(texts(4, prefix="t").to_iterable_dataset(), texts(50, prefix="g"), ratio=1)
    loaded = list(DataLoader(stream.with_format("torch"), batch_size=None, num_workers=2))
    assert len(loaded) == 8


def test_an_in_memory_mixture_can_be_saved(tmp_path: Path) -> None:
    """It is an ordinary data set."""
    mixed = mix_general_data(texts(2, prefix="t"), texts(5, prefix="g"), ratio=1)
    mixed.save_to_disk(tmp_path / "mixed")
    assert len(Dataset.load_from_disk(tmp_path / "mixed")) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": -1}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"ratio": float("inf")}, "ratio"),
        ({"ratio": "5"}, "ratio"),
        ({"by": "words"}, "by must be"),
        ({"seed": -1}, "seed"),
        ({"epoch": -1}, "epoch"),
    ],
    ids=str,
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """Before anything is read."""
    with pytest.raises(InputError, match=message):
        mix_general_data(texts(1, prefix="t"), texts(1, prefix="g"), **options)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("empty", ["task", "general"])
def test_an_empty_side_is_named(empty: str, streaming: bool) -> None:
    """Also in a stream, before training starts."""
    sides = {"task": texts(2, prefix="t"), "general": texts(2, prefix="g")}
    if streaming:
        sides = {name: side.to_iterable_dataset() for name, side in sides.items()}
    sides[empty] = sides[empty].filter(lambda row: False)
    with pytest.raises(CorpusError, match=f"{empty} has no rows"):
        mix_general_data(sides["task"], sides["general"])


def test_rows_of_which_nothing_is_trained_are_an_error(tokenizer: PreTrainedTokenizerFast) -> None:
    """A prompt that fills max_length leaves no token to learn."""
    task = Dataset.from_list([{"prompt": "a b c d", "completion": " e"}])
    with pytest.raises(CorpusError, match="No token of the task rows"):
        mix_general_data(task, Dataset.from_list([{"text": "a"}]), tokenizer=tokenizer, max_length=3)


@pytest.mark.parametrize("streaming", [False, True])
def test_general_rows_without_tokens_do_not_loop_for_ever(streaming: bool) -> None:
    """No number of empty rows reaches a ratio of tokens."""
    task, general = Dataset.from_list([{"input_ids": [1]}]), Dataset.from_list([{"input_ids": [1]}, {"input_ids": []}])
    general = general.select([1])
    if streaming:
        general = general.to_iterable_dataset()
    with pytest.raises(CorpusError, match="no token in any row of general"):
        list(mix_general_data(task, general, by="tokens"))


def test_ratio_zero_is_the_task_alone() -> None:
    """Nothing is drawn, in memory or streaming."""
    task, general = texts(3, prefix="t"), texts(3, prefix="g")
    assert sorted(mix_general_data(task, general, ratio=0)["text"]) == ["t0", "t1", "t2"]
    assert split(mix_general_data(task.to_iterable_dataset(), general, ratio=0))[1] == []


def test_several_sources_share_by_weight() -> None:
    """The largest remainder: 21 rows, three to two to one, with a column that says where each comes from."""
    sources = {name: texts(30, prefix=name) for name in ("ga", "gb", "gc")}
    mixed = mix_general_data(
        texts(7, prefix="t"), sources, ratio=3, weights={"gc": 1, "ga": 3, "gb": 2}, source_column="from"
    )
    assert Counter(mixed["from"]) == {"task": 7, "ga": 11, "gb": 7, "gc": 3}
    assert all(row["text"].startswith(row["from"][:2] if row["from"] != "task" else "t") for row in mixed)
    assert len(set(mixed["text"])) == 28


def test_sources_share_equally_without_weights() -> None:
    """A list will do; the first gets what is left over."""
    mixed = mix_general_data(texts(1, prefix="t"), [texts(9, prefix="x"), texts(9, prefix="y")], ratio=5)
    assert Counter(text[0] for text in mixed["text"]) == {"t": 1, "x": 3, "y": 2}


def test_three_forms_mix_each_with_its_own_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    """A prompt and completion, text, and a conversation."""
    sources = {form: Dataset.from_list([FORMS[form]] * 4) for form in ("text", "messages")}
    mixed = mix_general_data(
        Dataset.from_list([FORMS["prompt_completion"]]), sources, ratio=2, tokenizer=tokenizer, source_column="from"
    )
    whole = {row["from"]: row["labels"] == row["input_ids"] for row in mixed}
    assert whole == {"task": False, "text": True, "messages": True}


def test_three_forms_need_a_tokenizer_or_become_messages(caplog: pytest.LogCaptureFixture) -> None:
    """The warning names every source with its form."""
    sources = {"a": Dataset.from_list([FORMS["text"]]), "b": Dataset.from_list([FORMS["messages"]])}
    with caplog.at_level(logging.WARNING):
        mixed = mix_general_data(Dataset.from_list([FORMS["prompt_completion"]]), sources, ratio=2)
    assert mixed.column_names == ["messages"]
    assert "(task: prompt_completion, a: text, b: messages)" in caplog.text


def test_an_empty_one_of_several_sources_is_named() -> None:
    """Not "general", but the source."""
    with pytest.raises(CorpusError, match="news has no rows"):
        mix_general_data(
            texts(2, prefix="t"),
            {"wiki": texts(2, prefix="g"), "news": texts(2, prefix="g").filter(lambda row: False)},
        )


def test_sources_may_be_named_by_files(tmp_path: Path) -> None:
    """As the trainer takes them."""
    (tmp_path / "wiki.txt").write_text("one text\nanother text\n", encoding="utf-8")
    task = Dataset.from_dict({"text": ["a", "b"]})
    mixed = mix_general_data(task, {"wiki": tmp_path / "wiki.txt"}, ratio=1.0, source_column="source")
    assert sorted(zip(mixed["source"], mixed["text"], strict=True)) == [
        ("task", "a"), ("task", "b"), ("wiki", "another text"), ("wiki", "one text"),
    ]  # fmt: skip
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(CorpusError, match="is empty"):
        mix_general_data(task, str(tmp_path / "empty.jsonl"))
