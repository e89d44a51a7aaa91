"""The retention benchmark: rates are chosen, the chosen ones repeated."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.recipes.protection import retention as retention_module
from hf_langcore.recipes.protection.methods import Method
from hf_langcore.recipes.protection.retention import choose_rates, retention_task, run_retention
from hf_langcore.recipes.protection.runs import run_protection
from hf_langcore.recipes.protection.shields import ShieldSize, compute_shields

METHODS = [
    Method("plain slow", "plain", 1e-3),
    Method("plain fast", "plain", 1e-2),
    Method("alone", learning_rate=1e-2),
    Method("LoRA", "LoRA", 1e-2, adapter={"peft_type": "LORA", "target_modules": ["q_proj"]}),
]


@pytest.fixture
def made(make_run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[str], list[int]]]:
    """Runs that are not run: the fast rate gains more on the choice rows, and less on those reported."""
    asked: list[tuple[list[str], list[int]]] = []
    choice = {"plain slow": 0.1, "plain fast": 0.4, "alone": -1.0, "LoRA": 0.3}
    gains = {"plain slow": 0.9, "plain fast": 0.2, "alone": -0.5, "LoRA": 0.3}

    def run(*_model: Any, seeds: Any, **_options: Any) -> list[Any]:
        methods = _model[3]
        asked.append(([one.name for one in methods], list(seeds)))
        return [
            make_run(one.name, seed, gains[one.name] + seed / 100, 0.1, choice_gain=choice[one.name])
            for seed in seeds
            for one in methods
        ]

    monkeypatch.setattr(retention_module, "run_protection", run)
    return asked


def retention(seeds: Any = (5, 6, 7)) -> Any:
    task: Any = type("Task", (), {"name": "zh"})()
    return run_retention(None, None, task, None, METHODS, output="unused", seeds=seeds)  # type: ignore[arg-type]


def test_the_first_seed_chooses_and_the_others_repeat(made: Any) -> None:
    """By the choice rows, not by those that are reported; methods that learn nothing are repeated too."""
    found = retention()
    assert made == [([one.name for one in METHODS], [5]), (["plain fast", "alone", "LoRA"], [6, 7])]
    assert found.chosen == {"plain": "plain fast", "alone": "alone", "LoRA": "LoRA"}
    summaries = found.summaries()
    assert list(summaries) == ["plain", "alone", "LoRA"]
    assert summaries["plain"].seeds == 3
    assert summaries["plain"].gain.mean == pytest.approx(0.26)
    assert {one.method: one.seeds for one in found.all_summaries()}["plain slow"] == 1
    assert (found.rate("plain"), found.rate("LoRA")) == (1e-2, 1e-2)
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["chosen"]["plain"]["learning_rate"] == 1e-2
    assert values["methods"]["plain"]["learning_rate"] == [1e-3, 1e-2]
    assert len(values["runs"]) == 10


def test_one_seed_is_enough_to_look(made: Any) -> None:
    """Nothing is repeated then; no seed, or one twice, is refused."""
    assert len(retention([3]).runs) == len(METHODS)
    assert len(made) == 1
    for seeds in ((), (1, 1)):
        with pytest.raises(InputError, match="seeds, each once"):
            retention(seeds)


def test_of_nearly_equal_gains_the_lower_rate_is_taken(make_run: Any) -> None:
    """95 % are enough, 94 are not; of losses likewise; a run that diverged is never taken."""
    for slow, fast, taken in ((0.95, 1.0, "slow"), (0.94, 1.0, "fast"), (-1.04, -1.0, "slow"), (-1.06, -1.0, "fast")):
        gains = {"plain slow": slow, "plain fast": fast}
        both = [make_run(name, 0, 0.1, 0.1, choice_gain=gain) for name, gain in gains.items()]
        assert choose_rates(METHODS[:2], both) == {"plain": f"plain {taken}"}
    runs = [make_run(name, 0, 0.1, 0.1, choice_gain=0.5) for name in ("plain slow", "plain fast")]
    diverged = [make_run("plain slow", 0, 0.1, 0.1, choice_gain=-math.inf), runs[1]]
    assert choose_rates(METHODS[:2], diverged) == {"plain": "plain fast"}


def test_a_task_is_arithmetic_or_a_language(bpe: Any, small: Any) -> None:
    """Anything else is refused, and so is a language with no other to be kept."""
    assert retention_task(bpe, "arithmetic", small.train, small.test, size=small.size).name == "arithmetic"
    assert retention_task(bpe, "zh", small.train, small.test, size=small.size).name == "zh"
    with pytest.raises(InputError, match="got 'sums'"):
        retention_task(bpe, "sums", small.train, small.test, size=small.size)
    with pytest.raises(InputError, match="two languages"):
        retention_task(bpe, "en", {"en": small.train["en"]}, {"en": small.test["en"]}, size=small.size)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_methods_that_do_not_suit_are_refused_before_training(
    bpe: Any, bpe_llama: Any, small: Any, tmp_path: Path
) -> None:
    """One that PEFT cannot apply, more virtual tokens than the context has room for, and names that are one file's."""
    task = retention_task(bpe, "zh", small.train, small.test, size=small.size)
    size = ShieldSize(0.1, core_languages=("en",), block_size=12, core_blocks=1)
    shields = compute_shields(
        bpe_llama, bpe, small.train, task.source, with_columns=False, with_importance=False, size=size, progress=False
    )
    with pytest.raises(InputError, match="without columns"):
        shields.mask("columns", seed=0)
    good = Method("good", learning_rate=1e-3)
    long = {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 53}
    for bad, kind, words in (
        (Method("no", adapter={"peft_type": "LORA", "target_modules": ["none"]}), ConfigurationError, "'no' cannot"),
        (Method("long", adapter=long), InputError, "65 positions, 53 of them"),
        (Method("good", "other"), InputError, "names that differ"),
    ):
        with pytest.raises(kind, match=words):
            run_protection(
                bpe_llama,
                bpe,
                [(task, shields)],
                [good, bad],
                output=tmp_path,
                seeds=[0],
                bf16=False,
                tell=pytest.fail,
            )
    assert not list(tmp_path.rglob("*.json"))
