"""What a model can still do: perplexity per language and condition."""

from __future__ import annotations

from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.evaluation.measurement import load_perplexity_measurement
from hf_langcore.evaluation.perplexity import ScoringTask, evaluate_perplexity, prepare_scoring, score, window_losses
from hf_langcore.evaluation.report import PerplexityReport

__all__ = [
    "LanguageScore",
    "PerplexityReport",
    "ScoringTask",
    "evaluate_perplexity",
    "load_perplexity_measurement",
    "prepare_scoring",
    "score",
    "window_losses",
]
