"""Wanda: abs(weight) times the L2 norm of the input feature that it multiplies.

Source: Sun et al., A Simple and Effective Pruning Approach for Large Language Models, ICLR 2024. The norm is taken over
all tokens of a language, and scores are summed over languages. Nothing is computed backwards.

Only the weight of a linear map multiplies a feature. Norm gains, biases and tables of relative positions are left out of
the scores, and so of masks that come from them; matrices that are multiplied somewhere else than in a linear layer are
refused, because nobody sees what they are multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Weight
from hf_langcore.data import Blocks, PairBlocks, model_inputs
from hf_langcore.errors import UnsupportedModelError
from hf_langcore.importance.gradients import part_size
from hf_langcore.masks.groups import layer_of


def linear_weights(weights: Mapping[str, Weight]) -> dict[str, Weight]:
    """Those of `weights` that have a Wanda score: the matrices of linear layers, GPT-2's Conv1D included.

    Raises:
        UnsupportedModelError: A matrix or a stack of matrices belongs to something else than a linear layer: experts
            that are one tensor, routers, embeddings, state-space layers.
    """
    matrices = {
        name: weight
        for name, weight in weights.items()
        if weight.parameter.dim() > 1 and not _is_position_table(weight)
    }
    others = [name for name, weight in matrices.items() if not _is_linear(weight)]
    if others:
        owner = type(matrices[others[0]].owner).__name__
        raise UnsupportedModelError(
            f'method="wanda" needs the inputs of every matrix, and {len(others)} of {len(matrices)} are not weights of '
            f"linear layers, the first is {others[0]!r} of {owner}: experts in one tensor, routers and embeddings are "
            'such. Use method="taylor", "taylor_abs" or "fisher", and leave the embeddings out of `include`.'
        )
    return matrices


def wanda_scores(
    model: nn.Module,
    weights: Mapping[str, Weight],
    blocks: Blocks,
    *,
    batch_size: int,
    language: str,
    bar: tqdm[Any],
) -> dict[str, torch.Tensor]:
    """The importance of `weights` for one language.

    Args:
        model: The bare model, in eval mode.
        weights: Name -> weight, as `linear_weights` gives them.
        blocks: int64, (blocks, block_size), or pairs. Every token counts, the start tokens included.
        batch_size: Blocks per batch at most; it does not change the scores.
        language: For messages.
        bar: Advanced by one per block.

    Returns:
        Name -> float32 CPU tensor of the weight's shape.

    Raises:
        UnsupportedModelError: A layer was never called, or by a way that passes its inputs by.
    """
    squares: dict[str, torch.Tensor] = {}
    device = next(model.parameters()).device
    if isinstance(blocks, PairBlocks):
        batch_size = 1  # features of fillings would count as well
    with _summing_squares(weights, squares), torch.no_grad():
        for batch in blocks.split(batch_size):
            for part in batch.split(part_size(model, batch)):
                model(**model_inputs(part, device))
                bar.update(len(part))
    unseen = [name for name in weights if name not in squares]
    if unseen:
        raise UnsupportedModelError(
            f"{len(unseen)} linear layers got no input from the texts of {language!r}, the first is {unseen[0]!r}, so "
            'method="wanda" cannot score them: no token was routed to them (pass more text), or the model uses their '
            'weights without calling them (use method="taylor").'
        )
    return {name: _score(weight, squares[name]) for name, weight in weights.items()}


def _is_position_table(weight: Weight) -> bool:
    """A table inside a layer, such as T5's relative positions: like a bias it is looked up and multiplies no feature."""
    return isinstance(weight.owner, nn.Embedding) and layer_of(weight.name) is not None


def _is_linear(weight: Weight) -> bool:
    is_own = getattr(weight.owner, "weight", None) is weight.parameter
    return is_own and (isinstance(weight.owner, nn.Linear) or weight.is_transposed)


def _score(weight: Weight, squares: torch.Tensor) -> torch.Tensor:
    shape = [1, 1]
    shape[weight.storage_axis(1)] = -1
    norms = squares.sqrt().to(weight.parameter.device)
    return (weight.parameter.detach().float().abs() * norms.view(shape)).to("cpu")


@contextmanager
def _summing_squares(weights: Mapping[str, Weight], squares: dict[str, torch.Tensor]) -> Iterator[None]:
    """Sum the squares of every layer's input features over tokens, in float32."""

    def watcher(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def watch(_module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
            features = next(iter((*inputs, *options.values()))).detach()
            seen = features.reshape(-1, features.shape[-1]).float().square().sum(0)
            squares[name] = squares[name] + seen if name in squares else seen

        return watch

    handles = [
        weight.owner.register_forward_pre_hook(watcher(name), with_kwargs=True) for name, weight in weights.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
