"""The paper's table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.recipes.language_table import language_table, to_markdown


def test_all_conditions_of_all_fractions(llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> None:
    """Base, top, bottom, magnitude and random seeds for each fraction; a second run gives the same from disk."""
    options = {"fractions": (0.05, 0.2), "random_seeds": 3, "block_size": 16, "progress": False}
    tables = language_table(llama, tokenizer, texts, texts, resume_dir=tmp_path, **options)
    assert [table.fraction for table in tables] == [0.05, 0.2]
    for table in tables:
        names = ["base", "top", "bottom", "magnitude", "random 0", "random 1", "random 2"]
        assert list(table.report.conditions) == names
        assert table.random_names == names[-3:]
        assert set(table.harm) == set(texts)
        base = evaluate_perplexity(llama, tokenizer, texts, block_size=16, progress=False)
        assert table.report["base"].nll == base.nll
    again = language_table(llama, tokenizer, texts, texts, resume_dir=tmp_path, **options)
    assert [table.report.conditions for table in again] == [table.report.conditions for table in tables]

    lines = to_markdown(tables[0], names={"en": "English"}).splitlines()
    assert lines[2].startswith("| English | ")
    assert len(lines) == 2 + len(texts) + 1
    assert {line.count("|") for line in lines} == {10}
