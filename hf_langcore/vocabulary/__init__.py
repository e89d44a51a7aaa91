"""A larger vocabulary for one language: tokens learned on top of those that are there, and rows for them in the model."""

from __future__ import annotations

from hf_langcore.vocabulary.extension import VocabularyExtension, add_rows, extend_vocabulary
from hf_langcore.vocabulary.rows import INITIALISATIONS, Initialisation
from hf_langcore.vocabulary.tokens import LearnedTokens, learn_tokens

__all__ = [
    "INITIALISATIONS",
    "Initialisation",
    "LearnedTokens",
    "VocabularyExtension",
    "add_rows",
    "extend_vocabulary",
    "learn_tokens",
]
