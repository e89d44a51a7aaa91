"""Whether a model says its input again instead of answering: a fault of badly trained sequence-to-sequence models.

An output is compared with its input by character n-grams, which needs no words and so works in every language.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import check_batch_size, is_encoder_decoder
from hf_langcore.errors import InputError
from hf_langcore.modes import eval_mode

_NGRAM = 5
_BATCH = 16


@dataclass(frozen=True, slots=True)
class EchoReport:
    """How much of the outputs is input.

    Attributes:
        overlaps: Output by output: share of its character 5-grams that stand in its input, from 0 to 1; None for an output
            that is too short to tell and is no copy.
        copies: Number of outputs that are their inputs, apart from case, spaces and punctuation.
        echoes: Number of outputs of which at least `threshold` is input, copies included.
        threshold: That share.
        outputs: The outputs.
    """

    overlaps: tuple[float | None, ...]
    copies: int
    echoes: int
    threshold: float
    outputs: tuple[str, ...]

    @property
    def rate(self) -> float:
        """Share of all outputs that are echoes, from 0 to 1."""
        return self.echoes / len(self.outputs)

    @property
    def mean_overlap(self) -> float | None:
        """Mean over the outputs that are long enough; None where none is."""
        known = [one for one in self.overlaps if one is not None]
        return sum(known) / len(known) if known else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, without the outputs."""
        return {
            "outputs": len(self.outputs),
            "copies": self.copies,
            "echoes": self.echoes,
            "rate": self.rate,
            "mean_overlap": self.mean_overlap,
            "too_short": sum(one is None for one in self.overlaps),
            "threshold": self.threshold,
        }


def measure_echo(inputs: Sequence[str], outputs: Sequence[str], *, threshold: float = 0.8) -> EchoReport:
    """Compare outputs with the inputs that they were written for.

    Args:
        inputs: What the model read.
        outputs: What it wrote, one for each input.
        threshold: Share of an output's 5-grams from which on it counts as an echo, above 0 and at most 1.

    Raises:
        InputError: There are no outputs, inputs and outputs are of unequal number, or the threshold is no such share.
    """
    if not outputs or len(inputs) != len(outputs):
        raise InputError(
            f"Each output is compared with its input: got {len(inputs):,} inputs and {len(outputs):,} outputs. Pass as many of "
            "both, and at least one."
        )
    if not 0 < threshold <= 1:
        raise InputError(f"threshold is a share above 0 and at most 1, got {threshold!r}.")
    pairs = [(_plain(read), _plain(written)) for read, written in zip(inputs, outputs, strict=True)]
    overlaps = tuple(_overlap(read, written) for read, written in pairs)
    copies = sum(read == written and bool(written) for read, written in pairs)
    echoes = sum(one is not None and one >= threshold for one in overlaps)
    return EchoReport(overlaps, copies, echoes, threshold, tuple(outputs))


def evaluate_echo(
    model: nn.Module,
    tokenizer: Any,
    inputs: Sequence[str],
    *,
    max_new_tokens: int = 64,
    batch_size: int = _BATCH,
    threshold: float = 0.8,
) -> EchoReport:
    """Let a model answer greedily and compare the answers with the inputs.

    Args:
        model: An encoder-decoder model, or a causal LM, whose new tokens count only.
        tokenizer: Its tokenizer, of transformers.
        inputs: What the model reads, one text each.
        max_new_tokens: At most so many tokens are written.
        batch_size: Inputs per batch.
        threshold: As for `measure_echo`.

    Raises:
        InputError: There are no inputs, or an option is out of range.
    """
    if isinstance(inputs, str) or not inputs:
        raise InputError("inputs must be a list of at least one text. Put a single text into a list.")
    size = check_batch_size(batch_size) or _BATCH
    outputs: list[str] = []
    with eval_mode(model), torch.inference_mode():
        for first in range(0, len(inputs), size):
            outputs += _answers(model, tokenizer, inputs[first : first + size], max_new_tokens)
    return measure_echo(inputs, outputs, threshold=threshold)


def _answers(model: Any, tokenizer: Any, inputs: Sequence[str], max_new_tokens: int) -> list[str]:
    """Greedy answers; inputs are filled up on the left for causal models, whose answers follow directly."""
    is_pair_model = is_encoder_decoder(unwrap(model))
    rows = [_prompt(tokenizer, text, ends=is_pair_model) for text in inputs]
    pad = next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)
    width, device = max(map(len, rows)), next(model.parameters()).device
    ids = torch.full((len(rows), width), pad, device=device)
    seen = torch.zeros_like(ids)
    for number, row in enumerate(rows):
        place = slice(0, len(row)) if is_pair_model else slice(width - len(row), width)
        ids[number, place] = torch.tensor(row, device=device)
        seen[number, place] = 1
    written = model.generate(
        input_ids=ids,
        attention_mask=seen,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        num_beams=1,
        repetition_penalty=1.0,  # penalties that the model comes with would hide an echo
        no_repeat_ngram_size=0,
        encoder_repetition_penalty=1.0,
        encoder_no_repeat_ngram_size=0,
        pad_token_id=pad,
    )
    new = written if is_pair_model else written[:, width:]
    return [str(tokenizer.decode(row, skip_special_tokens=True)) for row in new]


def _prompt(tokenizer: Any, text: str, *, ends: bool) -> list[int]:
    """The tokens of an input; a causal model goes on from it, so that an end token of the tokenizer's is no part of it."""
    ids = list(tokenizer(text)["input_ids"])
    if not ends and ids[-1:] == [tokenizer.eos_token_id]:
        ids = ids[:-1]
    if not ids:
        raise InputError(f"The input {text!r} has no tokens; a model needs at least one to answer. Leave it out.")
    return ids


def _overlap(read: str, written: str) -> float | None:
    """Share of the 5-grams of what was written that were read."""
    if read == written and written:
        return 1.0
    grams = [written[place : place + _NGRAM] for place in range(len(written) - _NGRAM + 1)]
    return sum(one in read for one in grams) / len(grams) if len(grams) > _NGRAM else None


def _plain(text: str) -> str:
    """Letters and digits of a text, in one case; a full stop more or less makes no other text."""
    letters = (one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in text)
    return " ".join(unicodedata.normalize("NFC", "".join(letters)).casefold().split())
