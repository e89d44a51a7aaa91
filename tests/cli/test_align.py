"""`langcore align`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.probing.alignment_report import AlignmentReport
from hf_langcore.probing.treebanks import load_treebanks
from tests.probing.conftest import conllu
from tests.probing.relation_banks import relation_banks

QUICK = ("--draws", 8, "--seeds", 1, "-q")


@pytest.fixture(scope="module")
def treebanks(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("treebanks")
    for language, sentences in relation_banks(languages="abc").items():
        (folder / f"{language}.conllu").write_text(conllu(sentences), encoding="utf-8")
    return str(folder)


def test_figures_are_those_of_the_python_call(
    langcore: Any, model_folder: str, treebanks: str, tmp_path: Path
) -> None:
    """JSON on standard output and in the file; a table for people."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = ("align", model_folder, "--treebanks", treebanks, "--languages", "a,c", "--layers", "0,2", *QUICK)
    outcome = langcore(*arguments, "--json", "-o", "alignment.json")
    assert outcome.code == 0, outcome.err
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    settings = AlignmentSettings(draws=8, seeds=1)
    banks = load_treebanks(treebanks, ["a", "c"])
    expected = align_relations(model, tokenizer, banks, layers=[0, 2], settings=settings).to_dict()
    assert json.loads(outcome.out) == expected
    written = json.loads((tmp_path / "alignment.json").read_text(encoding="utf-8"))
    assert AlignmentReport.from_dict(written).languages == ("a", "c")
    table = langcore(*arguments)
    assert table.code == 0
    assert "Alignment of 7 relations" in table.out


@pytest.mark.parametrize(("option", "value"), [("--layers", "two"), ("--draws", "1"), ("--distance", "far")])
def test_wrong_usage(langcore: Any, model_folder: str, treebanks: str, option: str, value: str) -> None:
    outcome = langcore("align", model_folder, "--treebanks", treebanks, option, value)
    assert outcome.code == 2
    assert option in outcome.err
