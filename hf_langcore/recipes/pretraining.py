"""Train a tiny multilingual Llama from scratch: the demo's model, and a way to make others on real text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from hf_langcore.data import pack_blocks, read_texts, require_corpora, start_token
from hf_langcore.errors import InputError, NonFiniteError

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
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, BOS, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=PAD, bos_token=BOS, eos_token=EOS)


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
    _train(model, blocks, shape, progress=progress)
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


def _train(model: nn.Module, blocks: list[torch.Tensor], shape: TinyModel, *, progress: bool) -> None:
    generator = torch.Generator().manual_seed(shape.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=shape.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, shape.steps))
    model.train()
    with tqdm(total=shape.steps, desc="training a tiny model", unit="step", disable=not progress) as bar:
        for _ in range(shape.steps):
            ids = _draw(blocks, shape.batch_size, generator)
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            if not torch.isfinite(loss):
                raise NonFiniteError(f"The training loss is {loss.item()}. Lower the learning rate.")
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def _draw(blocks: list[torch.Tensor], count: int, generator: torch.Generator) -> torch.Tensor:
    """A batch in which each row's language, then its block, is drawn uniformly."""
    languages = torch.randint(len(blocks), (count,), generator=generator).tolist()
    rows = [blocks[one][torch.randint(len(blocks[one]), (1,), generator=generator).item()] for one in languages]
    return torch.stack(rows)


def _rate(step: int, steps: int) -> float:
    warm_up = max(1, steps // 10)
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.1 + 0.45 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
