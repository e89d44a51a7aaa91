"""Rows that a model finds too hard or too easy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hf_langcore.auditing.outliers import PerplexityCheck, Scored, robust_z
from hf_langcore.auditing.parts import Part, view_of
from hf_langcore.evaluation import evaluate_perplexity

SHOWN = Part("text", "x")


class WordTokenizer:
    """Bytes folded into a small vocabulary, BOS in front as Llama's tokenizers put it."""

    bos_token_id, eos_token_id, all_special_ids = 1, 2, (1, 2)

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        return {"input_ids": [1] * add_special_tokens + [3 + byte % 117 for byte in text.encode()]}


def check(model: Any, form: Any = "text", **options: Any) -> PerplexityCheck:
    defaults = {
        "outlier_z": (-5.0, 5.0),
        "max_length": None,
        "block_size": 32,
        "batch_size": "auto",
        "bos_token_id": None,
    }
    return PerplexityCheck(model, WordTokenizer(), form=form, **{**defaults, **options})


def scored(made: PerplexityCheck, rows: list[dict[str, Any]], form: Any = "text") -> list[Scored]:
    for number, row in enumerate(rows):
        assert not list(made.examine(view_of(number, row, form=form)))
    list(made.finish())
    return made.scored


@pytest.mark.parametrize(
    "text", ["the cat sat", "the cat sat on the mat and looked at the moon for a very long time " * 2]
)
def test_a_row_has_the_perplexity_of_evaluate_perplexity(llama: Any, text: str) -> None:
    """Also where it needs several windows; the end token is not counted."""
    (one,) = scored(check(llama), [{"text": text}])
    report = evaluate_perplexity(llama, WordTokenizer(), {"en": [text]}, block_size=32, progress=False)
    assert one.tokens == report.tokens["en"] == len(text)
    assert one.nll == pytest.approx(report.nll["en"], rel=1e-5)


def test_batching_does_not_change_a_row(llama: Any) -> None:
    """Rows are scored together and padded."""
    rows = [{"text": "abc " * count} for count in (1, 9, 3, 20)]
    together = scored(check(llama), rows)
    alone = [scored(check(llama, batch_size=1), [row])[0] for row in rows]
    assert [one.row for one in together] == [0, 1, 2, 3]
    assert [one.nll for one in together] == pytest.approx([one.nll for one in alone], rel=1e-5)


def test_only_the_completion_counts(llama: Any) -> None:
    """The prompt is context: its tokens are not scored, and yet change the score."""
    form = "prompt_completion"
    rows = [{"prompt": "one two ", "completion": "three"}, {"prompt": "", "completion": "three"}]
    first, second = scored(check(llama, form), rows, form)
    assert (first.tokens, second.tokens) == (5, 5)
    ids = torch.tensor([[1, *WordTokenizer()("one two three", add_special_tokens=False)["input_ids"]]])
    with torch.inference_mode():
        losses = torch.nn.functional.cross_entropy(llama(ids).logits[0, :-1], ids[0, 1:], reduction="none")
    assert first.nll == pytest.approx(float(losses[-5:].mean()), rel=1e-5)
    assert first.nll != pytest.approx(second.nll, rel=1e-3)


def test_what_training_cuts_is_not_scored(llama: Any) -> None:
    """`max_length` counts the start token, as in training; rows that cannot be read or trained have no score."""
    (one,) = scored(check(llama, max_length=9), [{"text": "a long enough text"}])
    assert one.tokens == 8
    assert scored(check(llama), [{"text": None}, {"other": "x"}]) == []


def test_outliers_stand_out(llama: Any) -> None:
    """A model that has seen one sentence only: a sentence of other letters is too hard; the threshold decides."""
    optimizer = torch.optim.Adam(llama.parameters(), lr=1e-2)
    ids = torch.tensor([WordTokenizer()("we walk home ")["input_ids"]])
    for _ in range(20):
        optimizer.zero_grad()
        llama.train()(ids, labels=ids).loss.backward()
        optimizer.step()
    llama.eval()
    words = ["we walk home again", "home we walk now", "we all walk home", "walk home we say", "a walk home we do"]
    rows = [{"text": words[index % 5]} for index in range(25)]
    found = {}
    for high in (1.0, 1e3):
        made = check(llama, outlier_z=(-1e3, high))
        for number, row in enumerate([*rows, {"text": "ZQXJ 9981 %%## ZZ"}]):
            made.examine(view_of(number, row, form="text"))
        found[high] = list(made.finish())
    assert found[1e3] == []
    worst = max(found[1.0], key=lambda one: one.score)
    assert (worst.row, worst.kind, worst.part) == (25, "high_perplexity", "text")
    assert "over 17 tokens, robust z +" in worst.detail
    assert worst.excerpt == "ZQXJ 9981 %%## ZZ"


def test_robust_z_by_hand() -> None:
    """Median and median absolute deviation; neither is moved by the outlier."""
    rows = [Scored(i, 2.0 + 0.1 * (i % 5), 50, SHOWN) for i in range(25)] + [Scored(25, 9.0, 50, SHOWN)]
    values = robust_z(rows, [None] * 26)
    assert values[2] == pytest.approx(0.0, abs=1e-6)
    assert values[4] == pytest.approx(0.2 / (1.4826 * 0.1), rel=1e-6)
    assert values[25] == pytest.approx(6.8 / (1.4826 * 0.1), rel=1e-6)
    assert robust_z(rows[-5:], [None] * 5) == [0.0] * 5


def test_short_rows_may_scatter_more() -> None:
    """A quarter of the tokens halves the score."""
    rows = [Scored(i, 2.0 + 0.1 * (i % 5), 40, SHOWN) for i in range(25)]
    longer, shorter = robust_z([*rows, Scored(25, 4.0, 40, SHOWN), Scored(26, 4.0, 10, SHOWN)], [None] * 27)[-2:]
    assert longer == pytest.approx(2 * shorter)


def test_languages_are_judged_among_themselves() -> None:
    """What is ordinary in one language is an outlier in another."""
    easy = [Scored(i, 2.0 + 0.1 * (i % 5), 50, SHOWN) for i in range(40)]
    hard = [Scored(40 + i, 5.0 + 0.1 * (i % 5), 50, SHOWN) for i in range(40)]
    odd = Scored(80, 5.0, 50, SHOWN)
    groups: list[str | None] = ["de"] * 40 + ["ta"] * 40 + ["de"]
    values = robust_z([*easy, *hard, odd], groups)
    assert max(map(abs, values[:80])) < 3
    assert values[80] > 10


def test_a_broken_model_is_told(llama: Any) -> None:
    """Losses that are no numbers are findings, whatever the other rows are."""
    with torch.no_grad():
        llama.model.embed_tokens.weight[3 + ord("z") % 117] = math.nan
    made = check(llama)
    for number, text in enumerate(["aaaa aaaa", "zzzz zzzz"]):
        made.examine(view_of(number, {"text": text}, form="text"))
    assert [(one.row, one.kind) for one in made.finish()] == [(1, "high_perplexity")]
