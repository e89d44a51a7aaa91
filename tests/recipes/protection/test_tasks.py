"""What is learned and what is kept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from hf_langcore.data import pack_blocks, start_token
from hf_langcore.evaluation import score
from hf_langcore.instructions.arithmetic import problem_of
from hf_langcore.recipes.protection import tasks as tasks_module
from hf_langcore.recipes.protection.tasks import arithmetic_task, language_task


def blocks_of(bpe: Any, texts: Any, language: str, size: int) -> list[list[int]]:
    packed = pack_blocks(language, texts[language], bpe, start=start_token(bpe), block_size=size)
    return packed.tolist()


def test_a_language_is_learned_from_its_own_text_and_the_others_are_kept(bpe: Any, small: Any) -> None:
    """Rows are blocks of the language, another sample for another seed; nothing of it is general or kept.

    No run trains on the blocks by which learning rates are chosen.
    """
    task = language_task(bpe, "zh", small.train, small.test, size=small.size)
    own = blocks_of(bpe, small.train, "zh", small.size.block_size)
    rows = task.rows(0)["input_ids"]
    assert len(rows) == small.size.blocks
    everything = language_task(bpe, "zh", small.train, small.test, size=replace(small.size, blocks=len(own)))
    trained = everything.rows(0)["input_ids"]
    assert len(trained) == len(own) - small.size.choice_blocks
    assert trained.count(own[0]) < own.count(own[0]), "the first block is put aside"
    assert task.epochs == 1
    assert all(row in own for row in rows)
    assert rows == task.rows(0)["input_ids"] != task.rows(1)["input_ids"]

    others = [block for code in ("en", "de") for block in blocks_of(bpe, small.train, code, small.size.block_size)]
    general = task.general["input_ids"]
    assert len(general) == 2 * small.size.general_blocks
    assert all(block in others for block in general)
    assert list(task.kept.windows) == list(task.source) == ["en", "de"]
    assert task.source["de"] == small.train["de"]


def test_kept_text_is_spread_over_all_of_it(bpe: Any, small: Any) -> None:
    """The first and the last block of a language are measured, every token but the first of each counts."""
    task = language_task(bpe, "zh", small.train, small.test, size=small.size)
    for language in ("en", "de"):
        blocks = blocks_of(bpe, small.test, language, small.size.block_size)
        assert len(blocks) > small.size.kept_blocks, "there is something to choose from"
        windows = task.kept.windows[language]
        assert [list(window.ids) for window in windows] == [blocks[0], blocks[-1]]
        assert {window.num_scored for window in windows} == {small.size.block_size - 1}


def test_the_target_is_the_loss_on_held_out_text(bpe: Any, bpe_llama: Any, small: Any) -> None:
    """The same figure as scoring the chosen blocks of the language."""
    task = language_task(bpe, "zh", small.train, small.test, size=replace(small.size, target_blocks=2))
    kept_elsewhere = language_task(
        bpe, "en", small.train, small.test, size=small.size
    ).kept  # two blocks of Chinese, too
    assert task.target(bpe_llama).loss == score(bpe_llama, kept_elsewhere, progress=False).nll["zh"]
    assert task.target(bpe_llama).exact_match is None


def test_arithmetic_keeps_all_languages(bpe: Any, bpe_llama: Any, small: Any) -> None:
    """Rows are prompts and completions of another draw for each seed; general blocks are shorter."""
    task = arithmetic_task(bpe, small.train, small.test, size=small.size)
    assert task.rows(3).column_names == ["prompt", "completion"]
    assert len(task.rows(3)) == small.size.sums
    assert task.rows(3).to_list() == task.rows(3).to_list() != task.rows(4).to_list()
    assert task.epochs == 2
    assert list(task.kept.windows) == ["en", "de", "zh"]
    assert {len(block) for block in task.general["input_ids"]} == {small.size.sums_general_block}
    found = task.target(bpe_llama)
    assert found.exact_match == 0
    assert found.digit_match is not None
    assert 0 <= found.digit_match < 0.5
    assert found.loss > 3
    assert task.choice(bpe_llama) != found.loss


def test_problems_that_are_measured_are_never_trained(
    bpe: Any, bpe_llama: Any, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither those that are reported nor those by which rates are chosen, in either order of the numbers."""
    seen: list[set[Any]] = []

    def noted(_model: Any, _tokenizer: Any, rows: Any) -> Any:
        problems = [problem_of(row) for row in rows]
        seen.append({(frozenset([one.first, one.second]), one.operation) for one in problems})
        return SimpleNamespace(loss=1.0, exact_match=0.0, digit_match=0.0)

    monkeypatch.setattr(tasks_module, "evaluate_arithmetic", noted)
    monkeypatch.setattr(tasks_module, "completion_score", noted)
    task = arithmetic_task(bpe, small.train, small.test, size=replace(small.size, sums=40))
    task.target(bpe_llama)
    task.choice(bpe_llama)
    reported, choice = seen
    assert not reported & choice
    for seed in (0, 1):
        for prompt in task.rows(seed)["prompt"]:
            first, operation, second, _ = prompt.split()
            assert max(int(first), int(second)) <= small.size.largest
            assert (frozenset([int(first), int(second)]), operation) not in reported | choice


def test_the_digest_is_that_of_all_texts_and_rows(bpe: Any, small: Any) -> None:
    """Other held-out text, other rows or another size make another one; the same ones the same."""
    digest = arithmetic_task(bpe, small.train, small.test, size=small.size).digest
    assert arithmetic_task(bpe, small.train, small.test, size=small.size).digest == digest
    other = {**small.test, "de": ["ein ganz anderer Satz ohne Bezug, der lang genug ist", *small.test["de"]]}
    changed = [
        arithmetic_task(bpe, small.train, other, size=small.size).digest,
        arithmetic_task(bpe, small.train, small.test, size=replace(small.size, largest=10)).digest,
        language_task(bpe, "zh", small.train, small.test, size=small.size).digest,
        language_task(bpe, "de", small.train, small.test, size=small.size).digest,
    ]
    assert len({digest, *changed}) == 5
