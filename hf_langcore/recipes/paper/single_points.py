"""Single dimensions: which are critical, what one point does, and how the harm grows with the dose.

Sources: the talk before Zhang et al., ACL 2024 (one norm weight of LLaMA2-13B, set to 1 or multiplied by 10, takes perplexity
from 6 to 10^4; what the model then says), and the scans of super weights (Yu et al., 2411.07191) and massive activations
(Sun et al., 2402.17762).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from hf_langcore.architecture import bare_weights, find_weight
from hf_langcore.editing import scale_dimension, set_dimension
from hf_langcore.editing.handle import EditHandle
from hf_langcore.errors import InputError, UnsupportedModelError
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.dimensions import Doses, continuation, dose_curves
from hf_langcore.recipes.paper.scan_parts import critical_parts
from hf_langcore.report.parts import Cell, Part, Section, Table, Texts
from hf_langcore.scanning import find_critical_dimensions

DOSES = (0.0, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
PROMPT = "Fudan University is located in"


@dataclass(frozen=True, slots=True)
class Point:
    """One dimension.

    Attributes:
        name: Name of the parameter.
        index: Index of the dimension.
        axis: For matrices, as in `scale_dimension`.
    """

    name: str
    index: int
    axis: int | None = None

    def __str__(self) -> str:
        return f"{self.name.removesuffix('.weight')} {self.index}"

    def edit(self, model: nn.Module, kind: str, value: float) -> EditHandle:
        """Set the dimension to a value ("set") or multiply it ("times")."""
        if kind == "set":
            return set_dimension(model, self.name, self.index, value=value, axis=self.axis)
        return scale_dimension(model, self.name, self.index, factor=value, axis=self.axis)


_SCAN_FACTS = ("kinds", "sources", "factors", "matrix_factors", "candidates", "confirm", "controls", "tokens", "notes")
_POINTS = 3  # dimensions that are looked at where none is named
_LINES = 6  # languages that are drawn one by one


def critical(
    bench: Bench,
    *,
    candidates: int = 512,
    confirm: int = 32,
    controls: int = 8,
    tokens: int = 256,
    min_ratio: float = 2.0,
) -> Section:
    """Which dimensions and single weights make perplexity explode.

    Args:
        bench: Model, texts and folder.
        candidates: Edited and measured on a little text.
        confirm: The strongest of them, measured on all of it.
        controls: Random dimensions of the same kind and tensor for each.
        tokens: Scored tokens per language.
        min_ratio: As in `find_critical_dimensions`.
    """
    found = _scan(bench, candidates, confirm, controls, tokens, min_ratio)
    reported = len(found["critical"])
    text = (
        (
            f"{len(found['measured'])} norm gains, rows, columns and single weights were edited one by one (times 0, times 10), "
            "measured and restored; they were proposed by one forward pass, by the weights alone, by gradients and by the core's "
            f"concentration. {reported} of them are reported as critical: with 95 % confidence their edit multiplies perplexity by "
            f"at least {min_ratio:g}, and by more than the same edit of random others of the same tensor does."
        ),
    )
    own = {name: found["settings"][name] for name in _SCAN_FACTS if name in found["settings"]}
    facts = {**bench.facts(), **own, "test_tokens": tokens, "min_ratio": min_ratio}
    return Section("scan", "Critical dimensions", text, critical_parts(found), facts)


def points(bench: Bench, *, dimensions: tuple[str, ...] = (), factor: float = 10.0, controls: int = 2) -> Section:
    """Single norm weights, reset to 1 and multiplied, beside the same index elsewhere and other indices of the same norm.

    Args:
        bench: Model, texts and folder.
        dimensions: "name:index"; the strongest norm dimensions of a scan if empty.
        factor: What they are multiplied by.
        controls: Other indices of the same norm.
    """
    chosen = [named_point(bench, one) for one in dimensions] or strongest_norms(bench, _POINTS)
    places = list(dict.fromkeys(place for point in chosen for place in _around(bench, point, controls)))
    bench.progress.expect(2 * len(places) + 1)
    base = bench.measure("base")
    rows: list[tuple[Cell, ...]] = []
    for place in places:
        reset, times = (_edited(bench, place, kind, value).mean() for kind, value in (("set", 1.0), ("times", factor)))
        mark = "examined" if place in chosen else "control"
        rows.append((str(place), mark, _gain(bench, place), base.mean(), reset, times))
    text = (
        (
            "One number of the model is changed at a time. In LLaMA2-13B the talk reports 5.9 before, 83,224 when dimension 2100 "
            "of a norm in layer 1 is set to 1, and 39,462 when it is multiplied by 10; the same index in layer 0 and other indices "
            "in layer 1 do nothing. Below are the same edits of this model: the dimensions that a scan ranks first, the same index "
            "in the norms beside them, and random indices of the same norm."
        ),
    )
    columns = ("norm weight", "", "gain", "base", "set to 1", f"times {factor:g}")
    table = Table("points", "Mean perplexity after one number is changed", columns, tuple(rows), log_bars=columns[4:])
    return Section("points", "Single points", text, (table,), bench.facts())


def dose(
    bench: Bench,
    *,
    dimension: str = "",
    axis: int | None = None,
    factors: tuple[float, ...] = DOSES,
    prompts: tuple[str, ...] = (PROMPT,),
    said_at: tuple[float, ...] = (1.0, 4.0, 10.0),
    max_new_tokens: int = 24,
) -> Section:
    """One dimension at several factors: perplexity in every language, and what the model says.

    Args:
        bench: Model, texts and folder.
        dimension: "name:index"; the strongest norm dimension of a scan if empty.
        axis: For matrices, as in `scale_dimension`.
        factors: In ascending order.
        prompts: Continued greedily at `said_at`.
        said_at: Factors at which the model speaks.
        max_new_tokens: Length of a continuation.
    """
    if not factors or list(factors) != sorted(set(factors)):
        raise InputError(f"factors are different numbers in ascending order, got {list(factors)}.")
    point = named_point(bench, dimension, axis) if dimension else strongest_norms(bench, 1)[0]
    control = _others(bench, point, 1)
    bench.progress.expect((1 + len(control)) * len(factors) + len(prompts) * len(said_at))
    reports = {factor: _edited(bench, point, "times", factor) for factor in factors}
    beside = [{factor: _edited(bench, other, "times", factor) for factor in factors} for other in control]
    said = tuple(
        Texts(
            f"said_{number}",
            f"What the model says at {point}",
            prompt,
            {f"x{factor:g}": _said(bench, point, factor, prompt, max_new_tokens) for factor in said_at},
            {f"x{factor:g}": f"perplexity {reports[factor].mean():.4g}" for factor in said_at if factor in reports},
            "Greedy decoding.",
        )
        for number, prompt in enumerate(prompts)
    )
    text = (
        (
            f"{point} is multiplied by factors from {factors[0]:g} to {factors[-1]:g} and restored after each. "
            "The talk reports 5.9, 257.7 and 3.8e8 for factors 1, 4 and 10 of LLaMA2-13B's dimension 2100, on the sentence that "
            "starts with the prompt below."
        ),
    )
    curves = dose_curves(str(point), reports, _drawn(bench), beside=beside)
    parts: tuple[Part, ...] = (curves, _dose_table(bench, reports), *said)
    return Section("dose", "Dose curve of one dimension", text, parts, {**bench.facts(), "dimension": asdict(point)})


def strongest_norms(bench: Bench, count: int) -> list[Point]:
    """The norm dimensions that a scan ranks first.

    Raises:
        UnsupportedModelError: The model has no norm dimensions.
    """
    found = _scan(bench, candidates=256, confirm=8, controls=4, tokens=128, min_ratio=2.0)
    norms = [Point(one["parameter"], int(one["index"])) for one in found["measured"] if one["kind"] == "norm"]
    if not norms:
        raise UnsupportedModelError(
            "A scan measured no norm dimension of this model. Name one: dimensions=name:index."
        )
    return norms[:count]


def named_point(bench: Bench, given: str, axis: int | None = None) -> Point:
    """The dimension that somebody writes as name:index.

    Raises:
        InputError: It is written otherwise, or the model has no such dimension.
    """
    name, colon, index = given.rpartition(":")
    if not colon or not index.isdecimal():
        raise InputError(
            f"A dimension is written name:index, such as model.layers.1.input_layernorm:2100; got {given!r}."
        )
    point = Point(find_weight(bench.model, name).name, int(index), axis)
    point.edit(bench.model, "times", 1.0).restore()  # wrong indices are to be known before anything is measured
    return point


def _scan(bench: Bench, candidates: int, confirm: int, controls: int, tokens: int, min_ratio: float) -> dict[str, Any]:
    options = {"candidates": candidates, "confirm": confirm, "controls": controls, "tokens": tokens, "min": min_ratio}

    def make() -> dict[str, Any]:
        return find_critical_dimensions(
            bench.model,
            bench.tokenizer,
            dict(bench.texts.test),
            core_mask=bench.core(),
            candidates=candidates,
            confirm=confirm,
            controls=controls,
            min_ratio=min_ratio,
            block_size=bench.settings.block_size,
            batch_size=bench.settings.batch_size,
            max_tokens=tokens,
            seed=None,
            progress=bench.progress.is_shown,
        ).to_dict()

    found: dict[str, Any] = bench.kept("scan", options, make)
    return found


def _gain(bench: Bench, point: Point) -> float:
    weight = find_weight(bench.model, point.name)
    return float(weight.parameter.detach()[point.index]) + weight.gain_offset


def _around(bench: Bench, point: Point, controls: int) -> list[Point]:
    """A norm dimension, the same index in the norms of the same kind beside it, and other indices of its own norm."""
    sizes = {name: weight.parameter.numel() for name, weight in bare_weights(bench.model).items()}
    alike = [name for name in sizes if name.split(".")[-2:] == point.name.split(".")[-2:]]
    at = alike.index(point.name)
    beside = [alike[place] for place in (at - 1, at + 1) if 0 <= place < len(alike)]
    same = [Point(name, point.index) for name in beside if sizes[name] == sizes[point.name]]
    return [point, *same, *_others(bench, point, controls)]


def _others(bench: Bench, point: Point, count: int) -> list[Point]:
    """Random other dimensions of the same tensor."""
    weight = find_weight(bench.model, point.name)
    size = weight.parameter.shape[weight.storage_axis(point.axis or 0)]
    others = [one for one in range(size) if one != point.index]
    drawn = random.Random(bench.settings.seed).sample(others, min(count, len(others)))
    return [replace(point, index=one) for one in drawn]


def _edited(bench: Bench, point: Point, kind: str, value: float) -> PerplexityReport:
    """Perplexity with one dimension set to, or multiplied by, a value."""
    settings = {"point": asdict(point), "edit": kind, "value": value}
    return bench.measure(f"{kind} {value:g}", settings, edit=lambda model: point.edit(model, kind, value))


def _said(bench: Bench, point: Point, factor: float, prompt: str, max_new_tokens: int) -> str:
    def make() -> str:
        with point.edit(bench.model, "times", factor):
            return continuation(bench.model, bench.tokenizer, prompt, max_new_tokens)

    settings = {"point": asdict(point), "factor": factor, "prompt": prompt, "new": max_new_tokens}
    return str(bench.kept("said", settings, make)).removeprefix(prompt)


def _drawn(bench: Bench) -> Sequence[str]:
    """A few languages; all of them are in the table."""
    wanted = [code for code in (*bench.core_languages, "en") if code in bench.languages]
    return list(dict.fromkeys([*wanted, *bench.languages]))[:_LINES]


def _dose_table(bench: Bench, reports: Doses) -> Table:
    columns = ("language", *(f"x{factor:g}" for factor in reports))
    rows: list[tuple[Cell, ...]] = [
        (language, *(one.perplexity[language] for one in reports.values())) for language in bench.languages
    ]
    rows.append(("mean", *(one.mean() for one in reports.values())))
    return Table("dose_table", "Perplexity by language and factor", columns, tuple(rows), last_is_total=True)
