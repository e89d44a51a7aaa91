"""`--json`: all of standard output is one JSON value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.mark.parametrize("command", ["find", "inspect", "perturb", "scale", "eval", "sft"])
def test_standard_output_is_json(langcore: Any, model_folder: str, tmp_path: Path, command: str) -> None:
    """Also with progress bars and the lines of the Trainer, which are on standard error."""
    langcore("find", model_folder, "-o", "core", "--method", "random", "-q")
    (tmp_path / "task.txt").write_text("The teacher saw two cats.\n" * 4, encoding="utf-8")
    few = ["--languages", "en", "--max-tokens", 40]
    arguments = {
        "find": [model_folder, "-o", "new", *few],
        "inspect": ["core"],
        "perturb": [model_folder, "core", *few],
        "scale": [model_folder, "model.layers.0.input_layernorm", 3, "--prompt", "The", "--factor", "2,1e38", *few],
        "eval": [model_folder, *few],
        "sft": [model_folder, "--dataset", "task.txt", "--max-steps", 1, "-o", "tuned"],
    }
    outcome = langcore(command, *arguments[command], "--json")
    assert outcome.code == 0, outcome.err
    assert isinstance(json.loads(outcome.out, parse_constant=pytest.fail), dict)
