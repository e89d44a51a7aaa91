"""Fine-tuning under every protection, on a tiny model."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore.recipes.protection import runs as protection_module
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.record import ProtectionRun, read_run
from hf_langcore.recipes.protection.runs import run_protection
from hf_langcore.recipes.protection.shields import Shields, ShieldSize, compute_shields
from hf_langcore.recipes.protection.tasks import ProtectionTask, arithmetic_task, language_task
from hf_langcore.tuner import CoreRegionConfig

METHODS = [
    Method("plain", learning_rate=5e-3),
    Method("frozen", learning_rate=5e-3, frozen="core"),
    Method("columns", learning_rate=5e-3, frozen="columns"),
    Method("anchor", learning_rate=5e-3, anchor_strength=0.5),
    Method("weighted", learning_rate=5e-3, anchor_strength=0.5, weighted=True),
    Method("anchored, frozen", learning_rate=5e-3, anchor_strength=0.5, frozen="core"),
    Method("LoRA", learning_rate=5e-2, adapter={"peft_type": "LORA", "target_modules": "all-linear"}),
    Method("adapter", learning_rate=5e-2, adapter=CoreRegionConfig(target_modules="all-linear")),
    Method("prompt", learning_rate=5e-2, adapter={"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}),
    Method("prefix", learning_rate=5e-2, adapter={"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 4}),
    Method("general", learning_rate=5e-3, general_data_ratio=2, frozen="random"),
]

WEIGHTS = 290 * 32 * 2 + 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 32 * 48 + 2 * 32) + 32
LOW_RANK = 2 * 8 * (2 * (32 + 32) + 2 * (16 + 32) + 3 * (32 + 48))
TRAINED: dict[str, Any] = {
    **{method.name: lambda _, __: WEIGHTS for method in METHODS},
    **dict.fromkeys(["frozen", "columns", "anchored, frozen", "general"], lambda _, run: WEIGHTS - run.core_size),
    **dict.fromkeys(["LoRA", "adapter"], lambda _, __: LOW_RANK),
    "prompt": lambda _, __: 4 * 32,
    "prefix": lambda _, __: 4 * 2 * 2 * 16,
}

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def tasks(bpe_llama: Any, bpe: Any, small: Any) -> list[tuple[ProtectionTask, Shields]]:
    found = [
        language_task(bpe, "zh", small.train, small.test, size=small.size),
        arithmetic_task(bpe, small.train, small.test, size=small.size),
    ]
    size = ShieldSize(0.1, core_languages=("en",), block_size=12, core_blocks=2, column_blocks=1, fisher_blocks=2)
    shields = compute_shields(bpe_llama, bpe, small.train, found[0].source, size=size, progress=False)
    return [(task, shields) for task in found]


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("protection")


@pytest.fixture(scope="module")
def runs(bpe_llama: Any, bpe: Any, tasks: Any, output: Path) -> dict[str, ProtectionRun]:
    """Every method on a language, one seed."""
    before, told = copy.deepcopy(bpe_llama.state_dict()), []
    done = run_protection(bpe_llama, bpe, tasks[:1], METHODS, output=output, seeds=[0], bf16=False, tell=told.append)
    assert all(torch.equal(before[name], value) for name, value in bpe_llama.state_dict().items()), "left as it is"
    assert len(told) == len(done) == len(METHODS)
    return {run.method: run for run in done}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_only_what_is_free_changes(runs: dict[str, ProtectionRun], tasks: Any, method: Method) -> None:
    """Where weights are frozen none of their bits change, also in merged adapters; elsewhere most of the core does."""
    run = runs[method.name]
    assert run.core_size == tasks[0][1].mask(method.frozen or "core", seed=0).count()
    if method.frozen or method.name in {"adapter", "prompt", "prefix"}:
        assert run.core_changed == 0
    else:
        assert run.core_changed > run.core_size / 2
    assert run.target_before == runs["plain"].target_before
    assert run.target_after.loss != run.target_before.loss
    assert run.kept_before.keys() == run.kept_after.keys() == {"en", "de"}
    assert run.steps == (3 if not method.general_data_ratio else 9)
    assert run.trained == TRAINED[method.name](tasks[0][1], run)


def test_options_reach_the_trainer(runs: dict[str, ProtectionRun]) -> None:
    """A strong anchor holds what plain fine-tuning moves; the two anchors and the two adapters differ."""
    assert 0 < runs["anchor"].gain < runs["plain"].gain
    losses = {name: run.target_after.loss for name, run in runs.items()}
    assert len(set(losses.values())) == len(losses)
    assert losses["general"] != losses["plain"]


def test_figures_of_a_run(runs: dict[str, ProtectionRun]) -> None:
    """Gain, and the logarithm of the ratio of geometric means."""
    run = runs["plain"]
    assert run.gain == run.target_before.loss - run.target_after.loss
    means = [
        math.sqrt(math.exp(losses["en"]) * math.exp(losses["de"])) for losses in (run.kept_before, run.kept_after)
    ]
    assert math.exp(run.forgotten) == pytest.approx(means[1] / means[0])


def test_finished_runs_are_not_repeated(
    runs: dict[str, ProtectionRun], bpe_llama: Any, bpe: Any, tasks: Any, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read from their files; one of other settings is done again."""
    files = sorted(output.rglob("*.json"))
    assert len(files) == len(METHODS)
    assert {run.method for path in files if (run := read_run(path))} == set(runs)
    trained: list[Method] = []
    train = protection_module._train

    def counted(*args: Any, **options: Any) -> Any:
        trained.append(args[4])
        return train(*args, **options)

    monkeypatch.setattr(protection_module, "_train", counted)
    options: dict[str, Any] = {"output": output, "seeds": [0], "bf16": False, "tell": str}
    again = run_protection(bpe_llama, bpe, tasks[:1], METHODS, **options)
    assert {run.method: run for run in again} == runs
    assert trained == []
    other = replace(METHODS[0], learning_rate=1e-3)
    (slower,) = run_protection(bpe_llama, bpe, tasks[:1], [other], **options)
    assert trained == [other]
    assert slower.gain != runs["plain"].gain
    assert json.loads(json.dumps(asdict(slower))) == asdict(slower)


def test_seeds_are_the_outer_loop(bpe_llama: Any, bpe: Any, tasks: Any, tmp_path: Path) -> None:
    """Both tasks of a seed come before the next seed; seeds have other data, and sums say how many are right."""
    told: list[str] = []
    options: dict[str, Any] = {"output": tmp_path, "seeds": (0, 1), "bf16": True, "tell": told.append}
    done = run_protection(bpe_llama, bpe, tasks, METHODS[:1], **options)
    assert [(run.seed, run.task) for run in done] == [(0, "zh"), (0, "arithmetic"), (1, "zh"), (1, "arithmetic")]
    assert done[0].target_after != done[2].target_after
    assert done[1].target_after.exact_match is not None
    assert [line.split(" | ")[0] for line in told] == [
        "seed 0 zh",
        "seed 0 arithmetic",
        "seed 1 zh",
        "seed 1 arithmetic",
    ]
    assert "exact" in told[1]
    assert "exact" not in told[0]
