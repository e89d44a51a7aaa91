"""The page on protection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_langcore.recipes.protection.page import MARKER, write_protection_page
from hf_langcore.recipes.protection.report import PAIRS
from hf_langcore.recipes.protection.tasks import Target


def test_the_page_is_filled_below_its_marker(make_run: Any, tmp_path: Path) -> None:
    """What stood above stays, tables and figures of the tasks that were run follow; a second time replaces them."""
    method, control = PAIRS[0]
    runs = [make_run(name, seed, 0.1 * (seed + 1), 0.2) for name in (method, control) for seed in (0, 1)]
    page = tmp_path / "results.md"
    page.write_text("# Older\n\na table\n", encoding="utf-8")
    write_protection_page(page, runs)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# Older\n\na table\n\n{MARKER}\n\n")
    assert "2 seeds each" in text
    assert "(4 runs, 0 minutes" in text
    assert text.count("| frozen core, 3 % |") == 2, "in the table, and beside its control"
    assert "## Chinese" in text
    assert "## Arithmetic" not in text
    assert (tmp_path / "figures" / "protection-chinese.png").stat().st_size > 1000

    sums = [make_run(method, 0, 1.0, 0.1, task="arithmetic", target_after=Target(3.0, 0.5))]
    write_protection_page(page, [*runs, *sums])
    again = page.read_text(encoding="utf-8")
    assert again.count(MARKER) == again.count("# Older") == 1
    assert "## Arithmetic\n\n![learned against kept](figures/protection-arithmetic.png)" in again
    assert "| 50.0 % |" in again
    assert "{" not in again


def test_a_missing_page_is_made(make_run: Any, tmp_path: Path) -> None:
    """It begins with the marker."""
    write_protection_page(tmp_path / "new.md", [make_run(PAIRS[0][0], 0, 0.1, 0.2)])
    assert (tmp_path / "new.md").read_text(encoding="utf-8").startswith(f"{MARKER}\n")
