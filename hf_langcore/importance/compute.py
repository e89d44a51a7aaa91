"""The one loop over languages: importance scores and core masks from a model and texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import Extra, Weight, decoder_weights, unwrap
from hf_langcore.binding import provenance_of, weights_digest
from hf_langcore.data import (
    DEFAULT_BLOCK_SIZE,
    Blocks,
    Corpora,
    PairBlocks,
    check_batch_size,
    cut_pairs,
    is_encoder_decoder,
    pack_blocks,
    pad_pairs,
    read_pairs,
    read_texts,
    require_corpora,
    start_token,
    usable_block_size,
)
from hf_langcore.errors import ConfigurationError, InputError, NonFiniteError
from hf_langcore.heads import attention_heads
from hf_langcore.importance.gradients import gradient_scores
from hf_langcore.importance.progress_store import ProgressStore
from hf_langcore.importance.wanda import linear_weights, wanda_scores
from hf_langcore.masks import CoreMask, ImportanceScores, Provenance
from hf_langcore.masks.groups import Granularity, check_granularity
from hf_langcore.masks.selection import check_fraction, check_which
from hf_langcore.modes import adapters_off, eval_mode, gradients_for

Method = Literal["taylor", "taylor_abs", "fisher", "wanda", "magnitude", "random"]

WITHOUT_TEXTS = ("magnitude", "random")
"""The methods that need nothing but the weights."""

_AUTO_BATCH = 8  # blocks per batch in the published code; fixed, so that masks do not depend on the machine


def compute_importance(
    model: nn.Module,
    tokenizer: Any = None,
    corpora: Corpora | None = None,
    *,
    method: Method = "taylor",
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = None,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    pair_columns: tuple[str, str] = ("source", "target"),
    include: Extra | Iterable[Extra] = (),
    resume_dir: str | Path | None = None,
    progress: bool = True,
) -> ImportanceScores:
    """Score every weight of the decoder layers, per language where texts are read, summed over languages.

    - "taylor" (Zhang et al., ACL 2024): abs(sum over batches of gradient x weight) per language, summed over
      languages. The gradient of each batch's mean loss counts, as published, so a smaller last batch weighs as
      much as the others.
    - "taylor_abs": sum over batches of abs(gradient x weight): what one batch wants and the next does not still counts.
    - "fisher": the empirical Fisher information, the mean over batches of the squared gradient of the batch's mean
      loss. With `batch_size=1` these are the gradients of single blocks.
    - "wanda" (Sun et al., ICLR 2024): abs(weight) x L2 norm of its input feature over all tokens of a language; forward
      passes only. Matrices of linear layers only: norms and biases are left out of the scores. Languages with more
      tokens weigh more, so give all the same `max_tokens`.
    - "magnitude": abs(weight), without texts. A control.
    - "random": uniform random numbers, without texts. A control.

    For importance from further-pretrained checkpoints see `importance_from_checkpoints`.

    Args:
        model: A causal LM or an encoder-decoder model, bare or wrapped; adapters are switched off meanwhile. It is left as it
            was.
        tokenizer: Any callable with transformers' tokenizer interface; not for "magnitude" and "random".
        corpora: Language -> texts, see `hf_langcore.data.corpora`; pairs of source and target for an encoder-decoder model,
            see `hf_langcore.data.pairs`. Not for "magnitude" and "random".
        method: The scorer.
        block_size: Tokens per block, the start token included; at most the model's context.
        batch_size: Blocks per batch; "auto" is 8.
        max_tokens: At most so many tokens per language, start tokens included.
        seed: Shuffles the documents (None keeps their order) or seeds "random" (None is 0).
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        pair_columns: Columns of source and target, for encoder-decoder models.
        include: "embeddings" or "lm_head" to score these too.
        resume_dir: Folder in which each finished language is kept; a second call with the same model, texts and
            settings goes on after the last one.
        progress: Show a progress bar.

    Returns:
        Parameter name of the bare model -> float32 tensor of the weight's shape, on the CPU.

    Raises:
        CorpusError: A text is missing, empty or too short.
        NonFiniteError: A loss is NaN or infinite.
        UnsupportedModelError: The model has no decoder layers, is quantised, or the tokenizer has no start token; for "wanda"
            a matrix is not that of a linear layer (experts in one tensor, routers).
    """
    if method not in get_args(Method):
        raise InputError(
            f"method must be one of {list(get_args(Method))}, got {method!r}. For checkpoints of further pretraining use "
            "importance_from_checkpoints (the method weight_change)."
        )
    weights = decoder_weights(model, include=include)
    weights = linear_weights(weights) if method == "wanda" else weights
    source = replace(provenance_of(model, weights, method=method), seed=seed)
    if method in WITHOUT_TEXTS:
        return _from_weights(weights, source, random=method == "random")
    if tokenizer is None or corpora is None:
        raise ConfigurationError(f'method="{method}" needs texts: compute_importance(model, tokenizer, corpora).')
    bare = unwrap(model)
    block_size = usable_block_size(bare, block_size)
    read: Any = partial(read_texts, text_column=text_column, seed=seed)
    pack: Any = _pack_pairs
    if is_encoder_decoder(bare):
        read = partial(read_pairs, columns=pair_columns, seed=seed)
    else:
        pack = partial(pack_blocks, start=start_token(tokenizer, bos_token_id))
    blocks = {
        language: pack(language, read(language, texts), tokenizer, block_size=block_size, max_tokens=max_tokens)
        for language, texts in require_corpora(corpora).items()
    }
    source = replace(
        source,
        tokens={language: ids.numel() for language, ids in blocks.items()},
        block_size=block_size,
        batch_size=check_batch_size(batch_size) or _AUTO_BATCH,
    )
    store = None
    if resume_dir is not None:
        store = ProgressStore(Path(resume_dir), source, model_digest=weights_digest(model))
    scores = _over_languages(model, weights, blocks, source, store, progress=progress)
    return ImportanceScores(scores, provenance=source)


def compute_core_mask(
    model: nn.Module,
    tokenizer: Any = None,
    corpora: Corpora | None = None,
    *,
    method: Method = "taylor",
    fraction: float = 0.01,
    which: Literal["top", "bottom", "random"] = "top",
    granularity: Granularity = "weights",
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = None,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    pair_columns: tuple[str, str] = ("source", "target"),
    include: Extra | Iterable[Extra] = (),
    resume_dir: str | Path | None = None,
    progress: bool = True,
) -> CoreMask:
    """Find the core: score every weight, then take int(fraction * numel) of each tensor, or whole rows, heads or layers.

    Args:
        model: A causal LM; see `compute_importance`, which also explains the arguments that are not listed here.
        tokenizer: Its tokenizer.
        corpora: Language -> texts.
        method: The scorer.
        fraction: Share of each tensor, or of all heads or layers, strictly between 0 and 1.
        which: "top" (the core), "bottom" or "random" (the controls).
        granularity: "weights", "rows", "columns", "heads" or "layers"; see `CoreMask.from_scores`. Heads that share keys
            and values are one.
        block_size: Tokens per block.
        batch_size: Blocks per batch.
        max_tokens: At most so many tokens per language.
        seed: Seed of shuffles and random choices.
        bos_token_id: Start token.
        text_column: Column of the text.
        pair_columns: Columns of source and target.
        include: "embeddings" or "lm_head" too.
        resume_dir: Folder for finished languages.
        progress: Show a progress bar.

    Returns:
        The mask, with its provenance and the fingerprint of the weights.

    Raises:
        LangCoreError: As `compute_importance` and `CoreMask.from_scores`.
    """
    check_fraction(fraction)  # before hours of scoring, not after
    check_which(which)
    heads = attention_heads(model) if check_granularity(granularity) == "heads" else None
    scores = compute_importance(
        model,
        tokenizer,
        corpora,
        method=method,
        block_size=block_size,
        batch_size=batch_size,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
        pair_columns=pair_columns,
        include=include,
        resume_dir=resume_dir,
        progress=progress,
    )
    return CoreMask.from_scores(
        scores, fraction=fraction, which=which, seed=seed or 0, granularity=granularity, heads=heads
    )


def _pack_pairs(
    language: str, pairs: Iterable[tuple[str, str]], tokenizer: Any, *, block_size: int, max_tokens: int | None
) -> PairBlocks:
    cut = cut_pairs(language, pairs, tokenizer, block_size=block_size, max_tokens=max_tokens)
    return pad_pairs(cut.windows)


def _over_languages(
    model: nn.Module,
    weights: dict[str, Weight],
    blocks: dict[str, Blocks],
    source: Provenance,
    store: ProgressStore | None,
    *,
    progress: bool,
) -> dict[str, torch.Tensor]:
    total = {name: torch.zeros(weight.parameter.shape, dtype=torch.float32) for name, weight in weights.items()}
    parameters = [weight.parameter for weight in weights.values()]
    count = sum(len(ids) for ids in blocks.values())
    with (
        adapters_off(model),
        eval_mode(model),
        gradients_for(model, parameters),
        tqdm(total=count, unit="block", disable=not progress) as bar,
    ):
        for language, ids in blocks.items():
            bar.set_description(f"importance {language}")
            scores = store.load(language, ids) if store else None
            if scores is None:
                scores = _score(unwrap(model), weights, ids, source, language, bar=bar)
                _require_finite(language, scores)
                if store:
                    store.save(language, ids, scores)
            else:
                bar.update(len(ids))
            for name, values in scores.items():
                total[name] += values
    return total


def _score(
    model: nn.Module,
    weights: dict[str, Weight],
    ids: Blocks,
    source: Provenance,
    language: str,
    *,
    bar: tqdm[Any],
) -> dict[str, torch.Tensor]:
    batch_size = source.batch_size or _AUTO_BATCH
    if source.method == "wanda":
        return wanda_scores(model, weights, ids, batch_size=batch_size, language=language, bar=bar)
    method: Any = source.method
    return gradient_scores(model, weights, ids, method=method, batch_size=batch_size, language=language, bar=bar)


def _require_finite(language: str, scores: dict[str, torch.Tensor]) -> None:
    """Gradients and inputs of layers can be infinite where the loss is not; such scores must not be kept."""
    for name, values in scores.items():
        if not torch.isfinite(values).all():
            raise NonFiniteError(
                f"The importance of {name!r} on {language!r} is NaN or infinite; the languages before it are kept. Load the "
                "model in float32 or bfloat16 instead of float16, and check that its weights hold no NaN."
            )


def _from_weights(weights: dict[str, Weight], source: Provenance, *, random: bool) -> ImportanceScores:
    generator = torch.Generator().manual_seed(source.seed or 0)
    tensors = {
        name: torch.rand(weight.parameter.shape, generator=generator)
        if random
        else weight.parameter.detach().to("cpu", torch.float32, copy=True).abs_()
        for name, weight in weights.items()
    }
    return ImportanceScores(tensors, provenance=source)
