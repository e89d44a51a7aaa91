"""What a model can still do: perplexity per language and condition."""

from __future__ import annotations

from hf_langcore.evaluation.echo import EchoReport, evaluate_echo, measure_echo
from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.evaluation.measurement import load_perplexity_measurement
from hf_langcore.evaluation.perplexity import ScoringTask, evaluate_perplexity, prepare_scoring, score, window_losses
from hf_langcore.evaluation.report import PerplexityReport

__all__ = [
    "EchoReport",
    "LanguageScore",
    "PerplexityReport",
    "ScoringTask",
    "evaluate_echo",
    "evaluate_perplexity",
    "load_perplexity_measurement",
    "measure_echo",
    "prepare_scoring",
    "score",
    "window_losses",
]
