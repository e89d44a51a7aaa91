"""What the experiments on syntax share: which languages are learnt from, and the words as one model represents them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from hf_langcore.architecture import unwrap
from hf_langcore.errors import InputError
from hf_langcore.probing.layers import labelled
from hf_langcore.probing.representations import Labelled, WordVectors, word_vectors
from hf_langcore.probing.treebanks import Sentence
from hf_langcore.recipes.bench.workbench import Bench, Subject

TASKS = {"upos": "part of speech", "relation": "relation to the head"}
"""Task of `probe_layers` -> what the probe is asked for."""

_USUAL_SOURCES = ("ar", "en", "ru", "zh")  # four scripts, four families


def source_languages(treebanks: Mapping[str, Sequence[Sentence]], asked: Sequence[str]) -> tuple[str, ...]:
    """The languages that probes learn from: those asked for, or Arabic, English, Russian and Chinese, or a quarter.

    Raises:
        InputError: One of them has no treebank, or there is no other language to test on.
    """
    usual = tuple(code for code in _USUAL_SOURCES if code in treebanks)
    chosen = tuple(dict.fromkeys(asked)) or usual or tuple(treebanks)[: max(1, len(treebanks) // 4)]
    if not asked and len(chosen) == len(treebanks):
        chosen = chosen[: len(chosen) // 2]
    missing = [code for code in chosen if code not in treebanks]
    if missing or not 0 < len(chosen) < len(treebanks):
        raise InputError(
            f"Probes learn from some languages and are tested on others too. Asked for {list(chosen)}, and there are treebanks of "
            f"{list(treebanks)}: name some of these, and leave at least one."
        )
    return chosen


class SubjectWords:
    """The words of treebanks as one model represents them, read when they are needed."""

    def __init__(
        self,
        subject: Subject,
        treebanks: Mapping[str, Sequence[Sentence]],
        *,
        max_sentences: int,
        layers: Sequence[int] | None = None,
        progress: bool = False,
    ) -> None:
        """Nothing is read yet.

        Args:
            subject: Whose representations.
            treebanks: Language -> sentences.
            max_sentences: Only so many of the first sentences of each language.
            layers: Which layers, 0 being the embeddings; None for all.
            progress: Show a bar.
        """
        self.subject, self.treebanks = subject, treebanks
        self.max_sentences, self.layers, self.progress = max_sentences, layers, progress

    @cached_property
    def vectors(self) -> dict[str, WordVectors]:
        """Language -> vectors of the model as it is when they are asked for first."""
        return word_vectors(
            self.subject.model,
            self.subject.tokenizer,
            self.treebanks,
            max_sentences=self.max_sentences,
            layers=self.layers,
            progress=self.progress,
        )

    @property
    def layer_numbers(self) -> tuple[int, ...]:
        """The number of each layer."""
        return next(iter(self.vectors.values())).layer_numbers

    def items(self, task: str) -> dict[str, Labelled]:
        """Language -> vectors with the labels of a task."""
        return labelled(self.vectors, task)


def untrained(subject: Subject, *, seed: int) -> Subject:
    """A model of the same shape with random weights: what a probe finds without any training of the model."""
    bare: Any = unwrap(subject.model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = type(bare)(bare.config).to(next(bare.parameters()).dtype).to(next(bare.parameters()).device)
    digest = hashlib.sha256(f"untrained {seed} {subject.digest}".encode()).hexdigest()
    return replace(subject, name=f"{subject.name}, untrained", model=model.eval(), digest=digest)


def syntax_facts(bench: Bench, sources: Sequence[str], max_sentences: int) -> dict[str, Any]:
    """What figures of syntax depend on, for a section."""
    banks = bench.require_treebanks()
    return {
        **bench.facts(),
        "treebanks": {language: len(list(sentences)[:max_sentences]) for language, sentences in banks.items()},
        "train_languages": list(sources),
        "subjects": [one.name for one in bench.subjects],
    }
