"""Measuring leaves no trace, and several processes measure and decide alike."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.errors import NonFiniteError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.training.sentinel_measuring import generators_kept, measure, prepare_texts, require_finite

READING: dict[str, Any] = {
    "block_size": 16,
    "max_tokens": 30,
    "seed": None,
    "bos_token_id": None,
    "text_column": "text",
}
TEXTS = {"en": ["the cat sat on the mat and a dog"], "de": ["die Katze sah den Hund an und lief davon"]}


def test_random_generators_are_put_back() -> None:
    """torch, numpy and Python draw afterwards what they would have drawn."""

    def draw() -> tuple[float, float, float]:
        return torch.rand(1).item(), float(np.random.rand()), random.random()  # noqa: NPY002 the global one

    def seed() -> None:
        torch.manual_seed(5)
        np.random.seed(5)  # noqa: NPY002 the global one
        random.seed(5)

    seed()
    expected = draw()
    seed()
    with generators_kept():
        draw()
    assert draw() == expected


def test_flags_gradients_and_modes_stay(tiny: SimpleNamespace, tokenizer: Any) -> None:
    """Modules that train go on training, modules that do not do not, and gradients are left alone."""
    model = tiny.gpt2().train()
    model.transformer.h[0].eval()
    model.lm_head.weight.grad = torch.ones_like(model.lm_head.weight)
    modes = [module.training for module in model.modules()]
    scores = measure(model, prepare_texts(model, tokenizer, TEXTS, **READING), batch_size="auto")
    assert list(scores) == ["en", "de"]
    assert modes == [module.training for module in model.modules()]
    assert bool((model.lm_head.weight.grad == 1).all())
    assert torch.is_grad_enabled()


def test_windows_do_not_overlap(tiny: SimpleNamespace, tokenizer: Any) -> None:
    """Each token goes through the model once, so that measuring stays cheap."""
    task = prepare_texts(tiny.llama(), tokenizer, TEXTS, **READING)
    for windows in task.windows.values():
        assert all(window.first_scored == 1 and len(window.ids) <= 16 for window in windows[:-1])
    assert [len(window.ids) for window in task.windows["de"]] == [16, 16]
    assert sum(window.num_scored for window in task.windows["de"]) == 30


def test_broken_weights_measure_as_infinite_and_are_no_baseline(tiny: SimpleNamespace, tokenizer: Any) -> None:
    """NaN becomes an infinite perplexity, and the first measurement must not have one."""
    model = tiny.llama()
    model.lm_head.weight.data.fill_(float("nan"))
    scores = measure(model, prepare_texts(model, tokenizer, TEXTS, **READING), batch_size=1)
    assert scores["de"].perplexity == float("inf")
    with pytest.raises(NonFiniteError, match="2 of 3 languages"):
        require_finite({"zh": LanguageScore(1.0, 3), **scores})


_RUN = '''
import json, sys, warnings
from pathlib import Path
import torch
from datasets import Dataset
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from transformers import (LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainerCallback,
    TrainerControl, TrainerState, TrainingArguments, default_data_collator)
from transformers.trainer_callback import CallbackHandler, DefaultFlowCallback
from hf_langcore.training.sentinel import LanguageSentinel

TEXTS = {"en": ["the cat sat on the mat and a dog"], "de": ["die Katze sah den Hund an"], "fr": ["le chat a vu le chien"]}
tokenizer = PreTrainedTokenizerFast(tokenizer_file=sys.argv[1], bos_token="<s>", eos_token="</s>", pad_token="<pad>")

def build():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(vocab_size=300, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=128, bos_token_id=0, eos_token_id=1, pad_token_id=2))

def local(model):
    return {n: (p.to_local() if isinstance(p, DTensor) else p).detach().clone() for n, p in model.named_parameters()}

class Witness(TrainerCallback):
    def __init__(self): self.kept = {}
    def on_step_end(self, args, state, control, *, model, **_): self.kept[state.global_step] = local(model)

class Damage(TrainerCallback):
    """On one process only the damage would be seen by those that measure there."""
    def on_optimizer_step(self, args, state, control, *, model, **_):
        if state.global_step + 1 == 3:
            with torch.no_grad(): model.lm_head.weight.mul_(1000)

def summary(sentinel, model, witness, steps):
    now = local(model)
    return {
        "steps": steps,
        "nll": {l: {k: s.nll for k, s in scores.items()} for l, scores in sentinel.report().conditions.items()},
        "drift": [m.drift.largest for m in sentinel.measurements],
        "core_l2": [m.drift.core_l2 for m in sentinel.measurements],
        "stopped": sentinel.stopped_because,
        "back": all(torch.equal(now[n], witness.kept[2][n]) for n in now),
        "damaged": not all(torch.equal(now[n], witness.kept[3][n]) for n in now),
    }

def mask(model):
    from hf_langcore.masks import CoreMask
    return CoreMask({n: torch.arange(p.numel()).reshape(p.shape) % 7 == 0
                     for n, p in model.named_parameters() if "layers.1.mlp" in n})

def ddp(folder):
    rows = torch.randint(3, 300, (16, 12), generator=torch.Generator().manual_seed(1)).tolist()
    rows = Dataset.from_list([{"input_ids": row, "labels": row} for row in rows])
    model, witness = build(), Witness()
    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="revert", limit=2.0, core_mask=mask(model))
    args = TrainingArguments(folder, per_device_train_batch_size=2, max_steps=6, learning_rate=1e-2, use_cpu=True,
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True)
    trainer = Trainer(model=model, args=args, train_dataset=rows, data_collator=default_data_collator,
        processing_class=tokenizer, callbacks=[witness, Damage(), sentinel])
    trainer.train()
    assert type(trainer.model_wrapped).__name__ == "DistributedDataParallel"
    return summary(sentinel, model, witness, trainer.state.global_step)

def fsdp2(folder):
    """accelerate runs DDP instead of FSDP2 on CPUs, so the Trainer's loop is played by hand."""
    model, witness = build(), Witness()
    core = mask(model)
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    for layer in model.model.layers: fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    sentinel = LanguageSentinel(TEXTS, every=1, on_breach="revert", limit=2.0, core_mask=core)
    args = TrainingArguments(folder, use_cpu=True, report_to="none")
    handler = CallbackHandler([DefaultFlowCallback(), witness, Damage(), sentinel], model, tokenizer, optimizer, None)
    state, control = TrainerState(max_steps=6, epoch=0.0), TrainerControl()
    state.is_world_process_zero = distributed.get_rank() == 0
    handler.on_train_begin(args, state, control)
    ids = torch.randint(3, 300, (2, 12), generator=torch.Generator().manual_seed(distributed.get_rank()))
    while not control.should_training_stop:
        model.train()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step(); optimizer.zero_grad()
        handler.on_optimizer_step(args, state, control)
        state.global_step += 1
        handler.on_step_end(args, state, control)
    handler.on_train_end(args, state, control)
    return summary(sentinel, model, witness, state.global_step)

found = {"ddp": ddp("ddp"), "fsdp2": fsdp2("fsdp2")}
Path(f"found-{distributed.get_rank()}.json").write_text(json.dumps(found))
distributed.destroy_process_group()
'''


@pytest.fixture(scope="module")
def two_processes(tokenizer_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], Path]:
    """What two gloo processes saw, and where they wrote."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "run.py").write_text(_RUN)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "run.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*launch, str(tokenizer_file)], cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"found-{rank}.json").read_text()) for rank in range(2)], folder


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_two_processes_measure_decide_and_go_back_alike(
    two_processes: tuple[list[Any], Path], strategy: str, tiny: SimpleNamespace, tokenizer: Any
) -> None:
    """Same figures to the bit, the right ones; both stop after step 3 with the weights of step 2."""
    (first, second), folder = two_processes
    one, other = first[strategy], second[strategy]
    for name in ("steps", "nll", "drift", "core_l2", "stopped", "back", "damaged"):
        assert one[name] == other[name], name
    assert (one["steps"], one["back"], one["damaged"]) == (3, True, True)
    assert "step 3" in one["stopped"]
    assert "those of step 2" in one["stopped"]
    assert one["drift"][0] == one["core_l2"][0] == 0 < min(one["drift"][1:] + one["core_l2"][1:])
    texts = {**TEXTS, "de": ["die Katze sah den Hund an"], "fr": ["le chat a vu le chien"]}
    reading = {**READING, "block_size": 512, "max_tokens": 512}
    model = tiny.llama()
    alone = measure(model, prepare_texts(model, tokenizer, texts, **reading), batch_size="auto")
    assert one["nll"]["step 0"] == pytest.approx({name: score.nll for name, score in alone.items()})
    written = json.loads((folder / strategy / "sentinel.json").read_text())
    assert [measured["step"] for measured in written["measurements"]] == [0, 1, 2, 3]
