"""Two processes: each trains its part, and the report sums over both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import json, sys
from collections import Counter
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from hf_langcore.training import CoreRegionSFTConfig, CoreRegionSFTTrainer

folder = sys.argv[1]
special = dict(bos_token="<s>", eos_token="</s>", pad_token="<pad>")
task = Dataset.from_list([{"prompt": f"question {i} ", "completion": "answer " * (i % 3 + 1)} for i in range(9)])
sources = {
    name: Dataset.from_list([{"text": f"{name} the cat sat " * (i % 3 + 1)} for i in range(30)])
    for name in ("wiki", "news")
}

def run(kind, rows, **more):
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json", **special)
    config = LlamaConfig(vocab_size=300, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=1, pad_token_id=2, bos_token_id=0, eos_token_id=1)
    args = CoreRegionSFTConfig(f"{folder}/{kind}", use_cpu=True, bf16=False, gradient_checkpointing=False,
        report_to="none", per_device_train_batch_size=2, save_strategy="no", logging_strategy="no", disable_tqdm=True,
        max_length=64, general_data_ratio=2.0, general_data_weights=[2, 1], **more)
    trainer = CoreRegionSFTTrainer(
        LlamaForCausalLM(config), args, train_dataset=rows, general_dataset=sources, processing_class=tokenizer)
    assert trainer.accelerator.num_processes == 2
    seen, compute = Counter(), trainer.compute_loss
    def watch(model, inputs, *rest, **more):
        present = inputs.get("attention_mask", torch.ones_like(inputs["input_ids"]))
        seen.update(rows=int((inputs["input_ids"] == 0).sum()), tokens=int(present.sum()),
            trained_tokens=int((inputs["labels"][:, 1:] != -100).sum()))
        return compute(model, inputs, *rest, **more)
    trainer.compute_loss = watch
    trainer.train()
    with open(f"{folder}/{kind}-{trainer.accelerator.process_index}.json", "w") as file:
        json.dump(seen, file)

run("memory", task, num_train_epochs=2)
run("packed", task, num_train_epochs=2, packing=True)
run("stream", task.to_iterable_dataset(), max_steps=6)
"""


def test_the_report_sums_over_processes(tokenizer_file: Path, tmp_path: Path) -> None:
    """What both processes saw together is what the one file says: in memory, packed, and streaming."""
    (tmp_path / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launch, script, tmp_path], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    totals = {}
    for kind in ("memory", "packed", "stream"):
        seen = [json.loads((tmp_path / f"{kind}-{rank}.json").read_text()) for rank in (0, 1)]
        totals[kind] = json.loads((tmp_path / kind / "mixture.json").read_text())["total"]
        for figure in ("rows", "tokens", "trained_tokens"):
            assert sum(count[figure] for count in totals[kind].values()) == seen[0][figure] + seen[1][figure] > 0
    rows = {kind: {name: count["rows"] for name, count in total.items()} for kind, total in totals.items()}
    # Nine task rows, twelve and six general rows, twice. The last of 14 batches repeats one row, trained and so counted.
    assert sum(rows["memory"].values()) == 2 * 28
    # Packed, the last batch repeats whole blocks.
    assert rows["packed"]["task"] >= 2 * 9
    assert rows["packed"]["wiki"] >= 2 * 12
    # 24 rows: eight of the task, two after each of them, two to one.
    assert (rows["stream"]["task"], rows["stream"]["wiki"] in {10, 11}) == (8, True)
