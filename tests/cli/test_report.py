"""`langcore report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.recipes.bench.catalogue import RECIPES
from hf_langcore.report.parts import Curves, Section
from hf_langcore.sealing import sealed

CURVES = Curves("curve", "Dose", "factor", "perplexity", (1.0, 4.0), {"en": (8.0, float("inf"))})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with the first two recipes, saved the other way round."""
    folder = tmp_path / "run" / "sections"
    folder.mkdir(parents=True)
    for name in list(RECIPES)[1::-1]:
        section = Section(name, name.title(), (), (CURVES,)).to_dict()
        (folder / f"{name}.json").write_text(json.dumps(sealed({"name": name, "section": section, "options": {}})))
    return folder.parent


def test_a_page_out_of_a_run(langcore: Any, run: Path, tmp_path: Path) -> None:
    """In the order of the recipes; and again out of its own data."""
    outcome = langcore("report", "run", "--output", "out", "--title", "Mine")
    assert outcome.code == 0, outcome.err
    assert "2 sections (" + ", ".join(list(RECIPES)[:2]) in outcome.out
    assert "4 figures" in outcome.out
    assert "<h1>Mine</h1>" in (tmp_path / "out/index.html").read_text()
    outcome = langcore("report", "out/report.json", "-o", "again", "--json")
    values = json.loads(outcome.out, parse_constant=pytest.fail)
    assert values["sections"] == list(RECIPES)[:2]
    assert len(values["figures"]) == 4
    assert (tmp_path / "again/index.html").read_bytes() == (tmp_path / "out/index.html").read_bytes()


def test_what_is_there_is_kept(langcore: Any, run: Path, tmp_path: Path) -> None:
    """Unless --overwrite is given."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("mine")
    outcome = langcore("report", run, "-o", "out")
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    assert (tmp_path / "out" / "index.html").read_text() == "mine"
    assert langcore("report", run, "-o", "out", "--overwrite").code == 0
    assert (tmp_path / "out" / "index.html").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "-o", "out"], 1, "nowhere"),
        (["run"], 2, "--output"),
        (["run", "-o", "run/sections/table.json"], 1, "table.json"),
    ],
)
def test_bad_input_is_named(
    langcore: Any, run: Path, arguments: list[str], code: int, message: str, tmp_path: Path
) -> None:
    outcome = langcore("report", *arguments)
    assert outcome.code == code
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
