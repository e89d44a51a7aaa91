from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hf_langcore.architecture import decoder_weights
from hf_langcore.masks import CoreMask
from hf_langcore.tuner.export import AdapterExport

Wrap = Callable[..., Any]

ELSEWHERE = """
import sys
import torch
from peft import PeftModel
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

base, lora, shira, merged, tokens = sys.argv[1:6]
ids = torch.tensor([[int(token) for token in tokens.split(",")]])
with torch.no_grad():
    logits = {
        "lora": PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), lora)(ids).logits,
        "shira": PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), shira)(ids).logits,
        "merged": AutoModelForCausalLM.from_pretrained(merged)(ids).logits,
    }
assert not [name for name in sys.modules if name.startswith("hf_langcore")]
save_file(logits, sys.argv[6])
"""


@pytest.fixture
def model(llama: Any, make_wrapped: Wrap) -> Any:
    """An adapter that every format can hold: 20 weights of every matrix change, all in one column."""
    planes = {name: torch.ones_like(w.parameter).bool() for name, w in decoder_weights(llama).items()}
    for plane in planes.values():
        if plane.dim() == 2:
            plane[:20, 3] = False
    return make_wrapped(llama, CoreMask(planes))


def test_nobody_needs_this_library(model: Any, saved_base: Path, tmp_path: Path) -> None:
    """A process that never imports hf_langcore loads all three forms and gets the same outputs."""
    tuner, folders = model.base_model, [str(tmp_path / name) for name in ("lora", "shira", "merged")]
    AdapterExport.save_as_lora(tuner, folders[0])
    AdapterExport.save_as_shira(tuner, folders[1])
    AdapterExport.save_merged(tuner, folders[2], max_shard_size="20KB")
    tokens = [5, 17, 3, 60, 0, 9]
    arguments = [str(saved_base), *folders, ",".join(map(str, tokens)), str(tmp_path / "logits")]
    subprocess.run([sys.executable, "-c", ELSEWHERE, *arguments], check=True, cwd=tmp_path)
    expected = model(torch.tensor([tokens])).logits
    found = load_file(tmp_path / "logits")
    assert set(found) == {"lora", "shira", "merged"}
    for logits in found.values():
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_in_memory(model: Any, tmp_path: Path) -> None:
    """What to_lora and to_shira return is what save_as_lora and save_as_shira write."""
    tuner = model.base_model
    for convert, save in (
        (AdapterExport.to_lora, AdapterExport.save_as_lora),
        (AdapterExport.to_shira, AdapterExport.save_as_shira),
    ):
        config, weights = convert(tuner, "default")
        save(tuner, tmp_path / save.__name__, "default")
        written = load_file(tmp_path / save.__name__ / "adapter_model.safetensors")
        assert set(weights) == set(written)
        assert all(torch.equal(weights[key], written[key]) for key in written)
        assert all(key.startswith("base_model.model.") for key in written)
        again = type(config).from_pretrained(tmp_path / save.__name__)
        assert again.to_dict() == {**config.to_dict(), "peft_version": again.peft_version}


def test_results_are_copies(model: Any) -> None:
    """Changing what to_lora returned does not change the model."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for value in AdapterExport.to_lora(model.base_model)[1].values():
        value.fill_(7)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
