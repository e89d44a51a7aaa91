"""All checks on a data set."""

from __future__ import annotations

import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from datasets import Dataset

from hf_langcore.auditing import CHECKS, audit_rows
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

WITHOUT_MODEL = [name for name in CHECKS if name != "perplexity"]
FEW = 2  # clean documents of a language that get each kind of noise


def audit(rows: Any, **options: Any) -> Any:
    return audit_rows(rows, progress=False, **options)


def test_clean_text_is_clean(clean: dict[str, list[str]]) -> None:
    """Ten languages and scripts, all checks, nothing found; the languages are told right."""
    rows = [{"text": text} for texts in clean.values() for text in texts]
    report = audit(Dataset.from_list(rows))
    assert report.counts() == {}
    assert report.languages == {language: len(texts) for language, texts in clean.items()}
    assert report.settings["checks"] == WITHOUT_MODEL
    assert report.settings["expected_languages"] == sorted(clean)


def test_each_kind_of_noise_is_found(clean: dict[str, list[str]], noise: ModuleType) -> None:
    """Precision and recall of the checks on noise that was put in, for each kind over ten languages."""
    _require_recall({language: texts[:FEW] for language, texts in clean.items()}, noise, least=0.95)


@pytest.mark.real
def test_noise_in_real_text(real_data_path: Path, noise: ModuleType) -> None:
    """The same in thirty languages; of clean documents less than one in a hundred is flagged."""
    texts = {
        path.stem: [line[:500] for line in path.read_text(encoding="utf-8").splitlines()[:6]]
        for path in sorted((real_data_path / "test").glob("*.txt"))
    }
    report = audit([{"text": text} for each in texts.values() for text in each])
    assert len(report.flagged) < 0.01 * report.rows
    _require_recall({language: each[:1] for language, each in texts.items()}, noise, least=0.9)


def _require_recall(texts: dict[str, list[str]], noise: ModuleType, *, least: float) -> None:
    generator = random.Random(0)
    for check, injectors in noise.INJECTORS.items():
        for name, inject in injectors.items():
            pairs = [(text, inject(text, generator)) for each in texts.values() for text in each]
            rows = [{"text": noisy} for text, noisy in pairs if noisy != text]
            recall = len(audit(rows, checks=[check]).flagged) / len(rows)
            floor = 0.8 if name == "escapes" else least  # one escape in a text is let pass
            assert recall >= floor, (check, name, recall)


def test_findings_come_row_by_row() -> None:
    """Positions count from 0, and one row may have several."""
    rows = ["fine words here", "the " * 12 + "&nbsp;", "fine words here"]
    report = audit([{"text": text} for text in rows])
    assert [(one.row, one.kind) for one in report.findings] == [
        (1, "repeated_run"),
        (1, "markup"),
        (2, "exact_duplicate"),
    ]


@pytest.mark.parametrize(
    ("row", "part"),
    [
        ({"prompt": "Say it.", "completion": "the " * 12}, "completion"),
        (
            {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "the " * 12}]},
            "messages[1]",
        ),
        (
            {
                "prompt": [{"role": "user", "content": "Go"}],
                "completion": [{"role": "assistant", "content": "the " * 12}],
            },
            "completion[0]",
        ),
    ],
)
def test_every_form_of_rows(row: dict[str, Any], part: str) -> None:
    """The finding says where in the row; streams are read too."""
    for rows in ([row], Dataset.from_list([row]), Dataset.from_list([row]).to_iterable_dataset()):
        assert [(one.kind, one.part) for one in audit(rows, checks=["repetition"]).findings] == [
            ("repeated_run", part)
        ]


def test_tokens_are_read_through_their_tokenizer() -> None:
    """Rows of `input_ids` need the tokenizer that made them."""

    class Letters:
        def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
            return "".join(chr(i) for i in ids if i or not skip_special_tokens)

    rows = [{"input_ids": [0, *map(ord, "the " * 12)]}]
    assert audit(rows, checks=["repetition"], tokenizer=Letters()).flagged == [0]
    with pytest.raises(ConfigurationError, match="input_ids"):
        audit(rows)


def test_the_model_scores_every_row(llama: Any, tokenizer: Any, clean: dict[str, list[str]]) -> None:
    """With a model the check is on; rows of a language are judged among themselves."""
    rows = [{"text": text[:40]} for text in clean["en"]]
    report = audit(rows, model=llama, tokenizer=tokenizer, block_size=64)
    assert [one.row for one in report.scores] == list(range(len(rows)))
    assert report.perplexity()["tokens"] == sum(len(row["text"].encode()) for row in rows)
    assert report.settings.get("start_token") == "bos"
    assert audit(rows, model=llama, tokenizer=tokenizer, checks=["encoding"]).scores == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"checks": ["spelling"]}, InputError, "out of repetition, non_words"),
        ({"checks": "encoding"}, InputError, "must be a list"),
        ({"checks": []}, InputError, "must be a list"),
        ({"checks": ["perplexity"]}, ConfigurationError, "needs model="),
        ({"repeats": 2}, InputError, "at least 3"),
        ({"similarity": 0}, InputError, "similarity must be a number above 0"),
        ({"minority": 1.5}, InputError, "minority"),
        ({"language_ratio": 0.5}, InputError, "language_ratio"),
        ({"outlier_z": (1.0, 5.0)}, InputError, "outlier_z"),
        ({"languages": ["xx"]}, InputError, "xx"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Before any row is read."""
    with pytest.raises(error, match=message):
        audit([{"text": "a"}], **options)


def test_wrong_rows_are_named(llama: Any) -> None:
    """What is no data set, has no rows, no known form, or can be read only once."""
    for rows in ("data.jsonl", 3, iter([{"text": "a"}]), {"text": ["a"]}, ["a"]):
        with pytest.raises(CorpusError):
            audit(rows)
    with pytest.raises(CorpusError, match="no rows"):
        audit([])
    with pytest.raises(CorpusError, match="no known form"):
        audit([{"words": "a"}])
    with pytest.raises(ConfigurationError, match="tokenizer="):
        audit([{"text": "a"}], model=llama)
    chat = [{"messages": [{"role": "user", "content": "a"}]}]

    class Plain:
        chat_template = None

    with pytest.raises(ConfigurationError, match="chat template"):
        audit(chat, tokenizer=Plain())
    assert audit(chat, tokenizer=Plain(), checks=["encoding"]).flagged == []
