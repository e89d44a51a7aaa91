"""The built-in mini corpus: ten small grammars that say the same things, without network and without files.

A meaning is drawn from a seed and an index, the same for all languages, and each language puts it into words.
Sentences come with universal part-of-speech tags and dependency trees, so they also serve as a tiny treebank.
"""

from __future__ import annotations

from hf_langcore.data.mini.generation import MINI_LANGUAGES, generate_sentences, mini_corpora, mini_corpus
from hf_langcore.data.mini.sentence import MiniSentence, MiniToken

__all__ = [
    "MINI_LANGUAGES",
    "MiniSentence",
    "MiniToken",
    "generate_sentences",
    "mini_corpora",
    "mini_corpus",
]
