"""LanguageSentinel: watches the languages while training runs, and acts when one of them gets lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from torch import nn
from transformers import TrainerCallback

from hf_langcore.data import DEFAULT_BLOCK_SIZE, Corpora, corpora_from_folder, require_corpora
from hf_langcore.errors import ConfigurationError, InputError
from hf_langcore.evaluation import PerplexityReport, ScoringTask
from hf_langcore.files import replace_text
from hf_langcore.masks import CoreMask
from hf_langcore.training.sentinel_breaches import AfterRevert, Breach, LimitOn, Limits, OnBreach
from hf_langcore.training.sentinel_measuring import prepare_texts
from hf_langcore.training.sentinel_record import Measurement, SentinelRecord
from hf_langcore.training.sentinel_start import take_up
from hf_langcore.training.sentinel_state import require_learning_rate
from hf_langcore.training.sentinel_training import (
    calling_handler,
    require_supported,
    tokenizer_of,
    warn_of_repeated_small_set,
)
from hf_langcore.training.sentinel_watch import Options, Training, Watch


class LanguageSentinel(TrainerCallback):  # type: ignore[misc]
    """Measures held-out text of each language while any transformers Trainer trains, and acts on a breach.

    Before the first step, every `every` steps and at the end it measures perplexity per language and how far critical
    dimensions have moved. The figures go to the Trainer's trackers and into `trainer.state.log_history` as
    `sentinel/ppl_<language>`, `sentinel/ppl_mean`, `sentinel/worst_ratio`, `sentinel/drift_max`, with a core mask
    `sentinel/core_moved` and `sentinel/core_l2`, and `sentinel/seconds`. Everything also goes to `sentinel.json` in the
    output folder, from which a resumed run takes the baseline. Add it after callbacks that change weights.

    A sentinel that only watches does not change training by a bit: flags and random states are put back.

    A breach is a perplexity above `limit` times its baseline, a watched dimension that moved by more than
    `drift_limit`, or a logged loss or gradient norm that is not finite. What follows is `on_breach`:

    - "warn": one warning per language and level (limit, limit squared, ...);
    - "stop": training ends after the step, and `stopped_because` says why;
    - "revert": all trained parameters go back, bit for bit, to the last measurement without a breach, and what the
      optimizer has gathered (momentum, second moments) is dropped; then training ends, or goes on with a lower
      learning rate. Steps, data and schedule are not wound back. A frozen core stays what it is.

    The last good state takes as much memory on the CPU, or space in `snapshot_dir`, as the trained parameters do in their
    dtype: 2 bytes for each of them in bf16, 4 in float32; of adapters only their own weights. Nothing is kept
    unless `on_breach="revert"`. Of sharded models (FSDP2) each process keeps its shard.

    Args:
        corpora: Language -> held-out texts; see `hf_langcore.data.corpora`.
        tokenizer: The tokenizer; the Trainer's if None.
        every: Optimizer steps between measurements (int), or a fraction of an epoch (float below 1).
        limit: How many times its baseline a perplexity may be.
        limit_on: "language": any language counts; "mean": only the geometric mean over languages.
        drift_limit: How far a watched dimension may move relative to its start, 0.1 = 10 %; None for any distance.
        on_breach: "warn", "stop" or "revert".
        after_revert: "stop" or "continue".
        learning_rate_factor: What the learning rate is multiplied by when training goes on after a revert.
        max_reverts: After so many reverts training stops at the next breach, having gone back once more.
        dimensions: What is watched: (name, index), (name, index, axis), or what `find_critical_dimensions` or
            `CoreMask.dimensions` give; None watches the 64 strongest of the core mask, or else all norm weights.
        core_mask: A core, or its folder, whose drift is measured.
        snapshot_dir: Folder for the last good state; None keeps it in memory.
        block_size: Tokens per window.
        batch_size: Windows per forward pass.
        max_tokens: At most so many scored tokens per language. A measurement costs about a third of a training step over
            as many tokens as all languages have together.
        seed: Shuffles the documents; None keeps their order.
        bos_token_id: Start token for tokenizers that have neither BOS nor EOS.
        text_column: Column of data sets, `.jsonl` and `.parquet` files.

    Raises:
        InputError: An option is out of range.
        CorpusError: `corpora` is no mapping; or, before the first step, the tokenizer cannot encode a text.
        ConfigurationError: Before the first step: there is no tokenizer, or the files of a resumed run are missing.
        UnsupportedModelError: Before the first step: FSDP version 1, or "revert" with DeepSpeed.
        NonFiniteError: Before the first step: a baseline is not finite.
    """

    def __init__(
        self,
        corpora: Corpora,
        *,
        tokenizer: Any = None,
        every: float = 100,
        limit: float = 1.2,
        limit_on: LimitOn = "language",
        drift_limit: float | None = None,
        on_breach: OnBreach = "warn",
        after_revert: AfterRevert = "stop",
        learning_rate_factor: float = 0.5,
        max_reverts: int = 3,
        dimensions: Iterable[Any] | None = None,
        core_mask: CoreMask | str | Path | None = None,
        snapshot_dir: str | Path | None = None,
        block_size: int = DEFAULT_BLOCK_SIZE,
        batch_size: int | Literal["auto"] = "auto",
        max_tokens: int | None = 512,
        seed: int | None = None,
        bos_token_id: int | None = None,
        text_column: str = "text",
    ) -> None:
        self._corpora = require_corpora(corpora)
        self._tokenizer = tokenizer
        self._options = Options(
            every=every,
            limits=Limits(limit, limit_on, drift_limit),
            on_breach=on_breach,
            after_revert=after_revert,
            learning_rate_factor=learning_rate_factor,
            max_reverts=max_reverts,
            batch_size=batch_size,
            snapshot_dir=None if snapshot_dir is None else Path(snapshot_dir),
        )
        self._reading: dict[str, Any] = {
            "block_size": block_size,
            "max_tokens": max_tokens,
            "seed": seed,
            "bos_token_id": bos_token_id,
            "text_column": text_column,
        }
        self._dimensions = None if dimensions is None else list(dimensions)
        self._core_mask = _loaded(core_mask)
        self._task: ScoringTask | None = None
        self._is_protected = False
        self._record = SentinelRecord()
        self._watch: Watch | None = None

    @property
    def breaches(self) -> list[Breach]:
        """What passed a limit, in order."""
        return list(self._record.breaches)

    @property
    def measurements(self) -> list[Measurement]:
        """What was measured, in order; the first is the baseline."""
        return list(self._record.measurements)

    @property
    def stopped_because(self) -> str | None:
        """Why the sentinel ended training, or None."""
        return self._record.stopped_because

    @property
    def time_share(self) -> float:
        """Share of the training's wall time that measuring took."""
        return self._record.time_share

    def report(self) -> PerplexityReport:
        """Perplexity as a table, language x step; "step 0" is the baseline.

        Raises:
            ConfigurationError: Nothing was measured yet.
        """
        return self._record.report()

    def to_json(self, path: str | Path | None = None) -> str:
        """Everything that was seen as JSON text, as in `sentinel.json`; also written to `path` where one is given."""
        text = self._record.to_json()
        if path is not None:
            replace_text(Path(path), text)
        return text

    def attach(self, trainer: Any, *, is_protected: bool = False) -> None:
        """Read and check the texts with a Trainer's model and tokenizer before it trains.

        Without this they are read when training begins.

        Args:
            trainer: A Trainer.
            is_protected: Whether it protects what the model knew in a way that no callback shows, such as general data.
        """
        self._is_protected = is_protected
        self._prepared(trainer.model, trainer.processing_class)

    def on_train_begin(
        self,
        args: Any,
        state: Any,
        control: Any,
        *,
        model: nn.Module,
        processing_class: Any = None,
        optimizer: Any = None,
        lr_scheduler: Any = None,
        train_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """Check everything, measure the baseline and keep the first good state."""
        options, handler = self._options, calling_handler()
        require_supported(model, args, reverts=options.on_breach == "revert")
        if options.on_breach == "revert" and options.after_revert == "continue":
            require_learning_rate(optimizer)
        task = self._prepared(model, processing_class)
        self._record, drift = take_up(
            model, Path(args.output_dir), state, task, dimensions=self._dimensions, core_mask=self._core_mask
        )
        warn_of_repeated_small_set(
            model, args, state, train_dataloader, getattr(handler, "callbacks", ()), is_protected=self._is_protected
        )
        training = Training(args, model, optimizer, lr_scheduler, handler)
        self._watch = Watch(options, training, task=task, drift=drift, record=self._record)
        self._watch.begin(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 the Trainer passes it
        """Measure when it is time, and after the last step."""
        watch = self._watching()
        if state.global_step >= state.max_steps or control.should_training_stop or watch.is_time(state):
            watch.look(state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 the Trainer passes it
        """Measure where training was ended by something that came after the step, while the trackers still listen."""
        watch = self._watching()
        if control.should_training_stop and not watch.has_looked_at(state.global_step):
            watch.look(state, control)

    def on_log(self, args: Any, state: Any, control: Any, *, logs: Mapping[str, Any] | None = None, **_: Any) -> None:  # noqa: ARG002 the Trainer passes it
        """Look out for a loss that is no finite number."""
        if self._watch is not None and self._record.measurements:
            self._watch.hear(logs or {}, state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002 the Trainer passes it
        """Write down the rest."""
        self._watching().end(state)

    def _prepared(self, model: nn.Module, processing_class: Any) -> ScoringTask:
        if self._task is None:
            tokenizer = self._tokenizer if self._tokenizer is not None else tokenizer_of(processing_class)
            self._task = prepare_texts(model, tokenizer, self._corpora, **self._reading)
        return self._task

    def _watching(self) -> Watch:
        if self._watch is None:
            raise ConfigurationError(
                "LanguageSentinel was added while training was running, so there is no baseline. Pass it in "
                "Trainer(callbacks=[...]) or call trainer.add_callback before trainer.train."
            )
        return self._watch


def as_sentinel(
    value: Any,
    *,
    tokenizer: Any = None,
    core_mask: CoreMask | None = None,
    every: float = 100,
    limit: float = 1.2,
    on_breach: OnBreach = "warn",
) -> LanguageSentinel | None:
    """A sentinel from what a trainer takes as its `sentinel` argument.

    Args:
        value: A sentinel, a mapping from language to texts, a folder with one text file per language, or None.
        tokenizer: The tokenizer of a new sentinel; the Trainer's if None.
        core_mask: The core whose drift a new sentinel measures.
        every: Of a new sentinel.
        limit: Of a new sentinel.
        on_breach: Of a new sentinel.

    Raises:
        InputError: It is none of these.
        CorpusError: The folder is missing or has no texts.
    """
    if value is None or isinstance(value, LanguageSentinel):
        return value
    if isinstance(value, (str, Path)):
        value = corpora_from_folder(value)
    if not isinstance(value, Mapping):
        raise InputError(
            "sentinel must be a LanguageSentinel, a mapping from language codes to held-out texts, or a folder with one "
            f"text file per language; got {type(value).__name__}."
        )
    return LanguageSentinel(
        value, tokenizer=tokenizer, core_mask=core_mask, every=every, limit=limit, on_breach=on_breach
    )


def sentinel_of(value: Any, args: Any, *, core_mask: CoreMask | None) -> LanguageSentinel | None:
    """The sentinel that a trainer's argument or its configuration names; the argument wins.

    Args:
        value: The argument.
        args: A CoreRegionSFTConfig, or plainer arguments, which name none.
        core_mask: The core whose drift a new sentinel measures.

    Raises:
        InputError: It is no sentinel, or one of its options is out of range.
        CorpusError: The folder is missing or has no texts.
    """
    every = getattr(args, "sentinel_every", 100)
    return as_sentinel(
        value if value is not None else getattr(args, "sentinel", None),
        core_mask=core_mask,
        every=int(every) if every == int(every) else every,  # a number of steps, which a parser reads as a float
        limit=getattr(args, "sentinel_limit", 1.2),
        on_breach=getattr(args, "sentinel_on_breach", "warn"),
    )


def _loaded(core_mask: CoreMask | str | Path | None) -> CoreMask | None:
    return CoreMask.from_pretrained(core_mask) if isinstance(core_mask, (str, Path)) else core_mask
