"""Instruction data: what people have, in the form that trainers take; arithmetic to learn and to measure."""

from __future__ import annotations

from hf_langcore.instructions.arithmetic import arithmetic_rows, arithmetic_split
from hf_langcore.instructions.completion import CompletionScore, completion_score
from hf_langcore.instructions.formats import FORMATS
from hf_langcore.instructions.loading import (
    InspectedRows,
    InstructionData,
    RowProblem,
    inspect_instructions,
    listed,
    load_instructions,
)
from hf_langcore.instructions.matching import ArithmeticMatch, arithmetic_match, load_arithmetic_metric
from hf_langcore.instructions.scoring import ArithmeticScore, evaluate_arithmetic

__all__ = [
    "FORMATS",
    "ArithmeticMatch",
    "ArithmeticScore",
    "CompletionScore",
    "InspectedRows",
    "InstructionData",
    "RowProblem",
    "arithmetic_match",
    "arithmetic_rows",
    "arithmetic_split",
    "completion_score",
    "evaluate_arithmetic",
    "inspect_instructions",
    "listed",
    "load_arithmetic_metric",
    "load_instructions",
]
