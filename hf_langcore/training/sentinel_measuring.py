"""Measuring held-out text in the middle of training so that the training does not notice."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import distributed, nn

from hf_langcore.architecture import unwrap
from hf_langcore.data import Corpora, require_corpora, usable_block_size
from hf_langcore.errors import CorpusError, LangCoreError, NonFiniteError
from hf_langcore.evaluation import LanguageScore, ScoringTask, prepare_scoring, score
from hf_langcore.training.holdings import is_sharded, reshard

_MOST_UNKNOWN = 0.5

_Value = TypeVar("_Value")


def prepare_texts(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    block_size: int,
    max_tokens: int | None,
    seed: int | None,
    bos_token_id: int | None,
    text_column: str,
) -> ScoringTask:
    """Read and tokenise the texts once, and refuse those that the tokenizer cannot encode.

    The arguments and figures are those of `evaluate_perplexity` with `stride=block_size - 1`: windows do not overlap, which
    halves the cost and makes perplexities a little higher.

    Raises:
        CorpusError: A text is missing, empty or too short; the tokenizer fails on it, or more than half of its
            tokens are unknown to the tokenizer. The message names the language.
    """

    def prepare(texts: Corpora) -> ScoringTask:
        return prepare_scoring(
            model,
            tokenizer,
            texts,
            block_size=block_size,
            stride=usable_block_size(unwrap(model), block_size) - 1,
            max_tokens=max_tokens,
            seed=seed,
            bos_token_id=bos_token_id,
            text_column=text_column,
        )

    try:
        task = prepare(corpora)
    except LangCoreError:
        raise
    except Exception:
        for language, source in require_corpora(corpora).items():
            _try_alone(language, lambda source=source, language=language: prepare({language: source}))
        raise
    _require_known(task, tokenizer)
    return task


def measure(model: nn.Module, task: ScoringTask, *, batch_size: int | Literal["auto"]) -> dict[str, LanguageScore]:
    """Perplexity per language as the model is now; NaN and infinite losses count as infinite.

    Where several processes hold whole copies of the model, the languages are dealt out to them; where the model is
    sharded, all processes go through all of them, since each forward pass needs every process. All return the
    same figures, bit for bit. Training and evaluation flags and the states of all random generators stay.

    Args:
        model: The model that is being trained.
        task: The tokenised texts.
        batch_size: Windows per forward pass.
    """
    languages = list(task.windows)
    is_dealt = world_size() > 1 and not any(is_sharded(parameter) for parameter in model.parameters())
    mine = languages[rank() :: world_size()] if is_dealt else languages
    scores: dict[str, LanguageScore] = {}
    if mine:
        part = ScoringTask({language: task.windows[language] for language in mine}, task.start, task.settings)
        with generators_kept():
            report = score(_Ordinary(model), part, batch_size=batch_size, on_nonfinite="inf", progress=False)
        scores = report.only()
        reshard(model)  # FSDP2 leaves the root gathered, and its sharded parameters are what gets trained and kept
    found = _merged(scores) if is_dealt else scores
    return agreed({language: found[language] for language in languages})


def require_finite(scores: Mapping[str, LanguageScore]) -> None:
    """Refuse a baseline against which nothing can be compared.

    Raises:
        NonFiniteError: The perplexity of a language is infinite.
    """
    infinite = [language for language, one in scores.items() if not one.nll < float("inf")]
    if infinite:
        raise NonFiniteError(
            f"Before the first step the loss on {infinite[0]!r} is NaN or infinite already ({len(infinite)} of "
            f"{len(scores)} languages), so the sentinel has nothing to compare with. Load the model in float32 or "
            "bfloat16, and check its weights."
        )


class _Ordinary(nn.Module):
    """A model that makes ordinary tensors where `torch.inference_mode` is on.

    What a forward pass leaves behind (FSDP2's gathering buffers, rotary tables) is used by training afterwards, and
    autograd refuses tensors that were made in inference mode.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = model

    def forward(self, **inputs: Any) -> Any:
        """The model's output, without gradients."""
        with torch.inference_mode(mode=False), torch.no_grad():
            return self.module(**inputs)


@contextmanager
def generators_kept() -> Iterator[None]:
    """Leave the random generators of torch (all devices), numpy and Python as they were."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 the one that the Trainer seeds
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002 see above


def agreed(value: _Value) -> _Value:
    """What the first process has, on all processes, so that all of them decide alike."""
    if world_size() == 1:
        return value
    box: list[Any] = [value]
    distributed.broadcast_object_list(box)
    agreed_on: _Value = box[0]
    return agreed_on


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return distributed.get_rank() if world_size() > 1 else 0


def _merged(scores: dict[str, LanguageScore]) -> dict[str, LanguageScore]:
    parts: list[Any] = [None] * world_size()
    distributed.all_gather_object(parts, scores)
    return {language: one for part in parts for language, one in part.items()}


def _try_alone(language: str, prepare: Any) -> None:
    """Blame the language whose text makes the tokenizer fail."""
    try:
        prepare()
    except LangCoreError:
        raise
    except Exception as error:
        raise CorpusError(
            f"{language!r}: the tokenizer cannot encode the sentinel's text ({type(error).__name__}: {error}). Check that "
            "the file is plain UTF-8 text of that language, and that the tokenizer is the model's."
        ) from error


def _require_known(task: ScoringTask, tokenizer: Any) -> None:
    """Refuse texts of unknown tokens: their perplexity says nothing about the language."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    if unknown is None or unknown == task.start.id:
        return
    for language, windows in task.windows.items():
        ids = [token for window in windows for token in window.ids[window.first_scored :]]
        share = ids.count(unknown) / len(ids)
        if share > _MOST_UNKNOWN:
            raise CorpusError(
                f"{language!r}: {share:.0%} of the tokens of the sentinel's text are unknown to the tokenizer "
                f"({getattr(tokenizer, 'unk_token', unknown)!r}), so it cannot encode this language. Leave the language "
                "out, or use the tokenizer that the model was trained with."
            )
