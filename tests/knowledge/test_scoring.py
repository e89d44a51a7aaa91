"""Log-likelihoods are those of the texts, from the same token on for all alternatives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from hf_langcore.errors import CorpusError
from hf_langcore.knowledge.items import Fact, KnowledgeSet, MinimalPair
from hf_langcore.knowledge.scoring import score_set


class Merging:
    """Letters as tokens, except that "is P" is one token, as a tokenizer may draw words together."""

    bos_token_id = 1
    eos_token_id = 2

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        ids = []
        while text:
            if text.startswith("is P"):
                ids, text = [*ids, 3], text[4:]
            else:
                ids, text = [*ids, 4 + ord(text[0]) % 40], text[1:]
        return {"input_ids": ids}


def log_likelihood(model: Any, ids: list[int], first: int) -> float:
    """Of the tokens from `first` on, the start token counted."""
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return float(sum(logits[place - 1, ids[place]] for place in range(first, len(ids))))


def fact(prompt: str, right: str, *wrong: str) -> KnowledgeSet:
    return KnowledgeSet("en", " ", (Fact("f", "k", prompt, right, wrong),), ())


def test_a_completion_is_scored_after_its_prompt(llama: Any, tokenizer: Any) -> None:
    """The prompt's own tokens do not count; those of the joiner do."""
    facts, pairs = score_set(llama, tokenizer, fact("it is", "hot", "cold", "x"))
    first = 1 + len(tokenizer("it is", add_special_tokens=False)["input_ids"])
    for likely, text in zip(facts[0], ("it is hot", "it is cold", "it is x"), strict=True):
        assert likely == pytest.approx(log_likelihood(llama, tokenizer(text)["input_ids"], first), rel=1e-5)
    assert pairs == []


def test_a_token_across_the_border_moves_the_border_for_all(llama: Any) -> None:
    """With "is P" as one token, "is Rome" is scored from the same place on, or it would pay for less."""
    tokenizer = Merging()
    facts, _ = score_set(llama, tokenizer, fact("it is", "Paris", "Rome"))
    for likely, text in zip(facts[0], ("it is Paris", "it is Rome"), strict=True):
        assert likely == pytest.approx(log_likelihood(llama, [1, *tokenizer(text)["input_ids"]], 1 + 3), rel=1e-5)


def test_pairs_are_scored_from_the_first_token_on_and_in_any_batch(llama: Any, tokenizer: Any) -> None:
    pair = MinimalPair("order", "he sees it", "he it sees now")
    items = KnowledgeSet("en", " ", fact("it is", "hot", "cold").facts, (pair,))
    facts, pairs = score_set(llama, tokenizer, items)
    for likely, text in zip(pairs[0], (pair.grammatical, pair.ungrammatical), strict=True):
        assert likely == pytest.approx(log_likelihood(llama, tokenizer(text)["input_ids"], 1), rel=1e-5)
    again = score_set(llama, tokenizer, items, batch_size=1)
    assert again[0][0] == pytest.approx(facts[0], rel=1e-5)
    assert again[1][0] == pytest.approx(pairs[0], rel=1e-5)


def test_a_broken_model_finds_nothing_likely(llama: Any, tokenizer: Any) -> None:
    with torch.no_grad():
        llama.lm_head.weight.fill_(float("nan"))
    assert score_set(llama, tokenizer, fact("it is", "hot", "cold"))[0] == [(-math.inf, -math.inf)]


def test_what_does_not_fit_is_named(llama: Any, tokenizer: Any) -> None:
    with pytest.raises(CorpusError, match=r"'en', 'f': it has 7\d tokens .* context"):
        score_set(llama, tokenizer, fact("it is", "hot", "x" * 70))
