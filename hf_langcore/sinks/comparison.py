"""Sink or language? How much of a core's explosion is the constant that attention sinks are made of.

Zeroing a core also breaks the massive activations (see `massive`), and without these many models break whatever the text. So the same
core is zeroed without the weights that meet the massive dimensions, with the massive activations held at what they were,
set to a mean instead of zero, and replaced by masks that share its magnitudes, its rows and columns, or both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.binding import bind
from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora, require_decoder_only
from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.evaluation import ScoringTask, prepare_scoring
from hf_langcore.evaluation.circumstances import circumstances
from hf_langcore.masks import CoreMask
from hf_langcore.masks.matched import (
    MatchedMask,
)
from hf_langcore.scanning.losses import WindowLosses, measure
from hf_langcore.scanning.statistics import require_enough_text
from hf_langcore.sinks import rows as names
from hf_langcore.sinks.conditions import NEED_SINK, Opened, controls_of, edits_of, find_sink, why_nothing
from hf_langcore.sinks.massive import (
    RATIO,
    MassiveActivation,
    find_massive_activations,
)
from hf_langcore.sinks.result import SinkTest
from hf_langcore.sinks.rows import Keep, SinkRow, row_of, row_of_seeds


def sink_or_language(
    model: nn.Module,
    tokenizer: Any,
    corpora: Corpora,
    core_mask: CoreMask,
    *,
    dimensions: Sequence[int] | None = None,
    seeds: int = 3,
    ratio: float = RATIO,
    magnitude: float = 0.0,
    block_size: int = DEFAULT_BLOCK_SIZE,
    batch_size: int | Literal["auto"] = "auto",
    max_tokens: int | None = 2048,
    seed: int | None = None,
    bos_token_id: int | None = None,
    text_column: str = "text",
    base_check: Literal["error", "warn", "off"] = "error",
) -> SinkTest:
    """Test how much of a core's explosion hangs on massive activations, on magnitudes and on the core's profile.

    Args:
        model: A causal LM, bare or wrapped; every bit of it is restored.
        tokenizer: Any callable with transformers' tokenizer interface.
        corpora: Language -> texts.
        core_mask: The core, or any other mask.
        dimensions: Dimensions of the residual stream that count as the sink; those with massive activations if None. Where
            none of those given is massive, their activations are zeroed and held at all tokens behind all layers.
        seeds: How often each control is drawn.
        ratio: As in `find_massive_activations`.
        magnitude: As in `find_massive_activations`.
        block_size: Tokens per window.
        batch_size: Windows per forward pass.
        max_tokens: At most so many scored tokens per language.
        seed: Shuffles the documents; None keeps their order.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.
        base_check: As in `perturb`.

    Returns:
        One table; `print` it with rich, `.verdicts()` says in words what its intervals show.

    Raises:
        CorpusError: A text is missing, or too short to tell.
        CoreMaskMismatchError: The mask does not fit the model.
        InputError: A dimension is out of range, or `seeds` is below 1.
    """
    if not isinstance(core_mask, CoreMask):
        raise InputError(
            f"core_mask is a CoreMask, got {core_mask!r:.80}. Load it with CoreMask.from_pretrained(...)."
        )
    require_decoder_only(unwrap(model), "The comparison of sinks and language")
    task = prepare_scoring(
        model,
        tokenizer,
        corpora,
        block_size=block_size,
        max_tokens=max_tokens,
        seed=seed,
        bos_token_id=bos_token_id,
        text_column=text_column,
    )
    return run_sink_test(
        model,
        task,
        core_mask,
        dimensions=dimensions,
        seeds=seeds,
        ratio=ratio,
        magnitude=magnitude,
        batch_size=batch_size,
        base_check=base_check,
    )


def run_sink_test(
    model: nn.Module,
    task: ScoringTask,
    core_mask: CoreMask,
    *,
    dimensions: Sequence[int] | None = None,
    seeds: int = 3,
    ratio: float = RATIO,
    magnitude: float = 0.0,
    batch_size: int | Literal["auto"] = "auto",
    base_check: Literal["error", "warn", "off"] = "error",
    massive: Sequence[MassiveActivation] | None = None,
    keep: Keep | None = None,
) -> SinkTest:
    """The same on prepared texts.

    Args:
        model: As in `sink_or_language`.
        task: From `prepare_scoring`.
        core_mask: As in `sink_or_language`.
        dimensions: As in `sink_or_language`.
        seeds: As in `sink_or_language`.
        ratio: As in `sink_or_language`.
        magnitude: As in `sink_or_language`.
        batch_size: Windows per forward pass.
        base_check: As in `perturb`.
        massive: What `find_massive_activations` found on this task with these thresholds; looked for if None.
        keep: Gives the losses of a condition by its name: measures them, or reads what an earlier run has kept.
    """
    if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
        raise InputError(f"seeds is the number of draws of each control, at least 1, got {seeds!r}.")
    bind(model, core_mask, base_check=base_check)  # wrong masks are to be known before anything is measured
    opened = partial(perturb, model, base_check=base_check)
    kept = keep or (lambda _name, make: make())

    def losses_of(condition: str, edit: Opened = nullcontext) -> WindowLosses:
        def make() -> WindowLosses:
            with edit():
                return measure(model, task, batch_size=batch_size)

        return kept(condition, make)

    base = losses_of(names.BASE)
    require_enough_text(base)
    if massive is None:
        massive = find_massive_activations(model, task, ratio=ratio, magnitude=magnitude, batch_size=batch_size)
    sink = find_sink(model, task, core_mask, massive, dimensions, (ratio, magnitude, batch_size))
    core = losses_of(names.CORE, lambda: opened(core_mask))
    edits = edits_of(model, core_mask, sink, opened)
    missing = "" if sink is not None else why_nothing(model, task, ratio, batch_size)
    rows = [
        row_of(names.BASE, 0, base, core, base),
        row_of(names.CORE, core_mask.count(), base, core, core),
        *(row_of(name, weights, base, core, losses_of(name, edit)) for name, (weights, edit) in edits.items()),
        *(SinkRow(name, missing=missing) for name in NEED_SINK if name not in edits),
    ]
    drawn = {name: [draw(number) for number in range(seeds)] for name, draw in controls_of(model, core_mask).items()}
    rows += _control_rows(core_mask, drawn, base, core, lambda name, mask: losses_of(name, partial(opened, mask)))
    return SinkTest(
        tuple(sorted(rows, key=lambda row: _ORDER.index(row.condition))),
        () if sink is None else sink.dimensions,
        "massive" if sink is None else sink.positions,
        tuple(massive),
        _facts(model, task, core_mask, {"seeds": seeds, "ratio": ratio, "magnitude": magnitude}),
    )


_ORDER = (
    names.BASE, names.CORE, names.WITHOUT, names.ONLY, names.HELD, names.ACTIVATIONS_ZERO, names.ACTIVATIONS_MEAN,
    names.CORE_MEAN, names.PART_MEAN, *names.CONTROLS, names.OUTSIDE,
)  # fmt: skip


def _control_rows(
    core_mask: CoreMask,
    drawn: Mapping[str, Sequence[MatchedMask]],
    base: WindowLosses,
    core: WindowLosses,
    losses_of: Callable[[str, CoreMask], WindowLosses],
) -> list[SinkRow]:
    masks = {name: [one.core_mask for one in controls] for name, controls in drawn.items()}
    masks[names.OUTSIDE] = [mask - core_mask for mask in masks[names.BOTH]]
    rows = []
    for name, several in masks.items():
        losses = [losses_of(f"{name}, seed {number}", mask) for number, mask in enumerate(several)]
        weights = round(_mean(mask.count() for mask in several))
        row = row_of_seeds(name, weights, base, core, losses)
        controls = drawn.get(name)
        rows.append(
            replace(
                row,
                overlap=_mean(one.overlap for one in controls) if controls else 0.0,
                displaced=_mean(one.displaced_share for one in controls) if controls else None,
            )
        )
    return rows


def _mean(values: Iterable[float]) -> float:
    several = list(values)
    return sum(several) / len(several)


def _facts(model: nn.Module, task: ScoringTask, core_mask: CoreMask, own: Mapping[str, Any]) -> dict[str, Any]:
    mask = {"core_mask": core_mask.provenance.summary(), "core_mask_sha256": core_mask.digest()}
    return {**task.settings, **circumstances(model), "tokens": task.num_tokens, **mask, **own}
