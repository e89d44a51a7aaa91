"""Train a tiny multilingual encoder from scratch by masked language modelling.

An encoder reads text from both sides. Beside a causal model of the same width and languages it shows which findings
about representations belong to the objective. It is a ModernBERT: rotary positions and gated layers leave the loss of
a unigram model within a few hundred steps, and its head is computed at the masked positions only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
)

from hf_langcore.data import read_texts, require_corpora
from hf_langcore.recipes.fitting import Training, draw, fit
from hf_langcore.recipes.masking import CLS, MASK, PAD, SEP, SPECIAL_TOKENS, Masking, masking_blocks
from hf_langcore.recipes.pretraining import train_bpe

CHECKPOINT = "training.pt"


@dataclass(frozen=True, slots=True)
class TinyEncoder:
    """Shape and training of a tiny encoder; the defaults train in about a minute on one core.

    Attributes:
        vocab_size: Tokens of the byte-level BPE.
        hidden_size: Width.
        intermediate_size: Width of the feed-forward layers.
        layers: Number of layers.
        heads: Number of attention heads.
        block_size: Tokens per training block, [CLS] and [SEP] included.
        batch_size: Blocks per step.
        steps: Optimizer steps.
        learning_rate: Peak of a cosine schedule with a warm-up of a tenth of the steps.
        mask_share: Share of the tokens to be predicted.
        bf16: Compute in bfloat16 by autocast; the weights stay in float32.
        seed: Of weights, order and masks.
    """

    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 256
    layers: int = 4
    heads: int = 4
    block_size: int = 64
    batch_size: int = 16
    steps: int = 500
    learning_rate: float = 2e-3
    mask_share: float = 0.25
    bf16: bool = False
    seed: int = 0


def pretrain_encoder(
    corpora: Mapping[str, Any],
    *,
    shape: TinyEncoder | None = None,
    tokenizer: Any = None,
    progress: bool = True,
    folder: str | Path | None = None,
) -> tuple[Any, Any]:
    """Train a tokenizer and a tiny encoder on texts in several languages, each language weighing the same.

    Args:
        corpora: Language -> texts.
        shape: Size and training.
        tokenizer: A tokenizer with [CLS], [SEP], [MASK] and padding; None trains one.
        progress: Show a progress bar with the loss.
        folder: Holds the state of the training, so that a killed run goes on; None keeps nothing.

    Returns:
        The model in float32 and its tokenizer.

    Raises:
        CorpusError: A text is missing, empty or too short.
        InputError: A number is out of range, or the folder holds the training of another model.
        NonFiniteError: Training broke down.
        UnsupportedModelError: The tokenizer lacks a special token.
    """
    shape = shape or TinyEncoder()
    texts = {language: list(read_texts(language, source)) for language, source in require_corpora(corpora).items()}
    documents = (text for some in texts.values() for text in some)
    tokenizer = tokenizer or train_masking_tokenizer(documents, vocab_size=shape.vocab_size)
    torch.manual_seed(shape.seed)
    model = ModernBertForMaskedLM(_config(shape, tokenizer))
    train_masked(
        model,
        tokenizer,
        texts,
        steps=shape.steps,
        block_size=shape.block_size,
        batch_size=shape.batch_size,
        learning_rate=shape.learning_rate,
        seed=shape.seed,
        mask_share=shape.mask_share,
        bf16=shape.bf16,
        progress=progress,
        checkpoint=None if folder is None else Path(folder) / CHECKPOINT,
    )
    return model, tokenizer


def train_masked(
    model: nn.Module,
    tokenizer: Any,
    corpora: Mapping[str, Any],
    *,
    steps: int,
    block_size: int = 128,
    batch_size: int = 16,
    learning_rate: float = 1e-3,
    seed: int = 0,
    mask_share: float = 0.15,
    bf16: bool = False,
    progress: bool = False,
    checkpoint: Path | None = None,
) -> None:
    """Train a model in place by masked language modelling; it is left in evaluation mode.

    Of the tokens to be predicted 80 % become [MASK], 10 % a random token, and 10 % stay (Devlin et al. 2019); they
    are drawn anew for every batch. Special tokens are never drawn.

    Args:
        model: A masked language model. ModernBERT computes its head at the masked positions only.
        tokenizer: With [CLS], [SEP], [MASK] and padding.
        corpora: Language -> texts; every language weighs the same.
        steps: Optimizer steps.
        block_size: Tokens per block, [CLS] and [SEP] included.
        batch_size: Blocks per step.
        learning_rate: Peak of a cosine schedule with a warm-up of a tenth of the steps.
        seed: Of order and masks.
        mask_share: Share of the tokens to be predicted, between 0 and 1.
        bf16: Compute in bfloat16 by autocast; the weights stay as they are.
        progress: Show a progress bar with the loss.
        checkpoint: A file that holds the state, so that a killed run goes on; None keeps nothing.

    Raises:
        CorpusError: A text is missing, empty or too short.
        InputError: A number is out of range, or the file holds the training of another model.
        NonFiniteError: Training broke down.
        UnsupportedModelError: The tokenizer lacks a special token.
    """
    blocks = list(masking_blocks(corpora, tokenizer, block_size=block_size).values())
    masking = Masking(tokenizer, mask_share)

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        ids, labels = masking(draw(blocks, batch_size, generator), generator)
        device = next(model.parameters()).device
        loss: torch.Tensor = model(input_ids=ids.to(device), labels=labels.to(device)).loss
        return loss

    training = Training(
        steps, learning_rate, seed=seed, bf16=bf16, progress=progress, title="training a masked language model"
    )
    fit(model, loss_of, training, checkpoint=checkpoint)
    model.eval()


def train_masking_tokenizer(texts: Any, *, vocab_size: int) -> Any:
    """A byte-level BPE that puts [CLS] before and [SEP] behind a text, as a transformers tokenizer.

    [CLS] is also its BOS and [SEP] its EOS, as RoBERTa has it.
    """
    from tokenizers.processors import TemplateProcessing

    tokenizer = train_bpe(texts, vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS))
    ids = [(token, tokenizer.token_to_id(token)) for token in (CLS, SEP)]
    tokenizer.post_processor = TemplateProcessing(
        single=f"{CLS} $A {SEP}", pair=f"{CLS} $A {SEP} $B:1 {SEP}:1", special_tokens=ids
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        cls_token=CLS,
        sep_token=SEP,
        mask_token=MASK,
        bos_token=CLS,
        eos_token=SEP,
        model_input_names=["input_ids", "attention_mask"],
    )


def _config(shape: TinyEncoder, tokenizer: Any) -> ModernBertConfig:
    return ModernBertConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=max(512, shape.block_size),
        # The default of 0.02 is for wide models; a narrow one starts too quiet and learns the frequencies only for long.
        initializer_range=shape.hidden_size**-0.5,
        layer_types=["full_attention"] * shape.layers,
        pad_token_id=tokenizer.pad_token_id,
        cls_token_id=tokenizer.cls_token_id,
        bos_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        eos_token_id=tokenizer.sep_token_id,
        sparse_prediction=True,
    )
