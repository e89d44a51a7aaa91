"""Masked language modelling: blocks, the tokens to be predicted, and the loss of predicting them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad
from transformers import DataCollatorForLanguageModeling

from hf_langcore.data import StartToken, pack_blocks, read_texts, require_corpora
from hf_langcore.data.blocks import IGNORED
from hf_langcore.errors import InputError, UnsupportedModelError

PAD, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")


def masking_blocks(corpora: Mapping[str, Any], tokenizer: Any, *, block_size: int) -> dict[str, torch.Tensor]:
    """Language -> int64 (blocks, block_size): [CLS], tokens of text, [SEP].

    Raises:
        CorpusError: A text is missing, empty or too short.
        InputError: A block has no room for two tokens of text.
        UnsupportedModelError: The tokenizer lacks a special token.
    """
    missing = [kind for kind in ("cls", "sep", "mask") if getattr(tokenizer, f"{kind}_token_id", None) is None]
    if missing:
        raise UnsupportedModelError(
            f"Masked language modelling needs [CLS], [SEP] and [MASK]; the tokenizer has no {', '.join(missing)} token. "
            "Give an encoder's tokenizer, or none to have one trained."
        )
    if block_size < len(SPECIAL_TOKENS):
        raise InputError(f"block_size must be at least {len(SPECIAL_TOKENS)} tokens, got {block_size}.")
    start = StartToken(tokenizer.cls_token_id, "given")
    return {
        language: pad(
            pack_blocks(language, read_texts(language, source), tokenizer, start=start, block_size=block_size - 1),
            (0, 1),
            value=tokenizer.sep_token_id,
        )
        for language, source in require_corpora(corpora).items()
    }


@dataclass(frozen=True, slots=True)
class MaskedLoss:
    """How well masked tokens of one language are predicted.

    Attributes:
        nats: Mean loss per masked token.
        unigram: The same by the token frequencies of the text itself: what knowing no context costs at best.
        tokens: Masked tokens measured.
    """

    nats: float
    unigram: float
    tokens: int


@torch.no_grad()
def masked_loss(
    model: nn.Module,
    tokenizer: Any,
    corpora: Mapping[str, Any],
    *,
    block_size: int = 64,
    batch_size: int = 32,
    max_blocks: int = 64,
    mask_share: float = 0.15,
    seed: int = 0,
) -> dict[str, MaskedLoss]:
    """Loss of a masked language model per language, on masks drawn once per seed.

    Args:
        model: A masked language model.
        tokenizer: With [CLS], [SEP], [MASK] and padding.
        corpora: Language -> texts that the model was not trained on.
        block_size: Tokens per block.
        batch_size: Blocks per forward pass.
        max_blocks: At most so many blocks a language.
        mask_share: Share of the tokens to be predicted, between 0 and 1.
        seed: Of the masks.

    Raises:
        CorpusError: A text is missing, empty or too short.
        InputError: A number is out of range.
        UnsupportedModelError: The tokenizer lacks a special token.
    """
    masking, device, found = Masking(tokenizer, mask_share), next(model.parameters()).device, {}
    for language, blocks in masking_blocks(corpora, tokenizer, block_size=block_size).items():
        ids, labels = masking(blocks[:max_blocks].clone(), torch.Generator().manual_seed(seed))
        pairs = zip(ids.split(batch_size), labels.split(batch_size), strict=True)
        logits = [_masked_logits(model, *pair, device) for pair in pairs]
        targets = labels[labels != IGNORED]
        found[language] = MaskedLoss(
            cross_entropy(torch.cat(logits), targets).item(), masking.unigram(blocks, targets), len(targets)
        )
    return found


def _masked_logits(model: nn.Module, ids: torch.Tensor, labels: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits at the masked positions, (masked, vocabulary): ModernBERT gives no others."""
    logits: torch.Tensor = model(input_ids=ids.to(device), labels=labels.to(device)).logits.float().cpu()
    return logits if logits.dim() == labels.dim() else logits[labels != IGNORED]


class Masking:
    """Draw the tokens to be predicted, with a generator of ours so that a run can go on where it was."""

    def __init__(self, tokenizer: Any, share: float) -> None:
        if not 0 < share < 1:
            raise InputError(f"mask_share must lie between 0 and 1, got {share}.")
        self._collator = DataCollatorForLanguageModeling(tokenizer, mlm=True, mlm_probability=share)
        self._special = torch.tensor(tokenizer.all_special_ids)

    def __call__(self, ids: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs, and labels with -100 where nothing is to be predicted; (rows, tokens) each."""
        self._collator.generator = generator
        inputs, labels = self._collator.torch_mask_tokens(ids, special_tokens_mask=torch.isin(ids, self._special))
        return inputs, labels

    def unigram(self, blocks: torch.Tensor, targets: torch.Tensor) -> float:
        """Mean loss of tokens by their frequency in the blocks, special tokens left out."""
        counts = torch.bincount(blocks[~torch.isin(blocks, self._special)]).double()
        return -(counts[targets] / counts.sum()).log().mean().item()
