"""First-order importance: abs(sum over batches of gradient x weight), as published.

Source: Zhang et al., Unveiling Linguistic Regions in Large Language Models, ACL 2024, and its code: gradients of
the mean loss of every batch are summed with their signs over all batches of one language; the sum times the
weight, in absolute value, is the importance, and importances are summed over languages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Weight
from hf_langcore.data import vocabulary_size
from hf_langcore.errors import NonFiniteError

_LOGIT_BUDGET = (
    1 << 25
)  # logits in one forward and backward pass: 128 MB in float32, several times that with gradients


def taylor_scores(
    model: nn.Module,
    weights: Mapping[str, Weight],
    blocks: torch.Tensor,
    *,
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
        blocks: int64, (blocks, block_size).
        batch_size: Blocks per batch.
        language: For messages.
        bar: Advanced by one per block.

    Returns:
        Name -> float32 CPU tensor of the weight's shape.

    Raises:
        NonFiniteError: A loss is NaN or infinite.
    """
    sums = {
        name: torch.zeros(weight.parameter.shape, dtype=torch.float32, device=weight.parameter.device)
        for name, weight in weights.items()
    }
    with _summing_gradients(weights, sums), torch.enable_grad():
        for batch in blocks.split(batch_size):
            for part in batch.split(_part_size(model, batch)):
                loss = _mean_loss(model, part)
                if not torch.isfinite(loss):
                    raise _nonfinite(language, loss.item())
                (loss * (len(part) / len(batch))).backward()
                bar.update(len(part))
    return {
        name: total.mul_(weights[name].parameter.detach().float()).abs_().to("cpu") for name, total in sums.items()
    }


@contextmanager
def _summing_gradients(weights: Mapping[str, Weight], sums: Mapping[str, torch.Tensor]) -> Iterator[None]:
    """Add every gradient to its float32 sum as soon as it is complete, so that no gradient outlives its layer."""

    def adder(total: torch.Tensor) -> Callable[[torch.Tensor], None]:
        def add(parameter: torch.Tensor) -> None:
            if parameter.grad is not None:
                total.add_(parameter.grad)
                parameter.grad = None

        return add

    handles = [
        weight.parameter.register_post_accumulate_grad_hook(adder(sums[name])) for name, weight in weights.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean_loss(model: nn.Module, blocks: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood of every token after the first of each block."""
    ids = blocks.to(next(model.parameters()).device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return nn.functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten())


def _part_size(model: nn.Module, batch: torch.Tensor) -> int:
    return max(1, min(len(batch), _LOGIT_BUDGET // (batch.shape[1] * vocabulary_size(model))))


def _nonfinite(language: str, loss: float) -> NonFiniteError:
    return NonFiniteError(
        f"The loss on {language!r} is {loss}, so no importance can be computed; the languages before it are kept. Load the "
        "model in float32 or bfloat16 instead of float16, and check that its weights hold no NaN."
    )
