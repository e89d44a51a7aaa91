"""Does a model go on in the language in which it was asked? Code-switching of generations, by script and by language."""

from __future__ import annotations

from hf_langcore.switching.checkpoints import SwitchingCurve, code_switching_over_checkpoints
from hf_langcore.switching.judging import Criteria, Judgement, judge
from hf_langcore.switching.rate import code_switching_rate, switching_of_texts
from hf_langcore.switching.report import Generation, Rate, SwitchingReport

__all__ = [
    "Criteria",
    "Generation",
    "Judgement",
    "Rate",
    "SwitchingCurve",
    "SwitchingReport",
    "code_switching_over_checkpoints",
    "code_switching_rate",
    "judge",
    "switching_of_texts",
]
