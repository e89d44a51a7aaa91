"""Massive activations, and how much of a core's effect is theirs: sink or language?"""

from __future__ import annotations

from hf_langcore.sinks.comparison import run_sink_test, sink_or_language
from hf_langcore.sinks.massive import (
    Activations,
    MassiveActivation,
    dimensions_by_layer,
    find_massive_activations,
    mean_activations,
    measure_activations,
    zero_activations,
)
from hf_langcore.sinks.result import SinkTest

__all__ = [
    "Activations",
    "MassiveActivation",
    "SinkTest",
    "dimensions_by_layer",
    "find_massive_activations",
    "mean_activations",
    "measure_activations",
    "run_sink_test",
    "sink_or_language",
    "zero_activations",
]
