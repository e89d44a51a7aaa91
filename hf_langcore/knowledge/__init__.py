"""What a model knows: cloze facts and minimal pairs, in eight languages or in your own files."""

from __future__ import annotations

from hf_langcore.knowledge.bootstrap import Estimate
from hf_langcore.knowledge.evaluate import evaluate_knowledge
from hf_langcore.knowledge.items import Fact, KnowledgeSet, MinimalPair
from hf_langcore.knowledge.reading import KNOWLEDGE_LANGUAGES, load_knowledge, read_knowledge
from hf_langcore.knowledge.report import KnowledgeReport

__all__ = [
    "KNOWLEDGE_LANGUAGES",
    "Estimate",
    "Fact",
    "KnowledgeReport",
    "KnowledgeSet",
    "MinimalPair",
    "evaluate_knowledge",
    "load_knowledge",
    "read_knowledge",
]
