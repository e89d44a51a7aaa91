"""Every example runs as it is printed, in a fresh process without network, only with a smaller model."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, *arguments: str, **environment: str) -> str:
    """The output of an example; the tiny model of the examples is made tinier."""
    code = (
        "import functools, runpy, sys\n"
        "from hf_langcore.recipes import pretraining\n"
        "tiny = pretraining.TinyModel\n"
        "small = dict(vocab_size=400, hidden_size=32, intermediate_size=48, layers=2, heads=2, steps=5, batch_size=4)\n"
        "pretraining.TinyModel = lambda **given: tiny(**small)\n"
        f"sys.argv = [{name!r}, *{list(arguments)!r}]\n"
        f"runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_quickstart() -> None:
    """Finds, wraps, edits, restores."""
    out = run("quickstart.py")
    assert "core zeroed" in out
    base, restored = ([line.split()[i] for line in out.splitlines() if "mean (geometric)" in line] for i in (6, -2))
    assert base == restored, "after the edits the model is what it was"


def test_scale_one_dimension() -> None:
    """Ranks dimensions and shows a table of factors."""
    out = run("scale_one_dimension.py")
    assert "edited and measured" in out
    assert "x10" in out


def test_frozen_core_sft() -> None:
    """No core weight changes, others do."""
    out = run("frozen_core_sft.py")
    assert "core weights changed: 0, other weights changed: " in out
    assert "other weights changed: 0" not in out


def test_pretrain_tiny(tmp_path: Path) -> None:
    """Trains, measures and saves a model that transformers loads."""
    from transformers import AutoModelForCausalLM

    out = run("pretrain_tiny.py", str(tmp_path / "model"), "3", LANGCORE_DATA="")
    assert "mean (geometric)" in out
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").config.hidden_size == 32


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_explained(path: Path) -> None:
    """At most 100 lines, with a docstring that says what to expect."""
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert text.startswith('"""')
