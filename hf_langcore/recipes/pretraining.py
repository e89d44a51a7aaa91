"""Train a tiny multilingual Llama from scratch: the demo's model, and a way to make others on real text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_langcore.data import pack_blocks, read_texts, require_corpora, start_token
from hf_langcore.errors import InputError
from hf_langcore.recipes.fitting import Training, draw, fit

PAD, BOS, EOS = "<pad>", "<s>", "</s>"


@dataclass(frozen=True, slots=True)
class TinyModel:
    """Shape and training of a tiny Llama; the defaults train in about a minute on two cores.

    Attributes:
        vocab_size: Tokens of the byte-level BPE.
        hidden_size: Width.
        intermediate_size: Width of the feed-forward layers.
        layers: Number of decoder layers.
        heads: Number of attention heads.
        block_size: Tokens per training block and the model's context.
        batch_size: Blocks per step.
        steps: Optimizer steps.
        learning_rate: Peak of a cosine schedule with a warm-up of a tenth of the steps.
        seed: Of weights and order.
    """

    vocab_size: int = 2048
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 4
    heads: int = 4
    block_size: int = 128
    batch_size: int = 8
    steps: int = 500
    learning_rate: float = 3e-3
    seed: int = 0


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Any:
    """A byte-level BPE with BOS, EOS and padding, as a transformers tokenizer."""
    tokenizer = train_bpe(texts, vocab_size=vocab_size, special_tokens=[PAD, BOS, EOS])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)


def train_bpe(texts: Iterable[str], *, vocab_size: int, special_tokens: list[str]) -> Any:
    """A byte-level BPE as a `tokenizers.Tokenizer`: any text comes back as it was; the special tokens come first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special_tokens,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def pretrain(
    corpora: Mapping[str, Any], *, shape: TinyModel | None = None, progress: bool = True
) -> tuple[nn.Module, Any]:
    """Train a tokenizer and a tiny Llama on texts in several languages, each language weighing the same.

    Args:
        corpora: Language -> texts.
        shape: Size and training.
        progress: Show a progress bar with the loss.

    Returns:
        The model in float32 and its tokenizer.

    Raises:
        CorpusError: A text is missing, empty or too short.
        NonFiniteError: Training broke down.
    """
    shape = shape or TinyModel()
    if shape.steps < 1:
        raise InputError(f"steps must be at least 1, got {shape.steps}.")
    texts = {language: list(read_texts(language, source)) for language, source in require_corpora(corpora).items()}
    tokenizer = train_tokenizer(
        (text for documents in texts.values() for text in documents), vocab_size=shape.vocab_size
    )
    start = start_token(tokenizer)
    blocks = [
        pack_blocks(language, documents, tokenizer, start=start, block_size=shape.block_size)
        for language, documents in texts.items()
    ]
    torch.manual_seed(shape.seed)
    model = LlamaForCausalLM(_config(shape, len(tokenizer)))

    def loss_of(generator: torch.Generator) -> torch.Tensor:
        ids = draw(blocks, shape.batch_size, generator)
        loss: torch.Tensor = model(input_ids=ids, labels=ids, use_cache=False).loss
        return loss

    fit(model, loss_of, Training(shape.steps, shape.learning_rate, seed=shape.seed, progress=progress))
    return model.eval(), tokenizer


def _config(shape: TinyModel, vocab_size: int) -> Any:
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=max(512, shape.block_size),
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
