"""Critical dimensions, first version: norm dimensions ranked by really editing them.

The talk behind Zhang et al., ACL 2024, reports that one norm weight of LLaMA2-13B, set to 1 or multiplied by 10,
takes perplexity from 6 to 10^4. Here every candidate is edited, measured and restored. Where a model has more
norm dimensions than `candidates`, two cheap signals choose which are edited: the first-order effect of the edit (one
backward pass) and the largest activation that the dimension carries (one forward pass).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Weight, bare_weights, require_editable
from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora
from hf_langcore.editing import scale_dimension
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import ScoringTask, prepare_scoring, score
from hf_langcore.modes import eval_mode, gradients_for

_PREVIEW_WINDOWS = 4  # windows per language for the two cheap signals


@dataclass(frozen=True, slots=True)
class CriticalDimension:
    """A dimension and what its edit does.

    Attributes:
        parameter: Name of the norm weight.
        axis: 0; norm weights have one axis.
        index: Index of the dimension.
        factor: The factor, of those tried, that hurts most.
        perplexity: Geometric mean perplexity over languages under that edit.
        base_perplexity: The same without an edit.
    """

    parameter: str
    axis: int
    index: int
    factor: float
    perplexity: float
    base_perplexity: float

    @property
    def perplexity_ratio(self) -> float:
        """How many times larger the perplexity becomes."""
        return self.perplexity / self.base_perplexity


def find_critical_dimensions(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    factors: Sequence[float] = (0.0, 10.0),
    candidates: int | None = 512,
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = 512,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    progress: bool = True,
) -> list[CriticalDimension]:
    """Rank norm dimensions by what their edit does to perplexity, strongest first.

    Args:
        model: A causal LM, bare or wrapped; every bit of it is restored.
        tokenizer: Any callable with transformers' tokenizer interface.
        corpora: Language -> texts.
        factors: Factors for the effective gain of the dimension; each is tried, the worst counts.
        candidates: At most so many dimensions are edited, chosen by first-order effect and by activation; None edits
            all. The cost is `candidates * len(factors)` passes over the text.
        block_size: Tokens per window.
        batch_size: Windows per forward pass.
        max_tokens: At most so many scored tokens per language.
        seed: Shuffles the documents; None keeps their order.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        progress: Show a progress bar.

    Returns:
        One entry per edited dimension.

    Raises:
        UnsupportedModelError: The model has no norm weights.
        CorpusError: A text is missing, empty or too short.
    """
    if not factors or (candidates is not None and candidates < 1):
        raise InputError(
            f"Pass at least one factor and one candidate, got factors={factors!r}, candidates={candidates!r}."
        )
    norms = norm_weights(model)
    task = prepare_scoring(
        model,
        tokenizer,
        corpora,
        block_size=block_size,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
    )
    chosen = _candidates(model, norms, task, candidates)

    def mean_perplexity() -> float:
        return score(model, task, batch_size=batch_size, on_nonfinite="inf", progress=False).mean()

    base = score(model, task, batch_size=batch_size, progress=False).mean()
    bar = tqdm(chosen, desc="critical dimensions", unit="dim", disable=not progress)
    found = [_measure(model, name, index, factors, base, mean_perplexity) for name, index in bar]
    return sorted(found, key=lambda one: (-one.perplexity_ratio, one.parameter, one.index))


def norm_weights(model: nn.Module) -> dict[str, Weight]:
    """The gains of all norms, the final one included.

    Raises:
        UnsupportedModelError: There are none.
    """
    norms = {
        name: weight
        for name, weight in bare_weights(model).items()
        if weight.parameter.dim() == 1 and name.endswith(".weight") and "norm" in type(weight.owner).__name__.lower()
    }
    if not norms:
        raise UnsupportedModelError(
            "The model has no norm weights (no module with 'norm' in its class name and a weight vector), so there are no "
            "norm dimensions to scan."
        )
    for weight in norms.values():
        require_editable(weight)
    return norms


def _measure(
    model: nn.Module, name: str, index: int, factors: Sequence[float], base: float, measure: Callable[[], float]
) -> CriticalDimension:
    worst = (0.0, factors[0])
    for factor in factors:
        with scale_dimension(model, name, index, factor=factor):
            worst = max(worst, (measure(), factor))
    return CriticalDimension(name, 0, index, worst[1], worst[0], base)


def _candidates(
    model: nn.Module, norms: dict[str, Weight], task: ScoringTask, limit: int | None
) -> list[tuple[str, int]]:
    everything = [(name, index) for name, weight in norms.items() for index in range(weight.parameter.numel())]
    if limit is None or len(everything) <= limit:
        return everything
    activations, effects = _signals(model, norms, task)
    # Relative to the norm's other dimensions: late layers have larger activations everywhere.
    peaks = [activations[name] / activations[name].median().clamp_min(1e-12) for name in norms]
    by_activation = torch.cat(peaks).argsort(descending=True, stable=True)
    by_effect = torch.cat([effects[name] for name in norms]).argsort(descending=True, stable=True)
    # Alternate between the two rankings, so that neither signal has to be right alone.
    merged = torch.stack([by_activation, by_effect], dim=1).flatten().tolist()
    return [everything[position] for position in list(dict.fromkeys(merged))[:limit]]


def _signals(
    model: nn.Module, norms: dict[str, Weight], task: ScoringTask
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Largest absolute output of each norm dimension, and abs(gradient x effective gain) of its weight."""
    parameters = [weight.parameter for weight in norms.values()]
    largest = {name: torch.zeros(weight.parameter.shape) for name, weight in norms.items()}
    offsets = {
        name: weight.gain_offset for name, weight in norms.items()
    }  # probes the norms, so before they are watched
    with eval_mode(model), gradients_for(model, parameters), _watch(norms, largest), torch.enable_grad():
        for windows in task.windows.values():
            for window in windows[:_PREVIEW_WINDOWS]:
                ids = torch.tensor([window.ids], device=parameters[0].device)
                logits = model(input_ids=ids, use_cache=False).logits[0, -len(window.ids) : -1]
                nn.functional.cross_entropy(logits.float(), ids[0, 1:], reduction="sum").backward()
        effects = {name: _effect(weight, offsets[name]) for name, weight in norms.items()}
    return largest, effects


def _effect(weight: Weight, offset: float) -> torch.Tensor:
    gradient = weight.parameter.grad
    if gradient is None:
        return torch.zeros(weight.parameter.shape)
    gain = weight.parameter.detach().float() + offset
    return (gradient.float() * gain).abs().cpu()


@contextmanager
def _watch(norms: dict[str, Weight], largest: dict[str, torch.Tensor]) -> Iterator[None]:
    """Keep the largest absolute output of every norm dimension."""

    def watcher(name: str) -> Callable[[nn.Module, Any, torch.Tensor], None]:
        def watch(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            peak = output.detach().float().abs().flatten(0, -2).amax(0).cpu()
            largest[name] = torch.maximum(largest[name], peak)

        return watch

    handles = [weight.owner.register_forward_hook(watcher(name)) for name, weight in norms.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
