"""Sums to learn and to measure."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from hf_langcore.errors import InputError
from hf_langcore.recipes.arithmetic import arithmetic_rows, completion_score


def test_results_are_right_and_no_problem_is_on_both_sides() -> None:
    """Every completion is the result; training rows are distinct, and none is a test row."""
    train, test = arithmetic_rows(300, 40, largest=20)
    for row in train + test:
        first, operation, second, _ = row["prompt"].split()
        expected = int(first) + int(second) if operation == "+" else int(first) - int(second)
        assert row["completion"] == f" {expected}"
        assert expected >= 0
        assert max(int(first), int(second)) <= 20
    prompts = [row["prompt"] for row in train + test]
    assert len(set(prompts)) == 340
    assert {prompt.split()[1] for prompt in prompts} == {"+", "-"}


def test_other_training_rows_are_measured_on_the_same_problems() -> None:
    """The training seed changes the training rows only."""
    first, second = arithmetic_rows(50, 20), arithmetic_rows(50, 20, train_seed=1)
    assert first[1] == second[1]
    assert first[0] != second[0]
    assert arithmetic_rows(50, 20) == first
    assert arithmetic_rows(50, 20, test_seed=1)[1] != first[1]


@pytest.mark.parametrize(("train", "test"), [(0, 5), (5, 0), (6, 3)])
def test_more_rows_than_problems_are_refused(train: int, test: int) -> None:
    """Numbers up to 1 make 4 additions and 3 subtractions."""
    assert len(arithmetic_rows(5, 2, largest=1)[0]) == 5
    with pytest.raises(InputError, match="there are 7 problems"):
        arithmetic_rows(train, test, largest=1)


def test_the_score_is_what_plain_loops_give(bpe: Any, bpe_llama: Any) -> None:
    """Loss and exact match of padded batches are those of single rows, decoded greedily token by token."""
    rows = arithmetic_rows(1, 7)[1]
    total, count, right = 0.0, 0, 0
    for row in rows:
        prompt = bpe(row["prompt"])["input_ids"]
        answer = [*bpe(row["prompt"] + row["completion"])["input_ids"][len(prompt) :], bpe.eos_token_id]
        with torch.no_grad():
            logits = bpe_llama(input_ids=torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
        total += float(nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="sum"))
        count += len(answer)
    for size in (1, 3, 64):
        found = completion_score(bpe_llama, bpe, rows, batch_size=size)
        assert found.loss == pytest.approx(total / count, rel=1e-5)
        assert found.exact_match == right


class Parrot(nn.Module):
    """Gives the right answer to the first row, and to the others all but the last token."""

    def __init__(self, right: list[list[int]], vocabulary: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.right, self.vocabulary = right, vocabulary

    def forward(self, input_ids: torch.Tensor, *, use_cache: bool) -> Any:
        assert not use_cache
        logits = torch.zeros(*input_ids.shape, self.vocabulary)
        for row, ids in enumerate(input_ids.tolist()):
            for position in range(len(ids) - 1):
                logits[row, position, ids[position + 1]] = 5.0
        for row, ids in enumerate(self.right):
            if row > 0:
                logits[row, len(ids) - 2] = 0.0
                logits[row, len(ids) - 2, 0] = 5.0  # another token than EOS
        return SimpleNamespace(logits=logits)


def test_one_wrong_token_is_no_exact_match(bpe: Any) -> None:
    """A missing end token counts as wrong; padding behind a row does not."""
    rows = [{"prompt": "1 + 2 =", "completion": " 3"}, {"prompt": "40 + 50 =", "completion": " 90"}]
    encoded = [[*bpe(row["prompt"] + row["completion"])["input_ids"], bpe.eos_token_id] for row in rows]
    found = completion_score(Parrot(encoded, 290), bpe, rows)
    assert found.exact_match == 0.5
    assert math.isfinite(found.loss)
