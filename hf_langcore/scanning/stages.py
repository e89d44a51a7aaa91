"""Screening, confirmation, controls and leave-one-out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn
from tqdm.auto import tqdm

from hf_langcore.architecture import unwrap
from hf_langcore.data import vocabulary_size
from hf_langcore.errors import NonFiniteError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.scanning.candidates import Candidate, interleave, norm_candidate
from hf_langcore.scanning.judging import (
    Measured,
    Place,
    contains,
    in_order,
    lines_of,
    margin_of,
    matched_controls,
    num_spared,
    rank_of,
    residual_of,
    spared,
    stands_out,
    typical_rises,
)
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.options import Options
from hf_langcore.scanning.result import Control, CriticalDimension, CriticalScan, JointEffect
from hf_langcore.scanning.statistics import ratio_interval, require_enough_text
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText, excerpt
from hf_langcore.scanning.verification import Edit, Session

SCREENING_TOKENS = 1024
"""Scored tokens of the excerpt on which all candidates are measured."""

NOTHING_TO_LOSE = (
    "nothing is reported: in no language the model predicts the text better than a uniform guess over its vocabulary, so there "
    "is nothing that an edit could destroy"
)

_ALWAYS_CONTROLLED = 4
_MOST_JOINT = 8  # reported dimensions that are edited together
_MOST_RELATED = 8  # residual dimensions that are looked for in all norms


@dataclass(frozen=True, slots=True)
class Bench:
    """Where edits are measured.

    Attributes:
        session: The model under verification.
        tensors: What of it can be scanned.
        text: The text.
        base: Losses of the model as it is on this text.
        done: Called after each edit.
    """

    session: Session
    tensors: Tensors
    text: PreparedText
    base: WindowLosses
    done: Callable[[], object]

    def measure(self, edits: Sequence[tuple[Candidate, float]]) -> list[Measured]:
        """What each edit does, in no particular order."""
        return [
            self._measured(*edit.changes[0], losses)
            for edit, losses in self.session.measure_edits(self.text, [Edit.of(*one) for one in edits], done=self.done)
        ]

    def rise(self, edits: Sequence[Edit]) -> dict[Edit, float]:
        """Rise of the mean loss under each edit, in nats per token."""
        found = self.session.measure_edits(self.text, edits, done=self.done)
        return {edit: losses.mean_nll() - self.base.mean_nll() for edit, losses in found}

    def _measured(self, candidate: Candidate, factor: float, losses: WindowLosses) -> Measured:
        return Measured(
            candidate,
            factor,
            losses,
            self.base,
            size=candidate.view(self.tensors).numel(),
            residual=residual_of(candidate, self.tensors),
            layer=self.tensors.layer(candidate.parameter),
            is_writer=candidate.kind != "norm" and self.tensors.matrices[candidate.parameter].is_writer,
        )


def run_stages(
    session: Session,
    model: nn.Module,
    tensors: Tensors,
    task: ScoringTask,
    candidates: Sequence[Candidate],
    options: Options,
    *,
    settings: Mapping[str, Any],
    batch_size: int | Literal["auto"],
    progress: bool,
) -> CriticalScan:
    """Verify candidates; see `find_critical_dimensions`.

    Raises:
        CorpusError: The text is too short to tell.
        NonFiniteError: The model gives NaN or infinity without any edit.
    """
    whole = PreparedText(model, task, batch_size=batch_size)
    part = excerpt(task, SCREENING_TOKENS)
    first = whole if part is task else PreparedText(model, part, batch_size=batch_size)
    base = session.measure(whole)
    _require_usable(base)
    edits = [(one, factor) for one in candidates for factor in options.factors_of(one)]
    with tqdm(total=len(edits), desc="critical dimensions", unit="edit", disable=not progress) as bar:
        screening = Bench(session, tensors, first, base if first is whole else session.measure(first), bar.update)
        screened = screening.measure(edits)
        bench = Bench(session, tensors, whole, base, bar.update)
        chance = math.log(vocabulary_size(unwrap(model)))
        destroyed = 2 * chance - base.mean_nll()
        places = _strongest(screened, options.confirm, destroyed)
        confirmed = _confirm(bench, [one for one in screened if one.place in places], bar, same=first is whole)
        confirmed = _with_relatives(bench, confirmed, screened, options, bar)
        drawn: dict[tuple[Place, float], Measured] = {}
        judged, controls = _judge(bench, confirmed, options, bar, drawn)
        risen = _risen(controls, confirmed, options)
        if risen:
            confirmed = sorted([*confirmed, *risen], key=lambda one: -one.rise)
            judged, controls = _judge(bench, confirmed, options, bar, drawn)
        known = {(one.place, one.factor): one for one in [*screened, *judged]}
        has_learned = min(base.nll().values()) < chance
        critical = [
            one for one in judged if has_learned and _is_critical(one, known.values(), controls, bench, options)
        ]
        reported = in_order(_worst(critical), destroyed=destroyed)
        joint = _joint(bench, reported[:_MOST_JOINT], bar)
    # Of a place that is reported the edit that makes it special, of others the one that hurts most.
    measured = _worst(
        [*reported, *(one for one in known.values() if one.place not in {two.place for two in reported})]
    )
    notes = [*settings.get("notes", ()), *([] if has_learned else [NOTHING_TO_LOSE])]
    passes = {"forward_passes": session.num_passes, "shortened_passes": session.num_shortened}
    return CriticalScan(
        tuple(map(_described, reported)),
        tuple(map(_described, measured)),
        tuple(
            Control(place, one.candidate.index, one.factor, _ratio(one))
            for (place, _), found in controls.items()
            for one in found
        ),
        joint,
        base.perplexity,
        {
            **settings,
            **passes,
            "notes": notes,
            "edits": len(edits),
            "tokens": base.num_tokens,
            "screening_tokens": first.num_tokens,
        },
        num_layers=len(tensors.layers),
        width=tensors.width,
    )


def _require_usable(base: WindowLosses) -> None:
    for language, loss in base.nll().items():
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"The loss on {language!r} is {loss} without any edit, so nothing can be compared with it. Load the model in "
                "float32 or bfloat16 instead of float16, and check that its weights hold no NaN."
            )
    require_enough_text(base)


def _worst(measured: Sequence[Measured]) -> list[Measured]:
    """Of each place the edit that hurts most, strongest first."""
    found: dict[Place, Measured] = {}
    for one in measured:
        if one.place not in found or one.rise > found[one.place].rise:
            found[one.place] = one
    return sorted(found.values(), key=lambda one: (-one.rise, one.size, one.candidate.parameter))


def _confirm(bench: Bench, screened: Sequence[Measured], bar: Any, *, same: bool) -> list[Measured]:
    """Edits on the whole text, with intervals, strongest first."""
    found = list(screened)
    if not same:
        _more(bar, len(found))
        found = bench.measure([(one.candidate, one.factor) for one in screened])
    found = [replace(one, interval=ratio_interval(bench.base, one.losses)) for one in found]
    return sorted(found, key=lambda one: -one.rise)


def _strongest(screened: Sequence[Measured], count: int, destroyed: float) -> set[Place]:
    """Of every kind those that do most, and those that do most beside others of their tensor, in turns."""
    typical = typical_rises(screened)
    rankings: list[list[Candidate]] = []
    for kind in dict.fromkeys(one.candidate.kind for one in screened):
        own = [one for one in screened if one.candidate.kind == kind]
        by_effect = sorted(own, key=lambda one: (-min(one.rise, destroyed), rank_of(one), -one.rise))
        by_contrast = sorted(own, key=lambda one: -one.rise / typical[one.group])
        rankings += [[one.candidate for one in ranking] for ranking in (by_effect, by_contrast)]
    return {one.place for one in interleave(rankings, limit=count)}


def _judge(
    bench: Bench, confirmed: Sequence[Measured], options: Options, bar: Any, drawn: dict[tuple[Place, float], Measured]
) -> tuple[list[Measured], dict[tuple[Place, float], list[Measured]]]:
    """Matched controls of all that pass the least ratio, and of the strongest few; `drawn` keeps what each control did."""
    without = spared(confirmed, bench.tensors)
    chosen: dict[tuple[Place, float], list[Candidate]] = {}
    for number, one in enumerate(confirmed):
        if number < _ALWAYS_CONTROLLED or _is_enough(one, options):
            chosen[one.place, one.factor] = matched_controls(
                one.candidate, bench.tensors, count=options.controls, seed=options.seed, without=without
            )
    wanted = {(one.place, factor): (one, factor) for (_, factor), found in chosen.items() for one in found}
    edits = [edit for key, edit in wanted.items() if key not in drawn]
    _more(bar, len(edits))
    drawn |= {(one.place, one.factor): one for one in bench.measure(edits)}
    controls = {key: [drawn[one.place, key[1]] for one in found] for key, found in chosen.items()}
    judged = [
        replace(one, control_ratio=max(map(_ratio, own))) if (own := controls.get((one.place, one.factor))) else one
        for one in confirmed
    ]
    return judged, controls


def _is_critical(
    one: Measured,
    known: Iterable[Measured],
    controls: Mapping[tuple[Place, float], Sequence[Measured]],
    bench: Bench,
    options: Options,
) -> bool:
    """Whether an edit does enough for sure, and stands out of the same edits in its tensor."""
    if not controls.get((one.place, one.factor)) or not _is_enough(one, options):
        return False
    others = {other.place: other for found in controls.values() for other in found if other.group == one.group}
    others |= {other.place: other for other in known if other.group == one.group and other.place != one.place}
    most = num_spared(bench.tensors, one.candidate.parameter, one.candidate.kind)
    margin = margin_of(one.candidate.kind)
    return stands_out(one.rise, [other.rise for other in others.values()], most=most, margin=margin) and all(
        stands_out(one.rise, [other.rise for other in line], most=most_in_line, margin=margin)
        for line, most_in_line in lines_of(one, list(others.values()))
    )


def _is_enough(one: Measured, options: Options) -> bool:
    return one.interval is not None and one.interval.low >= options.min_ratio


def _with_relatives(
    bench: Bench, confirmed: Sequence[Measured], screened: Sequence[Measured], options: Options, bar: Any
) -> list[Measured]:
    """The confirmed edits, and those of gains of the same residual dimensions in other norms that nobody has proposed."""
    if not any(one.candidate.kind == "norm" for one in screened):
        return list(confirmed)
    dimensions = [one.residual for one in confirmed if _is_enough(one, options) and one.residual is not None]
    known = {one.place for one in screened}
    wanted = [
        norm_candidate(name, index, "relatives")
        for index in list(dict.fromkeys(dimensions))[:_MOST_RELATED]
        for name, weight in bench.tensors.norms.items()
        if weight.parameter.numel() == bench.tensors.width
    ]
    edits = [(one, factor) for one in wanted if one.place not in known for factor in options.factors_of(one)]
    _more(bar, len(edits))
    found = [one for one in bench.measure(edits) if _ratio(one) >= options.min_ratio]
    new = [replace(one, interval=ratio_interval(bench.base, one.losses)) for one in found]
    return sorted([*confirmed, *new], key=lambda one: -one.rise)


def _risen(
    controls: Mapping[tuple[Place, float], Sequence[Measured]], confirmed: Sequence[Measured], options: Options
) -> list[Measured]:
    """Controls that do enough to be critical themselves: nobody has proposed them, and chance has found them."""
    known = {(one.place, one.factor) for one in confirmed}
    found = {(one.place, one.factor): one for drawn in controls.values() for one in drawn}
    risen = []
    for key, one in found.items():
        if key not in known and _ratio(one) >= options.min_ratio:
            candidate = replace(one.candidate, sources=("controls",))
            risen.append(replace(one, candidate=candidate, interval=ratio_interval(one.base, one.losses)))
    return risen


def _joint(bench: Bench, reported: Sequence[Measured], bar: Any) -> JointEffect | None:
    """All together, and each left out; a row or column goes where a weight in it is reported."""
    kept = [one for one in reported if not any(contains(one.candidate, other.candidate) for other in reported)]
    if len(kept) < 2:  # noqa: PLR2004 one alone has nothing to be compared with
        return None
    changes = [(one.candidate, one.factor) for one in kept]
    every = Edit(tuple(changes))
    without = {
        one.place: Edit(tuple(change for other, change in enumerate(changes) if other != number))
        for number, one in enumerate(kept)
    }
    _more(bar, len(kept) + 1)
    rises = bench.rise([every, *without.values()])
    return JointEffect(rises[every], {place: rises[edit] for place, edit in without.items()})


def _more(bar: Any, count: int) -> None:
    bar.total += count
    bar.refresh()


def _ratio(one: Measured) -> float:
    return one.losses.perplexity / one.base.perplexity


def _described(one: Measured) -> CriticalDimension:
    return CriticalDimension(
        one.candidate.parameter,
        one.candidate.axis,
        one.candidate.index,
        one.factor,
        one.losses.perplexity,
        one.base.perplexity,
        kind=one.candidate.kind,
        interval=one.interval,
        control_ratio=one.control_ratio,
        sources=one.candidate.sources,
        layer=one.layer,
        residual=one.residual,
        size=one.size,
        tokens=one.losses.num_tokens,
    )
