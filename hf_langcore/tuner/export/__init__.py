"""Taking an adapter elsewhere: as a LoRA, as a SHiRA adapter, as a merged checkpoint. None of them needs hf_langcore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from peft import LoraConfig, ShiraConfig

from hf_langcore.tuner.export import lora, merged, shira


class AdapterExport:
    """`to_lora`, `to_shira`, `save_as_lora`, `save_as_shira` and `save_merged` for a tuner.

    What is written loads with plain peft and transformers. A LoRA or SHiRA adapter adds exactly 0 to every core weight.
    Merging it therefore leaves the core as it is, but for one thing: -0.0 + 0.0 is 0.0, so that a -0.0 loses its sign. A
    merged checkpoint has every bit of the core.

    All files of an export appear, or none. Existing folders must be empty unless `overwrite` is given, which replaces
    weights and configs in them and leaves other files alone.
    """

    def to_lora(
        self, adapter_name: str | None = None, *, max_rank: int | None = None
    ) -> tuple[LoraConfig, dict[str, torch.Tensor]]:
        """The adapter as a LoRA that makes the same change; no approximation, unlike PEFT's `convert_to_lora`.

        Rows and columns that are core as a whole (a core of dimensions) cost nothing. Scattered core weights cost one
        rank for every row or column that is needed to cover them: in a random core of 1 % that is nearly every row, and
        then no LoRA is smaller than the weight itself.

        Args:
            adapter_name: The adapter; None for the active one.
            max_rank: Largest rank of a layer. None accepts a layer's LoRA as long as it has no more numbers than the
                weight, rank * (in + out) <= in * out, or no larger rank than the adapter has.

        Returns:
            The config and the weights as in PEFT's `convert_to_lora`: names as in adapter_model.safetensors,
            `lora_A` (rank, in) and `lora_B` (out, rank), float32 or wider. Ranks differ from layer to layer
            (`rank_pattern`), scaling is 1 everywhere. `modules_to_save`, trainable tokens and `lora_dropout` come along.

        Raises:
            ExportError: A layer needs a larger rank.
            InputError: There is no such adapter, or several are active.
            NonFiniteError: The change contains NaN or infinity.
            UnsupportedModelError: The adapter changes single parameters (experts), or PEFT could not load the LoRA.
        """
        return lora.to_lora(self, adapter_name, max_rank=max_rank)

    def save_as_lora(
        self,
        folder: str | Path,
        adapter_name: str | None = None,
        *,
        max_rank: int | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write what `to_lora` gives: adapter_config.json and adapter_model.safetensors.

        Args:
            folder: Where to.
            adapter_name: The adapter; None for the active one.
            max_rank: See `to_lora`.
            overwrite: Replace an adapter that is there.

        Raises:
            ArtifactExistsError: The folder is not empty and `overwrite` is False.
            LangCoreError: See `to_lora`.
        """
        lora.save_as_lora(self, folder, adapter_name, max_rank=max_rank, overwrite=overwrite)

    def to_shira(
        self, adapter_name: str | None = None, *, r: int | None = None
    ) -> tuple[ShiraConfig, dict[str, torch.Tensor]]:
        """The adapter as a SHiRA adapter: in each layer r * (in + out) single weights and what is added to them.

        Args:
            adapter_name: The adapter; None for the active one.
            r: With a number, the largest changes are kept, and a warning says what share of the squared norm that is.
                None takes the smallest r that keeps everything; there often is none, because SHiRA has one r for all
                layers and PEFT allows no more entries than the smallest layer has weights.

        Returns:
            The config and the weights: `shira_weight` (entries,), float32 or wider, and `shira_indices` (2, entries),
            int32. Where fewer weights change than there are entries, the rest has value 0; only such entries ever stand
            in the core.

        Raises:
            ExportError: No r keeps everything; the message says how much the largest would keep.
            InputError: `r` is too large for a layer, there is no such adapter, or several are active.
            NonFiniteError: The change contains NaN or infinity.
            UnsupportedModelError: The adapter changes something else than nn.Linear, or trains tokens.
        """
        return shira.to_shira(self, adapter_name, r=r)

    def save_as_shira(
        self, folder: str | Path, adapter_name: str | None = None, *, r: int | None = None, overwrite: bool = False
    ) -> None:
        """Write what `to_shira` gives: adapter_config.json and adapter_model.safetensors.

        Args:
            folder: Where to.
            adapter_name: The adapter; None for the active one.
            r: See `to_shira`.
            overwrite: Replace an adapter that is there.

        Raises:
            ArtifactExistsError: The folder is not empty and `overwrite` is False.
            LangCoreError: See `to_shira`.
        """
        shira.save_as_shira(self, folder, adapter_name, r=r, overwrite=overwrite)

    def save_merged(
        self,
        folder: str | Path,
        *,
        adapter_names: Sequence[str] | None = None,
        max_shard_size: int | str = "5GB",
        overwrite: bool = False,
    ) -> None:
        """Write an ordinary checkpoint of the merged model: `merge_and_unload().save_pretrained()`, bit for bit.

        The model stays as it is. Besides it, memory is needed for the changed weights of one shard and the work on one
        layer; a smaller `max_shard_size` needs less. The tokenizer is not part of the model: save it into the same
        folder. The checkpoint notes which weights the core masks were found on, so that they go on fitting.

        Args:
            folder: Where to.
            adapter_names: The adapters to merge, which keep off the union of their cores; None for the active ones.
            max_shard_size: Largest file, in bytes or as "5GB"; a single larger weight gets a file of its own.
            overwrite: Replace a checkpoint that is there.

        Raises:
            ArtifactExistsError: The folder is not empty and `overwrite` is False, or it holds an adapter.
            ConfigurationError: Other adapters are merged already, or two adapters trained the same module in full.
            InputError: There is no such adapter, or none is active.
            ModelChangedError: An edit is open.
            UnsupportedModelError: The base is quantised, has weights without values (meta device, offloaded to disk), or
                is no transformers model.
        """
        merged.save_merged(
            self, folder, adapter_names=adapter_names, max_shard_size=max_shard_size, overwrite=overwrite
        )
