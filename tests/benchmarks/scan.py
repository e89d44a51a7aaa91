"""What a scan costs beside the forward passes that its edits need; run by `run.py`.

    python tests/benchmarks/scan.py

The yardstick is the bare model: as many forward passes over the same batches as there are edits, with logits and nothing
else. Both are measured in turns in one process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from paired import ratio
from transformers import LlamaConfig, LlamaForCausalLM

from hf_langcore.evaluation import prepare_scoring
from hf_langcore.scanning import find_critical_dimensions
from hf_langcore.scanning.from_activations import activation_candidates
from hf_langcore.scanning.stages import SCREENING_TOKENS
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText, excerpt

_TEXT = {"block_size": 64, "max_tokens": 128}


class _Characters:
    bos_token_id, eos_token_id = 1, 2

    def __call__(self, text: str, *, add_special_tokens: bool = True) -> dict[str, list[int]]:
        del add_special_tokens
        return {"input_ids": [3 + ord(one) % 4000 for one in text]}


def _model(layers: int, width: int) -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        intermediate_size=width * 8 // 3,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


def table(*, repeats: int) -> str:
    """Ratios as Markdown."""
    head = "| case | ratio: median (smallest to largest) | ours, s | bare passes, s |\n| --- | --- | ---: | ---: |"
    rows = [_row(layers, width, reuse, repeats) for layers, width in ((6, 32), (4, 64)) for reuse in ("auto", "off")]
    return "\n".join(
        ["### Scan of all norm dimensions / bare forward passes of its edits", "", head, *rows, _candidates(repeats)]
    )


def _row(layers: int, width: int, reuse: Any, repeats: int) -> str:
    model, texts = _model(layers, width), _texts()
    edits = 2 * sum(weight.parameter.numel() for weight in Tensors.of(model).norms.values())
    bare = _passes(model, texts, edits)

    def whole() -> object:
        return find_critical_dimensions(
            model, _Characters(), texts, kinds=("norm",), candidates=None, reuse=reuse, progress=False, **_TEXT
        )

    measured = ratio(whole, bare, repeats=repeats, warmups=1)
    what = f"{layers} layers, width {width}, {edits} edits, " + (
        "prefixes reused" if reuse == "auto" else "whole passes"
    )
    print(f"{what}: {measured}", file=sys.stderr)
    return f"| {what} | {measured} | {measured.ours:.1f} | {measured.theirs:.1f} |"


def _candidates(repeats: int) -> str:
    """Candidates from activations beside one bare forward pass over the whole text."""
    model, texts = _model(6, 192), _texts()
    task = prepare_scoring(model, _Characters(), texts, **_TEXT)
    tensors = Tensors.of(model)
    measured = ratio(
        lambda: activation_candidates(model, tensors, task), _passes(model, texts, 1), repeats=repeats, warmups=1
    )
    return (
        "\nCandidates by activation, one forward pass of one batch, beside one pass over the screening text: "
        f"{measured} ({measured.ours * 1000:.0f} ms and {measured.theirs * 1000:.0f} ms)."
    )


def _passes(model: Any, texts: dict[str, list[str]], count: int) -> Callable[[], object]:
    task = prepare_scoring(model, _Characters(), texts, **_TEXT)
    batches = PreparedText(model, excerpt(task, SCREENING_TOKENS)).batches

    def run() -> None:
        with torch.inference_mode():
            for _ in range(count):
                for batch in batches:
                    _ = model(input_ids=batch.ids, use_cache=False, **batch.padding).logits

    return run


def _texts() -> dict[str, list[str]]:
    lines = [f"a sentence with number {number} and some more words behind it" for number in range(40)]
    return {"en": lines, "de": [line[::-1] for line in lines]}


if __name__ == "__main__":
    print(table(repeats=3))
