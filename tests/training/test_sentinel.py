"""LanguageSentinel in a plain Trainer: it watches without a trace, it is heard, and it acts."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import Trainer, TrainerCallback, default_data_collator

from hf_langcore.errors import ConfigurationError, CorpusError, InputError, NonFiniteError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.masks import CoreMask
from hf_langcore.training import CoreFreezeCallback
from hf_langcore.training.sentinel import LanguageSentinel, as_sentinel
from hf_langcore.training.sentinel_record import SENTINEL_FILE
from hf_langcore.training.sentinel_start import START_FILE

TEXTS = {"en": ["the cat sat on the mat and a dog"], "de": ["die Katze sah den Hund an"]}


class Damage(TrainerCallback):
    """Multiplies the head at chosen steps, which makes any perplexity explode."""

    def __init__(self, *steps: int, factor: float = 20.0) -> None:
        self.steps, self.factor = steps, factor

    def on_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        if state.global_step + 1 in self.steps:
            model.lm_head.weight.data.mul_(self.factor)


class Witness(TrainerCallback):
    """Keeps the bits after every step, and the learning rate."""

    def __init__(self, bits_of: Callable[[nn.Module], Any]) -> None:
        self.bits_of, self.bits, self.rates = bits_of, {}, {}

    def on_train_begin(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
        self.bits[state.global_step] = self.bits_of(model)

    def on_step_end(self, args: Any, state: Any, control: Any, *, model: nn.Module, optimizer: Any, **_: Any) -> None:
        self.bits[state.global_step] = self.bits_of(model)
        self.rates[state.global_step] = optimizer.param_groups[0]["lr"]


@pytest.fixture
def train(plain_args: Callable[..., Any], token_rows: Dataset, tokenizer: Any) -> Callable[..., Trainer]:
    """Train a model for a few steps with the plain Trainer, general data unmentioned."""

    def run(model: nn.Module, *callbacks: Any, resume: Any = None, **args: Any) -> Trainer:
        trainer = Trainer(
            model=model,
            args=plain_args(**args),
            train_dataset=token_rows,
            eval_dataset=token_rows,
            data_collator=default_data_collator,
            processing_class=tokenizer,
            callbacks=list(callbacks),
        )
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    return run


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(first[name], second[name]) for name in first)


def saving(steps: int) -> dict[str, Any]:
    return {"save_strategy": "steps", "save_steps": steps}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_watching_changes_no_bit(train: Callable[..., Trainer], tiny: SimpleNamespace, architecture: str) -> None:
    """With dropout (GPT-2), measured after every step: the same weights as without a sentinel."""
    alone, watched = getattr(tiny, architecture)(), getattr(tiny, architecture)()
    train(alone)
    sentinel = LanguageSentinel(TEXTS, every=1, core_mask=tiny.core_of(watched))
    train(watched, sentinel)
    assert [one.step for one in sentinel.measurements] == [0, 1, 2, 3]
    assert same(tiny.bits_of(alone), tiny.bits_of(watched))


def test_the_figures_are_those_of_evaluate_perplexity(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tokenizer: Any
) -> None:
    """First and last column equal a measurement of the model before and after."""
    model = tiny.llama()
    options = {"block_size": 16, "stride": 15, "max_tokens": 20, "progress": False}
    before = evaluate_perplexity(model, tokenizer, TEXTS, **options)
    sentinel = LanguageSentinel(TEXTS, every=2, block_size=16, max_tokens=20)
    train(model, sentinel)
    after = evaluate_perplexity(model, tokenizer, TEXTS, **options)
    report = sentinel.report()
    assert list(report.conditions) == ["step 0", "step 2", "step 3"]
    assert report["step 0"].perplexity == before.perplexity
    assert report["step 3"].perplexity == after.perplexity
    assert report["step 3"].settings["text_sha256"] == after.settings["text_sha256"]
    assert "step 3" in report.to_markdown()
    assert 0 < sentinel.time_share < 1


def test_the_log_has_every_figure_and_the_trainers_own_log_stays(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """`log_history` gets the figures at their steps, and the loss is logged at every step as before."""
    model = tiny.llama()
    sentinel = LanguageSentinel(TEXTS, every=2, core_mask=tiny.core_of(model))
    history = train(model, sentinel, logging_strategy="steps", logging_steps=1).state.log_history
    watched = [entry for entry in history if "sentinel/ppl_mean" in entry]
    assert [entry["step"] for entry in watched] == [0, 2, 3]
    assert [entry["step"] for entry in history if "loss" in entry] == [1, 2, 3]
    perplexity = sentinel.report()["step 3"].perplexity
    assert {name: watched[-1][f"sentinel/ppl_{name}"] for name in TEXTS} == perplexity
    assert watched[-1]["sentinel/ppl_mean"] == pytest.approx(math.prod(perplexity.values()) ** 0.5)
    ratios = {name: perplexity[name] / sentinel.report()["step 0"].perplexity[name] for name in TEXTS}
    assert watched[-1]["sentinel/worst_ratio"] == max(ratios.values())
    assert watched[0]["sentinel/drift_max"] == 0 < watched[-1]["sentinel/drift_max"]
    assert watched[0]["sentinel/core_l2"] == 0 < watched[-1]["sentinel/core_l2"] < 1
    assert watched[-1]["sentinel/core_moved"] > 0.9
    assert all(entry["sentinel/seconds"] > 0 for entry in watched)


def test_tensorboard_gets_the_figures(train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path) -> None:
    """Read back from the event files of the Trainer's own run, at the steps at which they were measured."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    sentinel = LanguageSentinel(TEXTS, every=2)
    train(tiny.llama(), sentinel, report_to="tensorboard")
    (folder,) = (tmp_path / "out" / "runs").iterdir()
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    scalars = {event.step: event.value for event in events.Scalars("train/sentinel/ppl_de")}
    assert scalars == pytest.approx({one.step: one.scores["de"].perplexity for one in sentinel.measurements})
    assert "train/train_loss" in events.Tags()["scalars"]  # the same run, not one of its own


def test_trackio_gets_the_figures(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read back from trackio's local data base; everything is in one run."""
    storage = pytest.importorskip("trackio.sqlite_storage")
    for module in (storage, pytest.importorskip("trackio.utils")):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    sentinel = LanguageSentinel(TEXTS, every=2)
    train(tiny.llama(), sentinel, report_to="trackio", project="watch", run_name="one")
    assert storage.SQLiteStorage.get_runs("watch") == ["one"]
    logs = storage.SQLiteStorage.get_logs("watch", "one")
    found = {log["train/global_step"]: log["train/sentinel/ppl_de"] for log in logs if "train/sentinel/ppl_de" in log}
    assert found == {one.step: one.scores["de"].perplexity for one in sentinel.measurements}


def test_a_warning_comes_once_per_language_and_level(
    train: Callable[..., Trainer], tiny: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """One breach stays one however often it is seen; the next level is said again. Training goes on."""
    sentinel = LanguageSentinel(TEXTS, every=1, limit=3.0, max_tokens=20)
    with caplog.at_level(logging.WARNING):
        trainer = train(
            tiny.llama(), Damage(2, factor=30), Damage(5, factor=3), sentinel, max_steps=6, learning_rate=1e-4
        )
    assert trainer.state.global_step == 6
    seen = [(one.step, one.subject, one.action) for one in sentinel.breaches]
    assert seen[:2] == [(2, "en", "warn"), (2, "de", "warn")]
    assert {step for step, _, _ in seen} == {2, 5}
    first, last = sentinel.breaches[0], sentinel.breaches[-1]
    assert first.baseline == sentinel.report()["step 0"].perplexity["en"]
    assert first.value == sentinel.report()["step 2"].perplexity["en"] > first.allowed == 3.0 * first.baseline
    assert last.level > first.level >= 1
    said = [record.getMessage() for record in caplog.records if "Sentinel (warn)" in record.getMessage()]
    assert len(said) == len(seen)
    assert f"perplexity of en is {first.value:.2f}" in said[0]


def test_the_mean_can_be_what_counts(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """With `limit_on="mean"` one figure is judged."""
    sentinel = LanguageSentinel(TEXTS, every=1, limit_on="mean", on_breach="stop")
    train(tiny.llama(), Damage(2), sentinel)
    (breach,) = sentinel.breaches
    assert (breach.step, breach.kind) == (2, "mean")
    assert breach.value == sentinel.report()["step 2"].mean()


def test_stop_ends_training_after_the_step(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """The steps that were planned are not made, and the reason is kept, also on disk."""
    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="stop")
    trainer = train(tiny.llama(), Damage(2), sentinel, max_steps=6)
    assert trainer.state.global_step == 2
    assert "step 2: perplexity of en" in (sentinel.stopped_because or "")
    written = json.loads((tmp_path / "out" / SENTINEL_FILE).read_text())
    assert written["stopped_because"] == sentinel.stopped_because
    assert [one["action"] for one in written["breaches"]] == ["stop", "stop"]
    assert sentinel.to_json(tmp_path / "copy.json") == (tmp_path / "out" / SENTINEL_FILE).read_text()
    assert (tmp_path / "copy.json").read_text() == sentinel.to_json()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("on_disk", [False, True])
def test_revert_brings_every_bit_of_the_last_good_state_back(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path, dtype: torch.dtype, on_disk: bool
) -> None:
    """After a breach at step 4 the weights are those of step 3, the optimizer is empty, and training ends."""
    model = tiny.llama(dtype)
    witness, folder = Witness(tiny.bits_of), tmp_path / "kept" if on_disk else None
    sentinel = LanguageSentinel(TEXTS, every=1, limit=2.0, on_breach="revert", snapshot_dir=folder)
    trainer = train(model, witness, Damage(4, factor=1000), sentinel, max_steps=6)
    assert trainer.state.global_step == 4
    assert same(witness.bits[3], tiny.bits_of(model))
    assert not same(witness.bits[4], tiny.bits_of(model))
    assert not trainer.optimizer.state
    assert "those of step 3" in (sentinel.stopped_because or "")
    assert (folder is None) or [path.suffix for path in folder.iterdir()] == [".safetensors"]


def test_training_goes_on_after_a_revert_with_a_lower_rate(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """Half the rate from the next step on, under a schedule too; after `max_reverts` it ends all the same."""
    model, witness = tiny.llama(), Witness(tiny.bits_of)
    options = {"on_breach": "revert", "after_revert": "continue", "max_reverts": 1, "limit": 2.0}
    sentinel = LanguageSentinel(TEXTS, every=1, **options)
    plan = {"max_steps": 10, "lr_scheduler_type": "linear", "learning_rate": 1e-3}
    trainer = train(model, Damage(3, 6, factor=1000), sentinel, witness, **plan)
    assert trainer.state.global_step == 6
    assert witness.rates[2] == pytest.approx(1e-3 * 0.8)  # what the step after it uses
    assert witness.rates[3] == pytest.approx(0.5 * 1e-3 * 0.7)
    assert witness.rates[4] == pytest.approx(0.5 * 1e-3 * 0.6)
    assert same(witness.bits[2], witness.bits[3])
    assert not same(witness.bits[3], witness.bits[4])
    assert same(witness.bits[5], tiny.bits_of(model))
    assert [one.step for one in sentinel.breaches if one.subject == "en"] == [3, 6]


def test_revert_leaves_a_frozen_core_alone(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Core and sentinel together: the core keeps its bits through the revert, and the freeze ends content."""
    model = tiny.llama()
    core_mask, before = tiny.core_of(model), tiny.bits_of(model)
    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="revert", core_mask=core_mask, limit=2.0)
    train(model, CoreFreezeCallback(core_mask), Damage(3, factor=1000), sentinel, max_steps=5)
    core, complement = tiny.changed_bits(before, model, core_mask)
    assert core == 0 < complement
    assert sentinel.measurements[-1].drift.core_moved == sentinel.measurements[-1].drift.core_l2 == 0.0


def test_with_adapters_only_their_weights_are_kept(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """PEFT: the base is not copied, and the adapter goes back."""
    peft = pytest.importorskip("peft")
    wrapped = peft.get_peft_model(
        tiny.llama(), peft.LoraConfig(r=2, task_type="CAUSAL_LM", target_modules=["down_proj"])
    )
    trained = {name: value for name, value in wrapped.named_parameters() if value.requires_grad}
    kept: dict[str, Any] = {}

    class Spoil(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 2:
                kept.update({name: value.detach().clone() for name, value in trained.items()})
            if state.global_step == 3:
                for value in trained.values():
                    value.data.add_(10)

    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="revert", limit=1.02)
    train(wrapped, Spoil(), sentinel, max_steps=5)
    assert sentinel.breaches[0].step == 3
    assert all(torch.equal(kept[name], value) for name, value in trained.items())
    assert sentinel._watch is not None
    assert sentinel._watch._good.nbytes() == sum(value.nbytes for value in trained.values())


def test_drift_is_a_breach_of_its_own(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Only the named dimension is judged, against `drift_limit`."""
    sentinel = LanguageSentinel(
        TEXTS, every=1, limit=100.0, drift_limit=0.015, on_breach="stop", dimensions=[("model.norm", 3)]
    )
    trainer = train(tiny.llama(), sentinel, max_steps=20)
    (breach,) = sentinel.breaches
    assert (breach.kind, breach.subject) == ("drift", "model.norm.weight[3]")
    assert 0.015 < breach.value == sentinel.measurements[-1].drift.largest
    assert trainer.state.global_step == breach.step < 20


@pytest.mark.parametrize("figure", ["loss", "grad_norm"])
def test_a_logged_figure_that_is_not_finite_is_a_breach(
    train: Callable[..., Trainer], tiny: SimpleNamespace, figure: str
) -> None:
    """Between two measurements the Trainer's own log is listened to, and the weights go back."""
    model, witness = tiny.llama(), Witness(tiny.bits_of)

    class Break(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, *, model: nn.Module, **_: Any) -> None:
            if state.global_step == 1:  # NaN weights after this step, and a NaN gradient norm in the next
                next(model.parameters()).grad.fill_(float("nan"))

    logs = {"logging_strategy": "steps", "logging_steps": 1, "logging_nan_inf_filter": figure != "loss"}
    sentinel = LanguageSentinel(TEXTS, every=100, on_breach="revert")
    trainer = train(model, witness, Break(), sentinel, max_steps=6, **logs)
    assert trainer.state.global_step == 3
    assert f"the logged {figure}" in [one.subject for one in sentinel.breaches]
    assert same(witness.bits[0], tiny.bits_of(model))


def test_a_resumed_run_keeps_the_baseline_of_its_start(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Baseline, drift and steps go on from the files, and the table is that of an uninterrupted run."""
    whole = LanguageSentinel(TEXTS, every=2, core_mask=tiny.core_of(tiny.llama()))
    train(tiny.llama(), whole, max_steps=6, **saving(3))
    resumed = LanguageSentinel(TEXTS, every=2, core_mask=tiny.core_of(tiny.llama()))
    train(tiny.llama(), resumed, max_steps=6, resume="out/checkpoint-3", **saving(3))
    assert list(resumed.report().conditions) == ["step 0", "step 2", "step 3", "step 4", "step 6"]
    for label in ("step 0", "step 2", "step 4", "step 6"):
        assert resumed.report()[label].nll == whole.report()[label].nll
    assert resumed.measurements[-1].drift == whole.measurements[-1].drift
    assert resumed.measurements[-1].drift.largest > 0


def test_resuming_without_the_files_or_with_other_texts_is_refused(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """No silent new baseline; the message says which file and what to do."""
    train(tiny.llama(), LanguageSentinel(TEXTS), max_steps=2, **saving(2))
    again = {"resume": "out/checkpoint-2", "max_steps": 4, **saving(2)}
    with pytest.raises(ConfigurationError, match="other texts"):
        train(tiny.llama(), LanguageSentinel({**TEXTS, "de": ["ein anderer Text"]}), **again)
    for lost in (START_FILE, SENTINEL_FILE):
        (tmp_path / "out" / lost).unlink()
        with pytest.raises(ConfigurationError, match=rf"{lost} is missing or damaged.*Copy the sentinel's files"):
            train(tiny.llama(), LanguageSentinel(TEXTS), **again)


def test_a_sentinel_that_joins_later_says_so(
    train: Callable[..., Trainer], tiny: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that began without one gets the baseline of the checkpoint, with a warning."""
    train(tiny.llama(), **saving(2))
    sentinel = LanguageSentinel(TEXTS)
    with caplog.at_level(logging.WARNING):
        train(tiny.llama(), sentinel, resume="out/checkpoint-2", max_steps=4, **saving(2))
    assert "began without a sentinel: its baseline is step 2" in caplog.text
    assert list(sentinel.report().conditions) == ["step 2", "step 4"]


def test_resuming_in_breach_is_refused_unless_it_only_warns(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """There is no good state to go back to, and one more step would be made before a stop."""
    train(tiny.llama(), Damage(2), LanguageSentinel(TEXTS, every=1), **saving(2))
    again = {"resume": "out/checkpoint-2", "max_steps": 4, **saving(2)}
    with pytest.raises(ConfigurationError, match="in breach already: step 2: perplexity of en"):
        train(tiny.llama(), LanguageSentinel(TEXTS, every=1, on_breach="stop"), **again)
    sentinel = LanguageSentinel(TEXTS, every=1)
    assert train(tiny.llama(), sentinel, **again).state.global_step == 4
    assert [one.step for one in sentinel.breaches if one.subject == "en"] == [2]  # known already


def test_a_second_run_begins_afresh(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """The same sentinel in another training has another baseline and another table."""
    sentinel, model = LanguageSentinel(TEXTS), tiny.llama()
    train(model, sentinel)
    last = sentinel.report()["step 3"].nll
    train(model, sentinel, max_steps=2)
    assert list(sentinel.report().conditions) == ["step 0", "step 2"]
    assert sentinel.report()["step 0"].nll == last


def test_an_epoch_can_be_divided(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Sixteen rows in batches of two are eight steps; every half epoch is every four of them."""
    sentinel = LanguageSentinel(TEXTS, every=0.5)
    train(tiny.llama(), sentinel, per_device_train_batch_size=2, max_steps=-1, num_train_epochs=2)
    assert [one.step for one in sentinel.measurements] == [0, 4, 8, 12, 16]


def test_the_end_is_measured_where_another_callback_stops(
    train: Callable[..., Trainer], tiny: SimpleNamespace
) -> None:
    """Early stopping comes after the step's end; the last weights are measured while trackers still listen."""

    class StopAtEvaluation(TrainerCallback):
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            control.should_training_stop = state.global_step == 3

    sentinel = LanguageSentinel(TEXTS)
    trainer = train(tiny.llama(), StopAtEvaluation(), sentinel, max_steps=9, eval_strategy="steps", eval_steps=1)
    assert [one.step for one in sentinel.measurements] == [0, 3]
    assert any(entry["step"] == 3 and "sentinel/ppl_mean" in entry for entry in trainer.state.log_history)


def test_the_best_model_is_measured_where_it_is_loaded(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """What the user gets at the end is in the table too."""
    sentinel = LanguageSentinel(TEXTS, every=1)
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 1}
    trainer = train(tiny.llama(), Damage(3), sentinel, **best, **saving(1))
    report = sentinel.report()
    assert report["best model"].nll == report[f"step {trainer.state.best_global_step}"].nll != report["step 3"].nll


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ({"en": ["the cat"], "zh": []}, "'zh': the texts have 0 tokens"),
        ({"en": ["the cat"], "zh": [7]}, "'zh': expected texts"),
        ({"en": ["the cat"], "zh": ["fail"]}, "'zh': the tokenizer cannot encode .*RuntimeError: no such character"),
        ({"en": ["the cat"], "zh": ["unknown"]}, "'zh': 100% of the tokens .* are unknown"),
    ],
)
def test_texts_that_cannot_be_encoded_are_refused_before_the_first_step(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tokenizer: Any, texts: dict[str, Any], reason: str
) -> None:
    """The error names the language, no weight has moved, and nothing is written."""

    class Fragile:
        bos_token_id, eos_token_id, unk_token_id, unk_token = 0, 1, 7, "<unk>"

        def __call__(self, text: str, *, add_special_tokens: bool = True) -> Any:
            if text == "fail":
                raise RuntimeError("no such character")
            return {"input_ids": [7] * 9} if text == "unknown" else tokenizer(text, add_special_tokens=False)

    model = tiny.llama()
    before = tiny.bits_of(model)
    with pytest.raises(CorpusError, match=reason):
        train(model, LanguageSentinel(texts, tokenizer=Fragile()))
    assert same(before, tiny.bits_of(model))
    assert not (Path("out") / SENTINEL_FILE).exists()


def test_attach_reads_the_texts_before_training(
    plain_args: Callable[..., Any], tiny: SimpleNamespace, tokenizer: Any, token_rows: Dataset
) -> None:
    """A trainer's constructor can refuse them; without a tokenizer anywhere the message says what to pass."""
    options = {"model": tiny.llama(), "args": plain_args(), "train_dataset": token_rows}
    trainer = Trainer(processing_class=tokenizer, **options)
    with pytest.raises(CorpusError, match="'zh'"):
        LanguageSentinel({"zh": []}).attach(trainer)
    LanguageSentinel(TEXTS).attach(trainer)
    with pytest.raises(ConfigurationError, match="no tokenizer"):
        LanguageSentinel(TEXTS).attach(Trainer(**options))
    LanguageSentinel(TEXTS, tokenizer=tokenizer).attach(Trainer(**options))


def test_a_baseline_that_is_not_finite_is_refused(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """There would be nothing to compare with."""
    model = tiny.llama()
    model.lm_head.weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match="'en' is NaN or infinite already"):
        train(model, LanguageSentinel(TEXTS))


def test_what_is_not_supported_is_refused_by_name(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """Before the first step: no weight moves."""
    model = tiny.llama()
    before = tiny.bits_of(model)
    model.lm_head.weight.ds_id = 0
    with pytest.raises(UnsupportedModelError, match="DeepSpeed"):
        train(model, LanguageSentinel(TEXTS, on_breach="revert"))
    assert same(before, tiny.bits_of(model))


def test_a_sentinel_added_while_training_runs_is_refused() -> None:
    """It has no baseline."""
    with pytest.raises(ConfigurationError, match="while training was running"):
        LanguageSentinel(TEXTS).on_step_end(None, SimpleNamespace(global_step=1, max_steps=2), None)
    with pytest.raises(ConfigurationError, match="nothing yet"):
        LanguageSentinel(TEXTS).report()


@pytest.mark.parametrize(
    "options",
    [
        {"every": 0},
        {"every": 1.5},
        {"every": True},
        {"limit": 1.0},
        {"limit": float("inf")},
        {"limit_on": "worst"},
        {"drift_limit": 0},
        {"on_breach": "panic"},
        {"after_revert": "again"},
        {"learning_rate_factor": 0},
        {"max_reverts": -1},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_at_once(options: dict[str, Any]) -> None:
    """The message begins with the name of the option."""
    with pytest.raises(InputError, match=f"^{next(iter(options))}"):
        LanguageSentinel(TEXTS, **options)


def test_a_trainer_takes_a_mapping_a_folder_or_a_sentinel(tmp_path: Path, tiny: SimpleNamespace) -> None:
    """`as_sentinel` makes one of them, and refuses the rest."""
    (tmp_path / "zh.txt").write_text("一二三四五", encoding="utf-8")
    sentinel = LanguageSentinel(TEXTS)
    core_mask: CoreMask = tiny.core_of(tiny.llama())
    assert as_sentinel(sentinel) is sentinel
    assert as_sentinel(None) is None
    found = as_sentinel(tmp_path, core_mask=core_mask)
    assert found is not None
    assert (list(found._corpora), found._core_mask) == (["zh"], core_mask)
    assert isinstance(as_sentinel(TEXTS), LanguageSentinel)
    with pytest.raises(CorpusError, match="no folder"):
        as_sentinel("nowhere")
    with pytest.raises(InputError, match="got int"):
        as_sentinel(3)
    core_mask.save_pretrained(tmp_path / "core")
    assert LanguageSentinel(TEXTS, core_mask=tmp_path / "core")._core_mask == core_mask


def test_a_checkpoint_of_reverted_weights_may_be_resumed(
    train: Callable[..., Trainer], tiny: SimpleNamespace, tmp_path: Path
) -> None:
    """What was measured at that step were the weights before the revert."""
    options = {"every": 1, "limit": 2.0, "on_breach": "revert", "after_revert": "continue"}
    saving = {"save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-3}
    first = LanguageSentinel(TEXTS, **options)
    train(tiny.llama(), Damage(3, factor=1000), first, max_steps=3, **saving)
    assert [one.action for one in first.breaches] == ["revert"] * len(first.breaches) != []
    second = LanguageSentinel(TEXTS, **options)
    checkpoint = str(tmp_path / "out" / "checkpoint-3")
    trainer = train(tiny.llama(), second, resume=checkpoint, max_steps=5, **saving)
    assert trainer.state.global_step == 5
    before, after = [one for one in second.measurements if one.step == 3]
    assert after.scores["en"].nll < before.scores["en"].nll


def test_one_step_is_answered_once(train: Callable[..., Trainer], tiny: SimpleNamespace) -> None:
    """A measurement that breaks off and the log of the same step are one breach, and one lowering of the rate."""

    class Explode(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 2:
                next(more["model"].parameters()).data.fill_(float("nan"))

        def on_log(self, args: Any, state: Any, control: Any, *, logs: Any = None, **_: Any) -> None:
            if state.global_step == 2 and "loss" in logs:
                logs["loss"] = float("nan")

    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="revert", after_revert="continue", max_reverts=5)
    logging_all = {"logging_strategy": "steps", "logging_steps": 1}
    trainer = train(tiny.llama(), Explode(), sentinel, max_steps=4, learning_rate=1e-3, **logging_all)
    assert {one.step for one in sentinel.breaches} == {2}
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(0.5e-3)
