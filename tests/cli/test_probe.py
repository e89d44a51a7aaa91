"""`langcore probe`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.probing import ProbeReport, load_treebanks, probe_layers
from tests.probing.conftest import build_bert, conllu, parallel_treebanks, word_piece

QUICK = ("--seeds", 1, "--max-items", 60, "-q")


@pytest.fixture(scope="session")
def treebanks(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("treebanks")
    for language, sentences in parallel_treebanks().items():
        (folder / f"{language}_test-ud-test.conllu").write_text(conllu(sentences), encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("encoder")
    build_bert().save_pretrained(folder)
    word_piece().save_pretrained(folder)
    return str(folder)


def test_figures_are_those_of_the_python_call(
    langcore: Any, model_folder: str, treebanks: str, tmp_path: Path
) -> None:
    """JSON on standard output and in the file; a table for people."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    arguments = ("probe", model_folder, "--treebanks", treebanks, "--train", "en", "--layers", "0,2", *QUICK)
    outcome = langcore(*arguments, "--json", "-o", "report.json")
    assert outcome.code == 0, outcome.err
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    expected = probe_layers(
        model,
        tokenizer,
        load_treebanks(treebanks),
        train_languages=["en"],
        layers=[0, 2],
        seeds=[0],
        max_items=60,
        progress=False,
    )
    found = json.loads(outcome.out)
    assert found["scores"] == expected.to_dict()["scores"]
    assert ProbeReport.from_json(tmp_path / "report.json").scores == expected.scores
    table = langcore(*arguments, "--languages", "de")
    assert table.code == 0
    assert "layer 2" in table.out
    assert "en *" not in table.out


def test_encoders_load_too(langcore: Any, encoder_folder: str, treebanks: str) -> None:
    """By what the config says; tagging with sentences of the target, and the matrix."""
    options = ("--treebanks", treebanks, "--task", "upos", "--json", *QUICK)
    tagged = langcore("probe", encoder_folder, *options, "--train", "en", "--shots", "0,3", "--layers", 1)
    assert tagged.code == 0, tagged.err
    assert json.loads(tagged.out)["joint"].keys() == {"0", "3"}
    assert json.loads(tagged.out)["layer"] == 1
    matrix = langcore("probe", encoder_folder, *options, "--transfer", "--layers", 0, "--center")
    assert matrix.code == 0, matrix.err
    reports = json.loads(matrix.out)["reports"]
    assert list(reports) == ["de", "en"]
    assert reports["de"]["settings"]["center"] is True


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ((), "--transfer"),
        (("--train", "en", "--transfer"), "--transfer"),
        (("--train", "en", "--shots", "0"), "--task upos"),
        (("--train", "en", "--task", "upos", "--shots", "few"), "whole numbers"),
        (("--train", "en", "--task", "upos", "--shots", "0", "--layers", "1,2"), "at most one of"),
        (("--train", "en", "--layers", "-1"), "whole numbers"),
        (("--train", " , "), "empty"),
    ],
)
def test_wrong_usage(langcore: Any, treebanks: str, options: tuple[str, ...], hint: str) -> None:
    outcome = langcore("probe", "model", "--treebanks", treebanks, *options)
    assert outcome.code == 2
    assert hint in " ".join(outcome.err.replace("│", " ").split())


def test_failures_are_one_message(langcore: Any, model_folder: str, treebanks: str, tmp_path: Path) -> None:
    missing = langcore("probe", model_folder, "--treebanks", treebanks, "--train", "en,fr", "-q")
    assert (missing.code, missing.out) == (1, "")
    assert "no treebank of 'fr'" in missing.err
    absent = langcore("probe", str(tmp_path / "none"), "--treebanks", treebanks, "--train", "en", "-q")
    assert absent.code == 1
    assert "Cannot load the model" in absent.err
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "en.conllu").write_text("1\ta\n", encoding="utf-8")
    outcome = langcore("probe", model_folder, "--treebanks", broken, "--train", "en", "-q")
    assert outcome.code == 1
    assert "line 1: 2 columns" in outcome.err
