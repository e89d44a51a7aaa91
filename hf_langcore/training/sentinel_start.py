"""Where a watched run begins: its record, and the values that drift is measured against, also when it resumes."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.errors import ConfigurationError
from hf_langcore.evaluation import ScoringTask
from hf_langcore.files import replace_file
from hf_langcore.masks import CoreMask
from hf_langcore.training.sentinel_drift import DriftWatch
from hf_langcore.training.sentinel_record import PREFIX, REMEDY, SentinelRecord

START_FILE = "sentinel_start.safetensors"

logger = logging.getLogger(__name__)


def take_up(
    model: nn.Module,
    folder: Path,
    state: Any,
    task: ScoringTask,
    *,
    dimensions: Iterable[Any] | None,
    core_mask: CoreMask | None,
) -> tuple[SentinelRecord, DriftWatch]:
    """The record of a run that resumes, or a new one, and what drift is measured against.

    Args:
        model: The model.
        folder: The output folder.
        state: The Trainer's state, whose log says whether the run was watched before.
        task: The tokenised texts.
        dimensions: See `DriftWatch`.
        core_mask: See `DriftWatch`.

    Raises:
        ConfigurationError: The run was watched before, and its files are missing or of other texts or dimensions.
    """
    if _was_watched(state):
        record = SentinelRecord.read(folder).up_to(state.global_step)
        record.require_texts(task.settings, folder)
        start = read_start(folder)
        return record, DriftWatch(model, dimensions=dimensions, core_mask=core_mask, start=start)
    if state.global_step > 0 and state.is_world_process_zero:
        logger.warning(
            "The run began without a sentinel: its baseline is step %d, where training resumes, and not the model before "
            "training.",
            state.global_step,
        )
    drift = DriftWatch(model, dimensions=dimensions, core_mask=core_mask)
    if state.is_world_process_zero:
        write_start(folder, drift.start_values())
    name = getattr(getattr(unwrap(model), "config", None), "_name_or_path", None)
    return SentinelRecord(settings={**task.settings, "model": name or None}), drift


def write_start(folder: Path, values: Mapping[str, torch.Tensor]) -> None:
    """Write what drift is measured against, all or nothing."""
    tensors = dict(values)
    replace_file(folder / START_FILE, lambda temporary: save_file(tensors, temporary))


def read_start(folder: Path) -> dict[str, torch.Tensor]:
    """Read what drift is measured against.

    Raises:
        ConfigurationError: The file is missing or damaged.
    """
    path = folder / START_FILE
    try:
        found: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(
            f"Training resumes from a checkpoint, but {path} is missing or damaged, so the drift since the run's start "
            f"cannot be told. {REMEDY}"
        ) from error
    return found


def _was_watched(state: Any) -> bool:
    return any(key.startswith(PREFIX) for entry in state.log_history for key in entry)
