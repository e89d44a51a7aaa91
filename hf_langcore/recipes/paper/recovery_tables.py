"""The tables and curves of the experiment on recovery."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hf_langcore.evaluation.language_score import exp_or_inf
from hf_langcore.report.parts import Cell, Curves, Table

Losses = Mapping[str, Mapping[str, Any]]
"""Text ("test" or "generated") -> language -> loss in nats per token."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """One arm's figures.

    Attributes:
        losses: Number of samples -> losses after them.
        region: Number of weights of the region that was broken.
        changed: Number of weights whose bits changed in training: in the "region", and "elsewhere" in its tensors.
    """

    losses: Mapping[int, Losses]
    region: int
    changed: Mapping[str, int]

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Recovered:
        """From the kept JSON values."""
        losses = {int(samples): each for samples, each in kept["losses"].items()}
        return cls(losses, kept["region"], kept["changed"])


def curves(
    found: Mapping[str, Recovered], base: Losses, counts: Sequence[int], *, language: str, source: str
) -> list[Curves]:
    """Perplexity over samples: the trained language on each text, and the mean of the others."""
    drawn = [
        _curves(f"{slug(source)}_{text}", f"{language} on its {_of(text)}, trained on {source}", counts)(
            {arm: tuple(own(one.losses[at], text, language) for at in counts) for arm, one in found.items()},
            own(base, text, language),
        )
        for text in base
    ]
    if len(base["test"]) > 1:
        title = f"All other languages (geometric mean), trained on {source} in {language} alone"
        lines = {arm: tuple(others(one.losses[at], language) for at in counts) for arm, one in found.items()}
        drawn.append(_curves(f"{slug(source)}_others", title, counts)(lines, others(base, language)))
    return drawn


def _curves(name: str, title: str, counts: Sequence[int]) -> Any:
    def make(lines: Mapping[str, tuple[float | None, ...]], level: float) -> Curves:
        return Curves(
            name=name,
            title=title,
            x_label="samples",
            y_label="perplexity",
            x=tuple(map(float, counts)),
            lines=lines,
            x_scale="symlog",
            y_scale="log",
            level=level,
            note="The level is the model as it was published.",
        )

    return make


def sample_table(
    found: Mapping[str, Recovered], base: Losses, counts: Sequence[int], *, language: str, source: str
) -> Table:
    """The slides' table: samples down, arms across."""
    columns = ["samples"]
    for arm in found:
        columns += [f"{arm}: {language}, {_of(text)}" for text in base] + [f"{arm}: others"]
    rows: list[tuple[Any, ...]] = [("before breaking", *_figures([base] * len(found), base, language))]
    rows += [
        (f"{samples:,}", *_figures([one.losses[samples] for one in found.values()], base, language))
        for samples in counts
    ]
    return Table(
        name=f"{slug(source)}_samples",
        title=f"Perplexity by number of samples, trained on {source} in {language}",
        columns=tuple(columns),
        rows=tuple(rows),
        note="Others: the geometric mean of the perplexities in all other languages, on their test text.",
    )


def arm_table(arm: str, one: Recovered, base: Losses, counts: Sequence[int], *, source: str) -> Table:
    """One arm in every language."""
    names = [f"{samples:,}" for samples in counts]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (code, own(base, "test", code), *(own(one.losses[samples], "test", code) for samples in counts))
        for code in base["test"]
    )
    return Table(
        name=f"{slug(source)}_{slug(arm)}",
        title=f"{arm[0].upper()}{arm[1:]}: perplexity in every language by number of samples, {source}",
        columns=("language", "before breaking", *names),
        rows=rows,
        log_bars=tuple(dict.fromkeys((names[0], names[-1]))),
    )


def bits_table(found: Mapping[str, Recovered], *, source: str) -> Table:
    """Whether what was frozen stayed."""
    rows = tuple((arm, one.region, one.changed["region"], one.changed["elsewhere"]) for arm, one in found.items())
    return Table(
        name=f"{slug(source)}_bits",
        title=f"Weights whose bits changed in training, {source}",
        columns=("run", "weights of the region", "changed in the region", "changed elsewhere"),
        rows=rows,
        note="Counted from the broken values to those after training.",
    )


def own(losses: Losses, text: str, language: str) -> float:
    """Perplexity in one language."""
    return exp_or_inf(float(losses[text][language]))


def others(losses: Losses, language: str) -> float:
    """Geometric mean of the perplexities in all other languages."""
    rest = [float(loss) for code, loss in losses["test"].items() if code != language]
    return exp_or_inf(sum(rest) / len(rest))


def slug(words: str) -> str:
    """A name for files and anchors."""
    return "_".join(re.findall(r"\w+", words))


def _figures(all_losses: Sequence[Losses], base: Losses, language: str) -> list[float | None]:
    cells: list[float | None] = []
    for losses in all_losses:
        cells += [own(losses, text, language) for text in base]
        cells.append(others(losses, language) if len(base["test"]) > 1 else None)
    return cells


def _of(text: str) -> str:
    return {"test": "test text", "generated": "generated held-out text"}[text]
