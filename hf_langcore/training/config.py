"""CoreRegionSFTConfig: TRL's SFTConfig with the core and the general data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import get_args

from trl import SFTConfig

from hf_langcore.binding import BaseCheck
from hf_langcore.data.mixture import check_mixture
from hf_langcore.errors import InputError


@dataclass
class CoreRegionSFTConfig(SFTConfig):  # type: ignore[misc]
    """Everything that SFTConfig takes, and what protects the core.

    The fields are numbers and strings, so that a YAML file can say everything; the arguments of
    `CoreRegionSFTTrainer` with the same names override them. The defaults of TRL stay: bf16 and gradient
    checkpointing are on, so set `bf16=False` (and `use_cpu=True`) where they cannot be used.

    Attributes:
        core_mask: Folder of the core mask that is kept unchanged in full fine-tuning.
        base_check: "error", "warn" or "off": what to do when the mask was found on other weights.
        general_dataset: File (.jsonl, .json, .csv, .parquet, .txt), folder of `save_to_disk`, or
            "repo:config:split" on the Hub; rows that are mixed into the task's.
        general_data_ratio: How many times as much general data as task data in every epoch.
        general_data_by: What the ratio counts, "rows" or "tokens".

    Raises:
        InputError: One of these fields is out of range.
    """

    core_mask: str | None = field(
        default=None, metadata={"help": "Folder of the core mask that full fine-tuning leaves unchanged."}
    )
    base_check: str = field(
        default="error",
        metadata={"help": "What to do when the core mask was found on other weights: error, warn or off."},
    )
    general_dataset: str | None = field(
        default=None,
        metadata={"help": "General data to mix in: a file, a folder of save_to_disk, or repo:config:split."},
    )
    general_data_ratio: float = field(
        default=5.0, metadata={"help": "How many times as much general data as task data in every epoch."}
    )
    general_data_by: str = field(default="rows", metadata={"help": "What general_data_ratio counts: rows or tokens."})

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mixture(ratio=self.general_data_ratio, by=self.general_data_by)
        if self.base_check not in get_args(BaseCheck):
            raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {self.base_check!r}.")
