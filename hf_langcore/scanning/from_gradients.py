"""Candidates from one backward pass: the first-order effect on the loss of setting a weight or a slice to zero."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from hf_langcore.architecture import Weight
from hf_langcore.evaluation import ScoringTask
from hf_langcore.modes import eval_mode, gradients_for
from hf_langcore.scanning.candidates import Candidate, Kind, largest
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText, excerpt

SOURCE = "gradients"

_TOKENS = 1024  # of all languages together
_OF_EACH = 4


@dataclass(slots=True)
class _Effects:
    """Rankings that are not sorted yet."""

    tensors: Tensors
    offsets: dict[str, float]
    found: dict[Kind, list[Candidate]] = field(default_factory=dict)

    def take(self, name: str, gradient: torch.Tensor) -> None:
        """Take in the whole gradient of a parameter."""
        if name in self.tensors.norms:
            gain = self.tensors.norms[name].parameter.detach().float() + self.offsets[name]
            self._keep("norm", name, (gradient.float() * gain).abs(), 2 * _OF_EACH)
            return
        matrix = self.tensors.matrices[name]
        oriented = gradient.transpose(-1, -2) if matrix.is_transposed else gradient
        effect = oriented.float() * matrix.values().float()
        self._keep("weight", name, effect.abs(), _OF_EACH)
        self._keep("row", name, effect.sum(dim=-1).abs(), _OF_EACH)
        self._keep("column", name, effect.sum(dim=-2).abs(), _OF_EACH)

    def _keep(self, kind: Kind, name: str, scores: torch.Tensor, count: int) -> None:
        self.found.setdefault(kind, []).extend(largest(name, kind, scores, SOURCE, count=count))


def gradient_candidates(
    model: nn.Module, tensors: Tensors, task: ScoringTask, *, limit: int = 64
) -> list[list[Candidate]]:
    """Rankings of every kind; one forward and one backward pass over a small part of the text.

    Args:
        model: A causal LM, as it is now; flags and gradients come back as they were.
        tensors: What of it can be scanned.
        task: The texts; about 1024 tokens of them are used.
        limit: Length of each ranking.
    """
    text = PreparedText(model, excerpt(task, _TOKENS))
    weights = {**tensors.norms, **{name: matrix.weight for name, matrix in tensors.matrices.items()}}
    # Probes the norms, so before gradients are asked for.
    effects = _Effects(tensors, {name: weight.gain_offset for name, weight in tensors.norms.items()})
    parameters = [weight.parameter for weight in weights.values()]
    collecting = _gradients_of(weights, effects, passes=len(text.batches))
    with eval_mode(model), gradients_for(model, parameters), collecting, torch.enable_grad():
        for batch in text.batches:
            (batch.nll(model).sum() / text.num_tokens).backward()  # type: ignore[no-untyped-call,unused-ignore]
    return [sorted(one, key=lambda found: -found.score)[:limit] for one in effects.found.values()]


@contextmanager
def _gradients_of(weights: dict[str, Weight], effects: _Effects, *, passes: int) -> Iterator[None]:
    """Hand every gradient on and drop it: at once where one pass makes it whole, else at the end."""

    def taker(name: str) -> Callable[[torch.Tensor], None]:
        def take(parameter: torch.Tensor) -> None:
            if passes == 1 and parameter.grad is not None:
                effects.take(name, parameter.grad)
                parameter.grad = None

        return take

    handles = [weight.parameter.register_post_accumulate_grad_hook(taker(name)) for name, weight in weights.items()]
    try:
        yield
        for name, weight in weights.items():
            if weight.parameter.grad is not None:
                effects.take(name, weight.parameter.grad)
    finally:
        for handle in handles:
            handle.remove()
