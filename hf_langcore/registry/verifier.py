"""The verdict on one entry: measured, compared with its claim, and put into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hf_langcore.registry.activations import MassiveBench
from hf_langcore.registry.entry import Entry
from hf_langcore.registry.judging import Thresholds, judge
from hf_langcore.registry.measuring import Bench, weight_figures
from hf_langcore.registry.results import MeasuredActivation, Verdict, VerifiedEntry
from hf_langcore.sinks.massive import RATIO, MassiveActivation


class Verifier:
    """Measures entries one by one on one text.

    Attributes:
        bench: The model and the text.
    """

    def __init__(
        self, bench: Bench, everything: Sequence[Entry], thresholds: Thresholds, missing: Mapping[str, str]
    ) -> None:
        """Prepare.

        Args:
            bench: The model and the text.
            everything: Entries among which those of a group are looked for.
            thresholds: Where "explodes" begins and "nothing" ends.
            missing: Id -> why the entry is not in this model.
        """
        self.bench = bench
        self._everything, self._thresholds, self._missing = everything, thresholds, missing
        self._massive: MassiveBench | None = None

    def result(self, entry: Entry) -> VerifiedEntry:
        """Measure one entry."""
        if entry.id in self._missing:
            return VerifiedEntry(entry, "missing", self._missing[entry.id])
        if entry.kind != "massive_activation":
            return self._weight(entry)
        if self._massive is None:
            self._massive = MassiveBench(self.bench)
        if entry.index is None:
            return VerifiedEntry(entry, *_without_massive(self._massive.found))
        here = self._massive.at(entry.place[0])
        if here is None:
            return VerifiedEntry(
                entry,
                "does not hold",
                f"Dimension {entry.index} is nowhere massive on this text: no activation is {RATIO:g} times the median.",
            )
        return self._activation(entry, self._massive, here)

    def _weight(self, entry: Entry) -> VerifiedEntry:
        found = weight_figures(self.bench, entry, self._group(entry))
        measured, control, prefix = found.alone, found.control, ""
        if entry.is_joint and found.joint is not None:
            measured, control, prefix = found.joint, found.joint_control, "All coordinates of the group together: "
        verdict, reason = judge(entry.expected, measured.ratio, measured.interval, control, self._thresholds)
        if entry.is_joint and found.joint is None:
            verdict = "inconclusive"
            reason = "The claim is about all coordinates of the group together, and some of them are missing here."
        return VerifiedEntry(
            entry,
            verdict,
            f"{prefix}{reason}",
            measured.ratio,
            measured.drawn,
            control,
            found.name,
            joint_ratio=None if found.joint is None else found.joint.ratio,
        )

    def _activation(self, entry: Entry, massive: MassiveBench, here: MeasuredActivation) -> VerifiedEntry:
        figures = massive.figures([one for other in self._group(entry) for one in other.place])
        measured = figures.mean if entry.operation == "mean-set" else figures.zero
        verdict, reason = judge(entry.expected, measured.ratio, measured.interval, figures.control, self._thresholds)
        if entry.expected == "unknown":  # then only the activation is claimed
            verdict, reason = "holds", f"Without it perplexity is x{measured.ratio:.4g}."
        there = f"Largest {here.largest:.4g}, {here.ratio:.4g} times the median, number {here.rank} of the massive dimensions. "
        return VerifiedEntry(
            entry,
            verdict,
            there + reason,
            measured.ratio,
            measured.drawn,
            figures.control,
            mean_set_ratio=figures.mean.ratio,
            activation=here,
        )

    def _group(self, entry: Entry) -> list[Entry]:
        if entry.group is None:
            return [entry]
        return [one for one in self._everything if (one.model_id, one.group) == (entry.model_id, entry.group)]


def _without_massive(found: Sequence[MassiveActivation]) -> tuple[Verdict, str]:
    """Whether a model has no massive activation, as the sources define it."""
    large = next((one for one in found if one.is_massive_as_published), None)
    if large is not None:
        where = f"Dimension {large.dimension} behind layer {large.layer}"
        return "does not hold", f"{where} is massive: {large.largest:.4g}, {large.ratio:.4g} times the median."
    weaker = f" {len(found)} are above {RATIO:g} times the median." if found else ""
    return "holds", f"No activation is above 100 and above 1000 times the median.{weaker}"
