"""`langcore registry`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore import registry
from hf_langcore.sealing import is_intact

OPTIONS = ("--max-tokens", 200, "--block-size", 32, "--controls", 1, "-q")


@pytest.fixture(autouse=True)
def own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_LANGCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "registry.json"


def own(model_id: str, **changes: Any) -> registry.Entry:
    usual = {"kind": "norm_weight", "tensor": "model.layers.{layer}.input_layernorm.weight", "layer": 1, "axis": 0}
    usual |= {"index": 3, "operation": "scale", "value": 10.0}
    return registry.register({"model_id": model_id, **usual, **changes})


def test_list_of_all_models(langcore: Any) -> None:
    """How many entries of each kind; everything as JSON."""
    shown = langcore("registry", "list")
    assert shown.code == 0
    assert "openai-community/gpt2" in shown.out
    listed = json.loads(langcore("registry", "list", "--json").out)
    assert [one["id"] for one in listed] == [entry.id for entry in registry.entries()]
    norms = json.loads(langcore("registry", "list", "--kind", "norm_weight", "--json").out)
    assert {one["kind"] for one in norms} == {"norm_weight"}


def test_list_of_one_model(langcore: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Coordinates with brackets, figures, statuses; one's own are labelled."""
    monkeypatch.setenv("COLUMNS", "250")
    own("meta-llama/Llama-2-13b-hf")
    shown = langcore("registry", "list", "llama2-13b").out
    for part in ("down_proj.weight[4743, 7678]", "5.865 -> 83224", "set 1", "not reproduced", "conflict", "your own"):
        assert part in shown, part
    assert "x181" not in shown
    assert "inf jointly" in langcore("registry", "list", "Llama-3-8B").out
    assert "x79" in langcore("registry", "list", "OLMo-7B-0724").out
    nothing = langcore("registry", "list", "me/none")
    assert nothing.code == 0
    assert "Nothing is known of 'me/none'" in nothing.out
    assert json.loads(langcore("registry", "list", "me/none", "--json").out) == []
    assert langcore("registry", "list", "gpt2", "--kind", "magic").code == 1


def test_verify(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """A folder is known by its path; what does not hold is a result, so the exit code is 0."""
    own(model_folder, expected="none", value=1.0)
    own(model_folder, index=4)
    arguments = ("registry", "verify", model_folder, "--data", texts_folder, *OPTIONS)
    outcome = langcore(*arguments, "--json", "-o", "verified.json")
    assert outcome.code == 0
    values = json.loads(outcome.out)
    assert [one["verdict"] for one in values["results"]] == ["holds", "does not hold"]
    assert values["counts"] == {"holds": 1, "does not hold": 1, "inconclusive": 0, "missing": 0}
    assert values["settings"]["model"] == model_folder
    written = json.loads((tmp_path / "verified.json").read_text(encoding="utf-8"))
    assert is_intact(written)
    assert written["results"] == values["results"]
    table = langcore(*arguments)
    assert "1 holds, 1 does not hold" in " ".join(table.out.split())


def test_verify_under_another_name(langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path) -> None:
    """--model-id says what the folder is; --registry where one's own coordinates are; --kind chooses."""
    path = tmp_path / "own.json"
    entry = {"model_id": "me/x", "kind": "note", "note": "Nothing."}
    registry.register(entry, path=path)
    arguments = ("registry", "verify", model_folder, "--data", texts_folder, "--registry", path, *OPTIONS)
    notes = langcore(*arguments, "--model-id", "me/x")
    assert notes.code == 1
    assert "only notes are known" in notes.err
    missing = langcore(*arguments, "--model-id", "gpt2")
    assert missing.code == 1
    assert "None of the 1 coordinates known of gpt2" in missing.err
    assert langcore(*arguments, "--model-id", "gpt2", "--kind", "super_weight").code == 1


def test_what_is_wrong_is_said(langcore: Any, model_folder: str, texts_folder: str, own_file: Path) -> None:
    """Unknown models, a damaged file, outputs that cannot be written."""
    unknown = langcore("registry", "verify", model_folder, "--data", texts_folder, *OPTIONS)
    assert unknown.code == 1
    assert "Nothing is known of" in unknown.err
    own_file.parent.mkdir(parents=True, exist_ok=True)
    own_file.write_text("{", encoding="utf-8")
    damaged = langcore("registry", "list")
    assert damaged.code == 1
    assert "no file of critical coordinates" in damaged.err
    own_file.unlink()
    own(model_folder)
    elsewhere = langcore("registry", "verify", model_folder, "--data", texts_folder, *OPTIONS, "-o", texts_folder)
    assert elsewhere.code == 1
    assert "is no file" in elsewhere.err


def test_help_has_examples(langcore: Any) -> None:
    """Of both commands."""
    assert "langcore registry list" in " ".join(langcore("registry", "list", "--help").out.split())
    assert "langcore registry verify" in " ".join(langcore("registry", "verify", "--help").out.split())
    assert {"list", "verify"} <= set(langcore("registry", "--help").out.split())
