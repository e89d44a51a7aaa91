"""CoreRegionSFTConfig: TRL's SFTConfig with the core and the general data."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, get_args

from trl import SFTConfig

from hf_langcore.binding import BaseCheck
from hf_langcore.errors import InputError
from hf_langcore.training.general import check_general
from hf_langcore.training.memory import check_on_out_of_memory
from hf_langcore.training.protection import check_protection


@dataclass
class CoreRegionSFTConfig(SFTConfig):  # type: ignore[misc]
    """Everything that SFTConfig takes, and what protects the core.

    The fields are numbers and strings, so that a YAML file can say everything; the arguments of
    `CoreRegionSFTTrainer` with the same names override them. The defaults of TRL stay: bf16 and gradient
    checkpointing are on, so set `bf16=False` (and `use_cpu=True`) where they cannot be used.

    Attributes:
        core_mask: Folder or Hub repository of the core mask that is kept unchanged in full fine-tuning.
        core_mask_revision: Branch, tag or commit of that repository.
        base_check: "error", "warn" or "off": what to do when the mask was found on other weights.
        protection: "freeze": a core mask is frozen. "anchor": after each step all weights are also pulled towards the base;
            works with and without a core mask. "none": nothing is protected, whatever the mask is given for.
        anchor_strength: The share of the distance to the base that an anchor takes back in each step at the highest
            learning rate, from 0 to 1.
        anchor_importance: Folder of importance scores; the pull on each weight is in proportion to its score.
        anchor_base: Name or folder of the model that weights are pulled to, where it is not the one that training begins with.
        mask_gradients: Zero the core's gradients before clipping, so that clipping, Muon and Adafactor know nothing of it.
        core_damage: "zero", "noise", "shuffle", "mean" or "reinit": damage the core before training, to see whether it
            recovers; frozen, or free with `protection="none"`.
        sentinel: Folder with one file of held-out text per language; see `LanguageSentinel`.
        sentinel_every: Optimizer steps between two looks, or a fraction of an epoch.
        sentinel_limit: How many times its baseline the perplexity of a language may be.
        sentinel_on_breach: "warn", "stop" or "revert".
        general_dataset: File (.jsonl, .json, .csv, .parquet, .txt), folder of `save_to_disk`, or
            "repo:config:split" on the Hub; rows that are mixed into the task's. Several sources as a list or by name;
            the field holds them as a list, of "name=source" where they have names.
        general_data_ratio: How many times as much general data, of all sources, as task data in every epoch.
        general_data_by: What the ratio counts, "rows" or "tokens".
        general_data_weights: How the sources share the general data, in their order; equally if not given.
        self_replay_rows: So many texts, written by the model itself before training, are a further source, the last
            one, called "self-replay".
        self_replay_texts: Folder with one text file per language, whose first tokens the model goes on from; without
            it the model writes from nothing.
        self_replay_tokens: Tokens in each text that the model writes, at most.
        self_replay_temperature: Temperature of the sampling.
        self_replay_top_p: The model samples from the most probable tokens that have this probability together.
        self_replay_cache: Folder in which the texts are kept for other runs; `output_dir/self_replay` if not given.
        on_out_of_memory: "halve": a smaller micro-batch, and as many more of them for each step, from the start or the last
            checkpoint; or "error".

    Raises:
        InputError: One of these fields is out of range.
    """

    core_mask: str | None = field(
        default=None, metadata={"help": "Folder or Hub id of the core mask that full fine-tuning leaves unchanged."}
    )
    core_mask_revision: str | None = field(
        default=None, metadata={"help": "Branch, tag or commit of the core mask on the Hub."}
    )
    base_check: str = field(
        default="error",
        metadata={"help": "What to do when the core mask was found on other weights: error, warn or off."},
    )
    protection: str = field(
        default="freeze",
        metadata={"help": "freeze: a core mask is frozen; anchor: weights are also pulled to the base; none."},
    )
    anchor_strength: float = field(
        default=0.01,
        metadata={
            "help": "Share of the distance to the base that an anchor takes back in each step, 0 to 1; less in longer runs."
        },
    )
    anchor_importance: str | None = field(
        default=None, metadata={"help": "Folder of importance scores that weight the anchor's pull."}
    )
    anchor_base: str | None = field(
        default=None,
        metadata={"help": "Model that weights are pulled to, where it is not the one that training begins with."},
    )
    mask_gradients: bool = field(default=False, metadata={"help": "Zero the core's gradients before clipping."})
    core_damage: str | None = field(
        default=None,
        metadata={"help": "Damage the core before training: zero, noise, shuffle, mean or reinit."},
    )
    sentinel: str | None = field(
        default=None,
        metadata={"help": "Folder with one file of held-out text per language, watched while training runs."},
    )
    sentinel_every: float = field(
        default=100, metadata={"help": "Optimizer steps between two looks, or a fraction of an epoch."}
    )
    sentinel_limit: float = field(
        default=1.2, metadata={"help": "How many times its baseline the perplexity of a language may be."}
    )
    sentinel_on_breach: str = field(
        default="warn", metadata={"help": "warn, stop or revert (to the last good state)."}
    )
    general_dataset: list[str] | None = field(
        default=None,
        metadata={
            "help": "General data to mix in: files, folders of save_to_disk, or repo:config:split; name=source names one."
        },
    )
    general_data_ratio: float = field(
        default=5.0, metadata={"help": "How many times as much general data as task data in every epoch."}
    )
    general_data_by: str = field(default="rows", metadata={"help": "What general_data_ratio counts: rows or tokens."})
    general_data_weights: list[float] | None = field(
        default=None,
        metadata={"help": "How the sources of general data share it, in their order; equally if not given."},
    )
    self_replay_rows: int = field(
        default=0, metadata={"help": "Texts that the model itself writes before training, to be mixed in; 0 for none."}
    )
    self_replay_texts: str | None = field(
        default=None, metadata={"help": "Folder with one text file per language that self-replay goes on from."}
    )
    self_replay_tokens: int = field(default=256, metadata={"help": "Tokens in each self-replay text, at most."})
    self_replay_temperature: float = field(default=1.0, metadata={"help": "Temperature of self-replay."})
    self_replay_top_p: float = field(default=1.0, metadata={"help": "Probability mass that self-replay samples from."})
    self_replay_cache: str | None = field(
        default=None, metadata={"help": "Folder that keeps self-replay texts for other runs."}
    )
    on_out_of_memory: str = field(
        default="halve",
        metadata={"help": "When memory is full: halve the micro-batch and keep the effective batch, or error."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_general(self)
        check_on_out_of_memory(self.on_out_of_memory)
        check_protection(protection=self.protection, damage=self.core_damage, anchor_strength=self.anchor_strength)
        if self.base_check not in get_args(BaseCheck):
            raise InputError(f"base_check must be one of {list(get_args(BaseCheck))}, got {self.base_check!r}.")

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: transformers writes that to `training_args.bin` and uploads it, so it holds no token."""
        return {**self.__dict__, "hub_token": None}

    def __repr__(self) -> str:
        """Without the token, as transformers shows it; a dataclass would show every field."""
        return str(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> CoreRegionSFTConfig:
        """A copy in this process, which goes on using the token."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return copied

    def __copy__(self) -> CoreRegionSFTConfig:
        """The same, shallow."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied
