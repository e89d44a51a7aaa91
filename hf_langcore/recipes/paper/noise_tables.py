"""The tables of the experiment on noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from hf_langcore.evaluation.language_score import exp_or_inf
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.recipes.paper.noise_text import noisy_block, pieces_of
from hf_langcore.report.parts import Cell, Curves, Spread, Table, Texts

_LISTED = 10
_TOP_SHARE = 0.01
_SHOWN = 300

Condition: TypeAlias = tuple[str, float]


@dataclass(frozen=True, slots=True)
class Run:
    """One run's figures.

    Attributes:
        losses: Language -> loss in nats per token.
        replaced: Number of samples that were noise.
        norms: Norm -> how far training has moved each of its weights, with sign.
    """

    losses: Mapping[str, float]
    replaced: int
    norms: Mapping[str, torch.Tensor]

    @classmethod
    def read(cls, kept: Mapping[str, Any]) -> Run:
        """From the kept JSON values."""
        losses = {code: float(loss) for code, loss in kept["losses"].items()}
        norms = {name: torch.tensor(moved, dtype=torch.float64) for name, moved in kept["norms"].items()}
        return cls(losses, kept["replaced"], norms)

    @property
    def mean_loss(self) -> float:
        """Over languages."""
        return sum(self.losses.values()) / len(self.losses)


Runs: TypeAlias = "Mapping[Condition, Sequence[Run]]"


def effect_table(runs: Runs, base: Mapping[str, float], *, samples: int) -> Table:
    """Perplexity over all languages by condition."""
    clean = _clean(runs)
    before = exp_or_inf(sum(base.values()) / len(base))
    rows: list[tuple[Cell, ...]] = [("before training", None, before, None)]
    for condition, found in runs.items():
        rises = [one.mean_loss - other.mean_loss for one, other in zip(found, clean, strict=True)]
        figures = [exp_or_inf(one.mean_loss) for one in found]
        rows.append((_words(condition), found[0].replaced, _spread(figures), _spread(rises)))
    return Table(
        name="effect",
        title="Perplexity after training with noise (geometric mean over all languages)",
        columns=(
            "training text",
            f"noisy samples of {samples:,}",
            "perplexity",
            "loss above the clean run, nats per token",
        ),
        rows=tuple(rows),
        note="Mean, smallest and largest over the seeds; each noisy run is compared with the clean run of its own seed.",
    )


def effect_curves(runs: Runs, base: Mapping[str, float]) -> Curves:
    """Perplexity over the share of noise."""
    shares = sorted({share for _, share in runs})
    kinds = dict.fromkeys(kind for kind, share in runs if share)

    def figure(kind: str, share: float) -> float | None:
        found = runs.get((kind, share)) if share else _clean(runs)
        return exp_or_inf(sum(one.mean_loss for one in found) / len(found)) if found else None

    return Curves(
        name="shares",
        title="Perplexity by share of noise (geometric mean over all languages)",
        x_label="noise, % of the samples",
        y_label="perplexity",
        x=tuple(100 * share for share in shares),
        lines={kind: tuple(figure(kind, share) for share in shares) for kind in kinds},
        x_scale="symlog",
        y_scale="log",
        level=exp_or_inf(sum(base.values()) / len(base)),
        note="The level is the model before training.",
    )


def language_table(runs: Runs, base: Mapping[str, float]) -> Table:
    """Perplexity in every language by condition."""
    names = [_words(condition) for condition in runs]
    rows = tuple(
        (
            code,
            exp_or_inf(loss),
            *(_spread([exp_or_inf(one.losses[code]) for one in found]) for found in runs.values()),
        )
        for code, loss in base.items()
    )
    return Table(
        name="languages",
        title="Perplexity in every language",
        columns=("language", "before", *names),
        rows=rows,
        log_bars=(names[0], names[-1]),
    )


def rank_table(runs: Runs, core: Mapping[str, torch.Tensor]) -> Table:
    """How far the norms moved, how few dimensions have it, and where the core's are among them."""
    rows: list[tuple[Cell, ...]] = []
    clean = _clean(runs)
    if len(clean) > 1:
        pairs = [_difference(one, other) for one, other in itertools.combinations(clean, 2)]
        rows.append(("clean run, other seed (control)", *_columns(pairs, core, clean)))
    for condition, found in runs.items():
        if condition[1]:
            shifts = [_difference(one, other) for one, other in zip(found, clean, strict=True)]
            rows.append((_words(condition), *_columns(shifts, core, clean)))
    rows.append(("clean run, from before training", *_columns([one.norms for one in clean], core, clean)))
    beyond = "The noise's own part is what exceeds the control in the first row. " if len(clean) > 1 else ""
    return Table(
        name="norm_shift",
        title="Shift of the norms' weights against the clean run",
        columns=(
            "run",
            "length of the shift / length of the clean run's own change",
            "share of the squared shift in the 1 % most shifted dimensions",
            "rank of the core's dimensions (0.5 is chance)",
        ),
        rows=tuple(rows),
        note=f"{beyond}Evenly spread normal shifts would have about 8 % of the squared shift in the most shifted 1 %.",
    )


def dimension_table(runs: Runs, core: Mapping[str, torch.Tensor]) -> Table:
    """The dimensions that the strongest noise of the first kind shifts most, beside what the controls do to them."""
    clean = _clean(runs)
    condition = max((one for one in runs if one[0] == _first_kind(runs)), key=lambda one: one[1])
    shift = _mean_size([_difference(one, other) for one, other in zip(runs[condition], clean, strict=True)])
    seeds = [_difference(one, other) for one, other in itertools.combinations(clean, 2)]
    control, own = _mean_size(seeds) if seeds else None, _mean_size([one.norms for one in clean])
    ranked = sorted(
        ((float(size), name, index) for name, sizes in shift.items() for index, size in enumerate(sizes)), reverse=True
    )
    rows = tuple(
        (
            f"{name.removesuffix('.weight')} [{index}]",
            size,
            None if control is None else float(control[name][index]),
            float(own[name][index]),
            "yes" if bool(core[name][index]) else "no",
        )
        for size, name, index in ranked[:_LISTED]
    )
    return Table(
        name="dimensions",
        title=f"The norm dimensions that are shifted most: {_words(condition)}",
        columns=(
            "norm [dimension]",
            "shift by the noise",
            "difference of clean runs",
            "change of the clean run",
            "core",
        ),
        rows=rows,
        note="Sizes of changes of the weight, means over the seeds. These are the largest of "
        f"{len(ranked):,}: some are large by chance, which the controls beside them tell.",
    )


def example_texts(bench: Bench, kinds: Sequence[str], languages: Sequence[str], *, block_size: int) -> Texts:
    """One noisy sample of each kind."""
    language = languages[0]
    shown = {
        kind: pieces_of(bench.tokenizer, noisy_block(bench, kind, language, block_size=block_size, seed=f"0/{kind}/0"))
        for kind in kinds
    }
    return Texts(
        name="examples",
        title=f"What a noisy sample looks like, {language}",
        prompt="",
        texts={kind: text[:_SHOWN] for kind, text in shown.items()},
    )


def core_rank(shift: Mapping[str, torch.Tensor], core: Mapping[str, torch.Tensor]) -> float | None:
    """Mean rank of the core's dimensions by size of shift, each in its own norm: 0 the least, 1 the most; None without any.

    Equal shifts share their mean rank, so that a model that does not move gives 0.5.
    """
    ranks: list[float] = []
    for name, inside in core.items():
        sizes = shift[name].abs()
        if len(sizes) > 1:
            below = (sizes[inside][:, None] > sizes[None]).sum(dim=1)
            equal = (sizes[inside][:, None] == sizes[None]).sum(dim=1) - 1
            ranks += ((below + equal / 2) / (len(sizes) - 1)).tolist()
    return sum(ranks) / len(ranks) if ranks else None


def _columns(
    shifts: Sequence[Mapping[str, torch.Tensor]], core: Mapping[str, torch.Tensor], clean: Sequence[Run]
) -> tuple[Cell, ...]:
    length = sum(_length(one.norms) for one in clean) / len(clean)
    ranks = [rank for shift in shifts if (rank := core_rank(shift, core)) is not None]
    return (
        _spread([_length(shift) / length for shift in shifts]) if length else None,
        _spread([_concentration(shift) for shift in shifts]),
        _spread(ranks) if ranks else None,
    )


def _concentration(shift: Mapping[str, torch.Tensor]) -> float:
    squared = torch.cat([one.square() for one in shift.values()])
    top = max(1, round(_TOP_SHARE * len(squared)))
    whole = float(squared.sum())
    return float(squared.topk(top).values.sum()) / whole if whole else 0.0


def _length(shift: Mapping[str, torch.Tensor]) -> float:
    return float(torch.cat(list(shift.values())).norm())


def _difference(one: Run, other: Run) -> dict[str, torch.Tensor]:
    return {name: moved - other.norms[name] for name, moved in one.norms.items()}


def _mean_size(shifts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([one[name].abs() for one in shifts]).mean(dim=0) for name in shifts[0]}


def _clean(runs: Runs) -> Sequence[Run]:
    return next(found for (_, share), found in runs.items() if not share)


def _first_kind(runs: Runs) -> str:
    return next(kind for kind, share in runs if share)


def _words(condition: Condition) -> str:
    kind, share = condition
    return f"{kind}, {100 * share:g} %" if share else kind


def _spread(figures: Sequence[float]) -> Cell:
    if len(figures) == 1:
        return figures[0]
    return Spread(sum(figures) / len(figures), min(figures), max(figures))
