"""`langcore import` and `langcore export`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from hf_langcore.cli import exchange, main
from hf_langcore.masks import CoreMask


@pytest.fixture
def run(langcore: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`langcore` with nothing but the two commands."""
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="markdown")
    app.command("import")(exchange.import_)
    app.command("export")(exchange.export)
    monkeypatch.setattr(main, "app", app)
    monkeypatch.setattr(sys, "argv", ["langcore"])
    return langcore  # type: ignore[no-any-return]


@pytest.fixture
def neurons(tmp_path: Path) -> str:
    """Neurons of two languages in two layers."""
    torch.save(
        [[torch.tensor(one) for one in layers] for layers in ([[1], [2, 3]], [[4], [5, 47]])], tmp_path / "n.pth"
    )
    return "n.pth"


def test_import(run: Any, model_folder: str, neurons: str, tmp_path: Path) -> None:
    """By code and by number; JSON is all that --json prints."""
    outcome = run("import", neurons, model_folder, "-o", "zh", "--languages", "en,zh", "--language", "zh", "--json")
    assert outcome.code == 0, outcome.err
    mask = CoreMask.from_pretrained(tmp_path / "zh")
    facts = json.loads(outcome.out)
    assert (facts["count"], facts["digest"], facts["tensors"]) == (mask.count(), mask.digest(), len(mask))
    assert facts["operation"] == "imported lape neurons, language zh, from 'n.pth'"
    assert mask.provenance.base_fingerprint is not None
    assert mask["model.layers.1.mlp.up_proj.weight"].any(1).nonzero().view(-1).tolist() == [5, 47]
    again = run("import", neurons, model_folder, "-o", "again", "--language", 1, "--format", "lape")
    assert again.out.startswith("saved in again: CoreMask(")
    assert CoreMask.from_pretrained(tmp_path / "again") == mask


def test_import_without_weights(run: Any, model_folder: str, neurons: str, tmp_path: Path) -> None:
    """The config is enough for names and shapes."""
    assert run("import", neurons, model_folder, "-o", "all", "--parts", "columns", "--no-weights").code == 0
    mask = CoreMask.from_pretrained(tmp_path / "all")
    assert mask.provenance.base_fingerprint is None
    assert mask.provenance.base_model == model_folder
    assert set(mask) == {f"model.layers.{i}.mlp.down_proj.weight" for i in (0, 1)}
    assert mask.count() == 6 * 32


def test_import_keeps_other_masks(run: Any, model_folder: str, neurons: str) -> None:
    options = ("import", neurons, model_folder, "-o", "core")
    assert run(*options, "--language", 0).code == 0
    outcome = run(*options, "--language", 1)
    assert outcome.code == 1
    assert "--overwrite" in outcome.err
    assert run(*options, "--language", 1, "--overwrite").code == 0


def test_import_of_what_cannot_be(run: Any, model_folder: str, neurons: str, tmp_path: Path) -> None:
    missing = run("import", "nowhere.pth", model_folder, "-o", "core")
    assert (missing.code, "There is no 'nowhere.pth'" in missing.err) == (1, True)
    no_model = run("import", neurons, "no-model", "-o", "core")
    assert (no_model.code, "Cannot load the model 'no-model'" in no_model.err) == (1, True)
    assert run("import", neurons, model_folder, "-o", "core", "--format", "gguf").code == 2
    (tmp_path / "core").write_text("a file")
    assert "folder" in run("import", neurons, model_folder, "-o", "core").err
    assert (tmp_path / "core").read_text() == "a file"


@pytest.fixture
def core(run: Any, model_folder: str, tmp_path: Path) -> CoreMask:
    """A mask with a quarter of one matrix, saved as "core"."""
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    planes = {name: torch.zeros(p.shape) > 0 for name, p in model.named_parameters() if "layers" in name}
    planes["model.layers.1.mlp.up_proj.weight"].view(-1)[::4] = True
    mask = CoreMask(planes)
    mask.save_pretrained(tmp_path / "core")
    return mask


def test_export(run: Any, core: CoreMask, tmp_path: Path) -> None:
    outcome = run("export", "core", "--format", "tensors", "-o", "core.safetensors", "--json")
    assert outcome.code == 0, outcome.err
    facts = json.loads(outcome.out)
    assert (facts["core_mask"], facts["core_weights"]) == (core.digest(), core.count())
    assert facts["bytes"] == (tmp_path / "core.safetensors").stat().st_size
    found = load_file(tmp_path / "core.safetensors")
    assert all(torch.equal(found[name], core[name]) for name in core)
    again = run("export", "core", "--format", "tensors", "-o", "core.safetensors")
    assert (again.code, "--overwrite" in again.err) == (1, True)
    assert run("export", "core", "--format", "tensors", "-o", "core.safetensors", "--overwrite").out.startswith(
        "wrote core"
    )


def test_export_for_quantisers_and_mergekit(run: Any, core: CoreMask, tmp_path: Path) -> None:
    assert run("export", "core", "--format", "quantizer", "-o", "q.json", "--threshold", 0.2).code == 0
    assert json.loads((tmp_path / "q.json").read_text())["ignore"] == ["model.layers.1.mlp.up_proj", "lm_head"]
    models = ("--core-from", "base", "--complement-from", "tuned")
    assert run("export", "core", "--format", "mergekit", "-o", "m.yaml", *models).code == 0
    weight = yaml.safe_load((tmp_path / "m.yaml").read_text())["models"][1]["parameters"]["weight"]
    assert weight[0] == {"filter": "model.layers.1.mlp.up_proj.weight", "value": 1.0}
    missing = run("export", "core", "--format", "mergekit", "-o", "n.yaml")
    assert (missing.code, "complement_from" in missing.err) == (1, True)
    assert run("export", "core", "-o", "x").code == 2


def test_help(run: Any) -> None:
    for command in ("import", "export"):
        assert f"langcore {command} " in run(command, "--help").out
