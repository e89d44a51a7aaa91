"""Facts and minimal pairs put to a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.knowledge.items import KnowledgeSet
from hf_langcore.knowledge.reading import load_knowledge
from hf_langcore.knowledge.report import KnowledgeReport
from hf_langcore.knowledge.scores import FactScore, PairScore
from hf_langcore.knowledge.scoring import score_set


def evaluate_knowledge(
    model: nn.Module,
    tokenizer: Any,
    *,
    languages: Sequence[str] | None = None,
    data: str | Path | Sequence[str | Path] | Mapping[str, KnowledgeSet] | None = None,
    bos_token_id: int | None = None,
    batch_size: int | Literal["auto"] = "auto",
    resamples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> KnowledgeReport:
    """Which facts a model completes rightly, and which grammatical sentences it finds likelier than their twins.

    A fact is right where no wrong completion has a higher log-likelihood after the prompt, summed over its tokens, and, as
    a second figure, divided by its UTF-8 bytes, which does not favour short completions. Of a minimal pair the whole
    sentences are compared. Alternatives that tie share the point, so that a model which tells nothing apart is at
    chance: 25 % of facts with three wrong completions, 50 % of the pairs.

    The built-in facts come in groups of eight whose completions are exchanged among themselves: each is the right one once
    and a wrong one three times. So a model that looks only at the completions is at chance, and its mean margin is zero.

    Args:
        model: A causal LM as it is now, bare or wrapped; open edits count.
        tokenizer: Its tokenizer.
        languages: Codes to take; all that there are if None.
        data: Files of your own, see `read_knowledge`, or sets that were read; None for the built-in ones.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        batch_size: Sentences per forward pass.
        resamples: Of the bootstrap that gives the intervals.
        seed: Of the bootstrap.
        progress: Show a progress bar.

    Raises:
        CorpusError: A file is not as it should be, or an entry is longer than the model's context.
        InputError: A language is missing.

    Example:
        >>> report = evaluate_knowledge(model, tokenizer, languages=["en", "zh"])  # doctest: +SKIP
        >>> report.accuracy("pairs", language="en")  # doctest: +SKIP
        Estimate(value=0.87, low=0.77, high=0.97, items=39)
    """
    if isinstance(data, Mapping):
        sets = {code: data[code] for code in languages or data}
    else:
        sets = load_knowledge(data, languages)
    facts: list[FactScore] = []
    pairs: list[PairScore] = []
    for language, items in tqdm(sets.items(), desc="knowledge", unit="language", disable=not progress):
        of_facts, of_pairs = score_set(model, tokenizer, items, bos_token_id=bos_token_id, batch_size=batch_size)
        facts += [
            FactScore(language, fact.kind, fact.name, (fact.right, *fact.wrong), likely)
            for fact, likely in zip(items.facts, of_facts, strict=True)
        ]
        pairs += [
            PairScore(language, pair.phenomenon, pair.grammatical, (pair.grammatical, pair.ungrammatical), likely)
            for pair, likely in zip(items.pairs, of_pairs, strict=True)
        ]
    settings = {"items_sha256": digest_of(sets), "resamples": resamples, "seed": seed, **circumstances(model)}
    return KnowledgeReport(tuple(facts), tuple(pairs), settings)


def digest_of(sets: Mapping[str, KnowledgeSet]) -> str:
    """Hex sha256 of all entries."""
    return hashlib.sha256(repr(sorted(sets.items())).encode()).hexdigest()
