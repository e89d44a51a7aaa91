"""What is learned and what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hf_langcore.data import pack_blocks, start_token
from hf_langcore.evaluation import score
from hf_langcore.recipes.arithmetic import arithmetic_rows
from hf_langcore.recipes.protection.tasks import arithmetic_task, language_task


def blocks_of(bpe: Any, texts: Any, language: str, size: int) -> list[list[int]]:
    packed = pack_blocks(language, texts[language], bpe, start=start_token(bpe), block_size=size)
    return packed.tolist()


def test_a_language_is_learned_from_its_own_text_and_the_others_are_kept(bpe: Any, small: Any) -> None:
    """Rows are blocks of the language, another sample for another seed; nothing of it is general or kept."""
    task = language_task(bpe, "zh", small.train, small.test, size=small.size)
    own = blocks_of(bpe, small.train, "zh", small.size.block_size)
    rows = task.rows(0)["input_ids"]
    assert len(rows) == small.size.blocks
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
    """Rows are prompts and completions that the measured problems do not contain; general blocks are shorter."""
    task = arithmetic_task(bpe, small.train, small.test, size=small.size)
    train, held_out = arithmetic_rows(small.size.sums, small.size.test_sums, train_seed=3)
    assert task.rows(3).to_list() == train
    assert not {row["prompt"] for row in train} & {row["prompt"] for row in held_out}
    assert list(task.kept.windows) == ["en", "de", "zh"]
    assert {len(block) for block in task.general["input_ids"]} == {small.size.sums_general_block}
    found = task.target(bpe_llama)
    assert found.exact_match == 0
    assert found.loss > 3
