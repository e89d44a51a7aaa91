"""The part of CoreRegionSFTTrainer that reports what training consumed of each source."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from trl import SFTTrainer

from hf_langcore.files import replace_json
from hf_langcore.training.consumption import COUNTS_KEY, SOURCE_COLUMN, Consumption, MixtureReport, SourceCollator
from hf_langcore.training.records import MIXTURE_FILE, metrics_of, read_record, record_of, summary_of
from hf_langcore.training.support import last_checkpoint

logger = logging.getLogger(__name__)


class CountingSFTTrainer(SFTTrainer):  # type: ignore[misc]
    """An SFTTrainer that counts rows, tokens and trained tokens of each source of its rows.

    Whoever prepares the rows sets `_consumption` and gives them the column of the source; otherwise nothing is counted.
    """

    data_collator: Any
    _signature_columns: Any
    _consumption: Consumption | None = None
    _settings: dict[str, Any]
    _consumed: tuple[MixtureReport, ...] = ()

    def consumed_mixture(self) -> tuple[MixtureReport, ...]:
        """What training has consumed of each epoch, all processes together.

        With several processes, as of the last checkpoint or the end of training.
        """
        if self._consumption is not None and self.accelerator.num_processes == 1:
            self._consumed = tuple(self._consumption.reports(lambda counts: counts))
        return self._consumed

    def mixture_record(self) -> dict[str, Any] | None:
        """What `mixture.json` holds: totals and epochs as they were consumed; None where nothing is mixed."""
        if self._consumption is None:
            return None
        return record_of(self.consumed_mixture(), self._consumption.names, self._settings)

    def get_train_dataloader(self) -> Any:
        """As in SFTTrainer; of a mixture its batches say how much of each source is in them."""
        if self._consumption is None:
            return super().get_train_dataloader()
        plain = self.data_collator
        self.data_collator = SourceCollator(plain, self._consumption.names)
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = plain

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,  # noqa: FBT001 the signature is the Trainer's
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """As in SFTTrainer. What was consumed is logged, and written to `mixture.json` in the output folder."""
        if self._consumption is not None:
            if resume_from_checkpoint is True:
                resume_from_checkpoint = last_checkpoint(self.args.output_dir)
            self.remove_callback(_EpochCounter)
            checkpoint = Path(resume_from_checkpoint) if isinstance(resume_from_checkpoint, str) else None
            self.add_callback(_EpochCounter(self._consumption, checkpoint))
        return super().train(resume_from_checkpoint, trial=trial, ignore_keys_for_eval=ignore_keys_for_eval)

    def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any) -> torch.Tensor:
        """As in SFTTrainer; a batch is consumed when its step has run."""
        counts = inputs.pop(COUNTS_KEY, None)
        loss: torch.Tensor = super().training_step(model, inputs, *rest)
        if counts is not None and self._consumption is not None:
            self._consumption.add(counts)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in SFTTrainer; the last log of a training run also says what was consumed."""
        if "train_runtime" in logs and self._consumption is not None:
            record = self._gathered_record(self._consumption)
            logs.update(metrics_of(record))
            if self.is_world_process_zero():
                replace_json(Path(self.args.output_dir) / MIXTURE_FILE, record)
                logger.info(summary_of(record))
        super().log(logs, start_time)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if SOURCE_COLUMN not in self._signature_columns:
            self._signature_columns = [*self._signature_columns, SOURCE_COLUMN]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self._consumption is not None:
            record = self._gathered_record(self._consumption)
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            if self.args.should_save and folder.is_dir():
                replace_json(folder / MIXTURE_FILE, record)

    def _gathered_record(self, consumption: Consumption) -> dict[str, Any]:
        """What all processes have consumed; each of them has to call this at the same time."""
        copies = self.get_tp_size()  # processes that share out tensors read the same batches
        reports = consumption.reports(lambda counts: self.accelerator.reduce(counts, "sum") // copies)
        self._consumed = tuple(reports)
        return record_of(reports, consumption.names, self._settings)


class _EpochCounter(TrainerCallback):  # type: ignore[misc]
    """Tells the counts which epoch it is; the first of a resumed run goes on from the counts of its checkpoint."""

    def __init__(self, consumption: Consumption, checkpoint: Path | None) -> None:
        self._consumption = consumption
        self._checkpoint = checkpoint
        self._next = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 the Trainer's
        """Start from nothing, also when the Trainer starts again with smaller batches, or from the checkpoint."""
        has_length = hasattr(getattr(kwargs["train_dataloader"], "sampler", None), "__len__")
        self._next = int(state.epoch or 0) if has_length else 0  # streams are resumed in epoch 0, batches are skipped
        self._consumption.begin(self._next, read_record(self._checkpoint, self._consumption.names))

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002 the Trainer's
        """The next epoch begins."""
        self._consumption.epoch = self._next
        self._next += 1
