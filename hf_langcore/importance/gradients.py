"""Importance from gradients: the published score, its absolute form, and the empirical Fisher information.

Source of "taylor": Zhang et al., Unveiling Linguistic Regions in Large Language Models, ACL 2024, and its code:
gradients of the mean loss of every batch are summed with their signs over all batches of one language; the sum times
the weight, in absolute value, is the importance, and importances are summed over languages. "taylor_abs" takes the
absolute value of every batch's gradient x weight before the sum, "fisher" the mean square of the batches' gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Weight
from hf_langcore.data import Blocks, num_scored, predictions, vocabulary_size
from hf_langcore.errors import NonFiniteError

GradientMethod = Literal["taylor", "taylor_abs", "fisher"]

_LOGIT_BUDGET = (
    1 << 25
)  # logits in one forward and backward pass: 128 MB in float32, several times that with gradients


def gradient_scores(
    model: nn.Module,
    weights: Mapping[str, Weight],
    blocks: Blocks,
    *,
    method: GradientMethod,
    batch_size: int,
    language: str,
    bar: tqdm[Any],
) -> dict[str, torch.Tensor]:
    """The importance of `weights` for one language.

    A batch that would need too much memory is split; its parts are weighted so that they add up to the gradient
    of the batch's mean loss, so the scores do not depend on the machine.

    Args:
        model: The bare model, in eval mode, with gradients required for `weights` only.
        weights: Name -> weight.
        blocks: int64, (blocks, block_size), or pairs.
        method: "taylor", "taylor_abs" or "fisher".
        batch_size: Blocks per batch.
        language: For messages.
        bar: Advanced by one per block.

    Returns:
        Name -> float32 CPU tensor of the weight's shape.

    Raises:
        NonFiniteError: A loss is NaN or infinite.
    """
    sums = _BatchSums(weights, method)
    batches = blocks.split(batch_size)
    with _gradients_to(sums, weights), torch.enable_grad():
        for batch in batches:
            parts = batch.split(part_size(model, batch))
            sums.keep_parts = method != "taylor" and len(parts) > 1
            for part in parts:
                loss = _mean_loss(model, part)
                if not torch.isfinite(loss):
                    raise _nonfinite(language, loss.item())
                (loss * (num_scored(part) / num_scored(batch))).backward()
                bar.update(len(part))
            sums.end_batch()
    if method == "fisher":
        return {name: total.div_(len(batches)).to("cpu") for name, total in sums.totals.items()}
    return {
        name: total.mul_(weights[name].parameter.detach().float()).abs_().to("cpu")
        for name, total in sums.totals.items()
    }


class _BatchSums:
    """float32 sums over batches of the gradients, of their absolute values or of their squares.

    Attributes:
        totals: Name -> sum.
        keep_parts: Whether the gradients that come belong to parts of one batch, so that neither absolute values nor
            squares can be taken of them before they are added up.
    """

    def __init__(self, weights: Mapping[str, Weight], method: GradientMethod) -> None:
        self.totals = {name: _zeros_like(weight) for name, weight in weights.items()}
        self.keep_parts = False
        self._weights = weights
        self._method = method
        self._parts: dict[str, torch.Tensor] = {}

    def add(self, name: str, gradient: torch.Tensor) -> None:
        """Take in the gradient of a batch, or of a part of one."""
        if self.keep_parts:
            if name not in self._parts:
                self._parts[name] = _zeros_like(self._weights[name])
            self._parts[name].add_(gradient)
        else:
            self._reduce(name, gradient)

    def end_batch(self) -> None:
        """Take in what the parts of a batch have added up to."""
        for name, gradient in self._parts.items():
            self._reduce(name, gradient)
            gradient.zero_()

    def _reduce(self, name: str, gradient: torch.Tensor) -> None:
        total = self.totals[name]
        if self._method == "taylor":
            total.add_(gradient)
        elif self._method == "taylor_abs":
            total.add_(gradient.float().abs())
        else:
            gradient = gradient.float()
            total.addcmul_(gradient, gradient)


def _zeros_like(weight: Weight) -> torch.Tensor:
    return torch.zeros(weight.parameter.shape, dtype=torch.float32, device=weight.parameter.device)


@contextmanager
def _gradients_to(sums: _BatchSums, weights: Mapping[str, Weight]) -> Iterator[None]:
    """Give every gradient to its sum as soon as it is complete, so that no gradient outlives its layer."""

    def adder(name: str) -> Callable[[torch.Tensor], None]:
        def add(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                sums.add(name, parameter.grad)
                parameter.grad = None

        return add

    handles = [weight.parameter.register_post_accumulate_grad_hook(adder(name)) for name, weight in weights.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def part_size(model: nn.Module, batch: Blocks) -> int:
    """How many blocks of a batch go through the model at once.

    Args:
        model: The bare model.
        batch: int64, (blocks, block_size), or pairs.
    """
    return max(1, min(len(batch), _LOGIT_BUDGET // (batch.shape[1] * vocabulary_size(model))))


def _mean_loss(model: nn.Module, blocks: Blocks) -> torch.Tensor:
    """Mean negative log-likelihood of every token after the first of each block, or of every token of the targets."""
    logits, wanted = predictions(model, blocks)
    return nn.functional.cross_entropy(logits.float(), wanted)


def _nonfinite(language: str, loss: float) -> NonFiniteError:
    return NonFiniteError(
        f"The loss on {language!r} is {loss}, so no importance can be computed; the languages before it are kept. Load the "
        "model in float32 or bfloat16 instead of float16, and check that its weights hold no NaN."
    )
