"""Perplexity per language: token-weighted, every window starts with BOS, every token is scored once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import unwrap
from hf_langcore.data import (
    DEFAULT_BLOCK_SIZE,
    Corpora,
    StartToken,
    Window,
    check_batch_size,
    cut_pairs,
    cut_text,
    decoder_start,
    hub_source,
    is_encoder_decoder,
    pad_pairs,
    predictions,
    read_pairs,
    read_texts,
    require_corpora,
    start_token,
    usable_block_size,
    vocabulary_size,
)
from hf_langcore.errors import InputError, NonFiniteError
from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.evaluation.report import PerplexityReport
from hf_langcore.modes import eval_mode

OnNonFinite = Literal["error", "inf"]

_LOGIT_BUDGET = 1 << 26  # logits in one batch: 256 MB in float32
_LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class ScoringTask:
    """Tokenised texts, ready to be scored by any number of models or conditions.

    Attributes:
        windows: Language -> windows.
        start: The start token of each window.
        settings: What the report says about the text: block size, stride, start token, digest of the tokens, seed, data sets.
        num_bytes: Language -> UTF-8 bytes of exactly the text that the scored tokens stand for; None where that is not known.
    """

    windows: Mapping[str, Sequence[Window]]
    start: StartToken
    settings: Mapping[str, Any]
    num_bytes: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def num_tokens(self) -> int:
        """Number of scored tokens in all languages."""
        return sum(window.num_scored for windows in self.windows.values() for window in windows)


def evaluate_perplexity(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    stride: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = None,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    pair_columns: tuple[str, str] = ("source", "target"),
    condition: str = "model",
    on_nonfinite: OnNonFinite = "error",
    progress: bool = True,
) -> PerplexityReport:
    """Measure perplexity per language.

    Perplexity is exp(sum of negative log-likelihoods / number of tokens) over all texts of a language, never a mean
    over batches. Each document is scored on its own; one that is longer than a window slides on by `stride`
    tokens, so that each token is scored exactly once.

    Encoder-decoder models (T5, BART) are scored on pairs of source and target: every token of the target counts, its end
    token included, given the source. Sources and targets of more than `block_size` tokens are cut.

    Args:
        model: A causal LM or an encoder-decoder model, bare or wrapped, as it is now (adapters and open edits count).
        tokenizer: Any callable with transformers' tokenizer interface.
        corpora: Language -> texts, see `hf_langcore.data.corpora`; pairs for an encoder-decoder model, see
            `hf_langcore.data.pairs`.
        block_size: Tokens per window, the start token included; at most the model's context.
        stride: Tokens that each further window of a long document scores; half a window if None.
        batch_size: Windows per forward pass; "auto" keeps the logits below 256 MB. It does not change the figures.
        max_tokens: At most so many scored tokens per language.
        seed: Shuffles the documents before `max_tokens` cuts; None keeps their order.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        pair_columns: Columns of source and target, for encoder-decoder models.
        condition: Name of this measurement in the report.
        on_nonfinite: What NaN or infinite losses do: "error", or "inf" (an infinite perplexity, for models that
            were destroyed on purpose).
        progress: Show a progress bar.

    Returns:
        A report with one condition: `.perplexity["zh"]`, `.nll["zh"]` (nats per token), `.tokens["zh"]`, `.mean()`.

    Raises:
        CorpusError: A text is missing, empty or too short.
        NonFiniteError: The loss is NaN or infinite and `on_nonfinite` is "error".

    Example:
        >>> report = evaluate_perplexity(model, tokenizer, {"en": ["A text."]})  # doctest: +SKIP
        >>> report.perplexity["en"]  # doctest: +SKIP
        27.3
    """
    task = prepare_scoring(
        model,
        tokenizer,
        corpora,
        block_size=block_size,
        stride=stride,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
        pair_columns=pair_columns,
    )
    return score(model, task, batch_size=batch_size, condition=condition, on_nonfinite=on_nonfinite, progress=progress)


def prepare_scoring(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    *,
    block_size: int = DEFAULT_BLOCK_SIZE,
    stride: int | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    pair_columns: tuple[str, str] = ("source", "target"),
) -> ScoringTask:
    """Read and tokenise the texts once; the arguments are those of `evaluate_perplexity`."""
    bare = unwrap(model)
    has_pairs = is_encoder_decoder(bare)
    start = decoder_start(bare) if has_pairs else start_token(tokenizer, bos_token_id)
    block_size = usable_block_size(bare, block_size)
    stride = _checked_stride(stride, block_size)
    if max_tokens is not None and max_tokens < 1:
        raise InputError(f"max_tokens must be at least 1 or None, got {max_tokens!r}.")
    read: Any = partial(read_texts, text_column=text_column, seed=seed)
    cut: Any = partial(cut_text, tokenizer=tokenizer, start=start, stride=stride)
    if has_pairs:
        read, cut = partial(read_pairs, columns=pair_columns, seed=seed), partial(cut_pairs, tokenizer=tokenizer)
    sources = require_corpora(corpora)
    texts = {
        language: cut(language, read(language, source), block_size=block_size, max_tokens=max_tokens)
        for language, source in sources.items()
    }
    windows = {language: text.windows for language, text in texts.items()}
    hub_sources = {language: found for language, source in sources.items() if (found := hub_source(source))}
    settings: dict[str, Any] = {
        "block_size": block_size,
        "stride": stride,
        "start_token": f"{start.source} (id {start.id})",
        "text_sha256": _digest(windows),
        "seed": seed,
    }
    if hub_sources:
        settings["datasets"] = hub_sources
    return ScoringTask(windows, start, settings, {language: text.num_bytes for language, text in texts.items()})


def score(
    model: nn.Module,
    task: ScoringTask,
    *,
    batch_size: int | Literal["auto"] = "auto",
    condition: str = "model",
    on_nonfinite: OnNonFinite = "error",
    progress: bool = True,
) -> PerplexityReport:
    """Score prepared texts with the model as it is now; see `evaluate_perplexity`."""
    if on_nonfinite not in get_args(OnNonFinite):
        raise InputError(f'on_nonfinite must be "error" or "inf", got {on_nonfinite!r}.')
    scores: dict[str, LanguageScore] = {}
    with (
        eval_mode(model),
        torch.inference_mode(),
        tqdm(total=task.num_tokens, unit="tok", disable=not progress) as bar,
    ):
        for language, windows in task.windows.items():
            bar.set_description(f"perplexity {language}")
            total = 0.0
            for batch in _batches(windows, _batch_size(model, windows, batch_size)):
                loss = _summed_nll(model, batch, task.start.id)
                if not loss < float("inf"):
                    loss = _nonfinite(language, loss, on_nonfinite)
                total += loss
                bar.update(sum(window.num_scored for window in batch))
            tokens = sum(window.num_scored for window in windows)
            scores[language] = LanguageScore(total / tokens, tokens, task.num_bytes.get(language))
    return PerplexityReport({condition: scores}, settings={**task.settings, **circumstances(model)})


def window_losses(
    model: nn.Module, windows: Sequence[Window], *, pad_id: int, batch_size: int | Literal["auto"] = "auto"
) -> list[torch.Tensor]:
    """Negative log-likelihood of each scored token of each window, for callers who need more than the sum.

    Args:
        model: A causal LM, as it is now.
        windows: Windows as `cut_text` and `windows_of` make them; none gives an empty list.
        pad_id: Any token; fills short windows up and is never looked at.
        batch_size: Windows per forward pass; "auto" keeps the logits below 256 MB.

    Returns:
        In the order of the windows: float32 on the CPU, (scored tokens of the window,), in nats.
    """
    order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids), reverse=True)
    losses: dict[int, torch.Tensor] = {}
    with eval_mode(model), torch.inference_mode():
        size = _batch_size(model, windows, batch_size) if windows else 1
        for first in range(0, len(order), size):
            chosen = order[first : first + size]
            batch = [windows[index] for index in chosen]
            parts = _token_nll(model, batch, pad_id).cpu().split([window.num_scored for window in batch])
            losses.update(zip(chosen, parts, strict=True))
    return [losses[index] for index in range(len(windows))]


def _summed_nll(model: nn.Module, batch: Sequence[Window], pad_id: int) -> float:
    return float(_token_nll(model, batch, pad_id).double().sum())


def _token_nll(model: nn.Module, batch: Sequence[Window], pad_id: int) -> torch.Tensor:
    """Negative log-likelihoods of a batch's scored tokens, window after window, padded where no token looks."""
    if batch[0].source is not None:
        logits, wanted = predictions(model, pad_pairs(batch))
        return nn.functional.cross_entropy(logits.float(), wanted, reduction="none")
    device = next(model.parameters()).device
    width = max(len(window.ids) for window in batch)
    ids = torch.full((len(batch), width), pad_id, dtype=torch.int64)
    scored = torch.zeros((len(batch), width), dtype=torch.bool)
    present = torch.zeros((len(batch), width), dtype=torch.int64)
    for row, window in enumerate(batch):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        scored[row, window.first_scored : len(window.ids)] = True
        present[row, : len(window.ids)] = 1
    ids = ids.to(device)
    padding = {} if bool(present.all()) else {"attention_mask": present.to(device)}
    # From the end: prompt-tuning adapters put positions of their own in front.
    logits = model(input_ids=ids, use_cache=False, **padding).logits[:, -width:-1]
    wanted = scored[:, 1:].to(device)
    return nn.functional.cross_entropy(logits[wanted].float(), ids[:, 1:][wanted], reduction="none")


def _batches(windows: Sequence[Window], size: int) -> Iterator[list[Window]]:
    """Windows of similar length together, so that little is padded."""
    ordered = sorted(windows, key=lambda window: len(window.ids), reverse=True)
    for first in range(0, len(ordered), size):
        yield list(ordered[first : first + size])


def _batch_size(model: nn.Module, windows: Sequence[Window], batch_size: int | str) -> int:
    given = check_batch_size(batch_size)
    longest = max(len(window.ids) for window in windows)
    fitting = _LOGIT_BUDGET // (longest * vocabulary_size(unwrap(model)))
    return given or max(1, min(_LARGEST_BATCH, fitting))


def _nonfinite(language: str, loss: float, on_nonfinite: OnNonFinite) -> float:
    if on_nonfinite == "inf":
        return float("inf")
    raise NonFiniteError(
        f"The loss on {language!r} is {loss}. The model gives NaN or infinite logits: load it in float32 or bfloat16 "
        'instead of float16, or pass on_nonfinite="inf" if it was broken on purpose.'
    )


def _checked_stride(stride: int | None, block_size: int) -> int:
    if stride is None:
        return max(1, block_size // 2)
    if isinstance(stride, bool) or not isinstance(stride, int) or not 1 <= stride < block_size:
        raise InputError(f"stride must be a whole number from 1 to block_size - 1 = {block_size - 1}, got {stride!r}.")
    return stride


def _digest(windows: Mapping[str, Sequence[Window]]) -> str:
    digest = hashlib.sha256()
    for language, cut in windows.items():
        digest.update(f"{language}|".encode())
        for window in cut:
            read = "" if window.source is None else f"{','.join(map(str, window.source))}>"
            digest.update(f"{read}{window.first_scored}:{','.join(map(str, window.ids))};".encode())
    return digest.hexdigest()
