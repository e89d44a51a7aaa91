"""Two checkpoints become one: the core of the first and everything else of the second, bit for bit.

Nothing is loaded as a whole. Each tensor is read, put together and written while only the shard that is being written
is in memory.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME

from hf_langcore.binding import LINEAGE_ATTRIBUTE, bind
from hf_langcore.editing.conversion import CONFIG, MODEL_WEIGHTS, save_shards
from hf_langcore.editing.stored import StoredCheckpoint
from hf_langcore.errors import ArtifactExistsError, CoreMaskMismatchError
from hf_langcore.files import new_folder, replace_json, require_free
from hf_langcore.masks import CoreMask, bits_of

_COPIED = {".json", ".txt", ".model", ".jinja", ".py", ".tiktoken", ".vocab", ".bpe"}
_NOT_COPIED = {CONFIG, SAFE_WEIGHTS_INDEX_NAME, "trainer_state.json", "core_mask_config.json", "all_results.json"}
_CHAT_TEMPLATES = "additional_chat_templates"


def merge_regions(
    core_from: str | Path,
    complement_from: str | Path,
    core_mask: CoreMask | str | Path,
    output_dir: str | Path,
    *,
    core_revision: str | None = None,
    complement_revision: str | None = None,
    base_check: str = "error",
    max_shard_size: int | str = "5GB",
    overwrite: bool = False,
    trust_remote_code: bool = False,
    progress: bool = True,
) -> Path:
    """Write a checkpoint with the core of one model and the complement of another.

    With the base as `core_from` and a fine-tuned model as `complement_from` this takes back what training did to the
    core; the other way round it takes back everything else.

    Config, tokenizer, dtypes and whatever else belongs to a checkpoint come from `complement_from`. The config's lineage
    names the weights that the merged core comes from, so that the mask goes on fitting.

    Args:
        core_from: Folder written by `save_pretrained`, or Hub id, of which the core is kept.
        complement_from: The same for all other weights, also those that the mask does not speak about.
        core_mask: The core, or the folder of a saved one.
        output_dir: Folder to write. Nothing is in it until everything is written.
        core_revision: Branch, tag or commit of `core_from` on the Hub.
        complement_revision: The same of `complement_from`.
        base_check: "error", "warn" or "off": what to do when neither checkpoint has, or was trained from, the weights
            that the mask was found on.
        max_shard_size: Largest size of one file of weights, in bytes or as in "5GB".
        overwrite: Replace a checkpoint that is there.
        trust_remote_code: Run model code that lies beside the checkpoints.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        ArtifactExistsError: The folder is not empty, or holds an adapter.
        CoreMaskMismatchError: Names, shapes, dtypes or weights do not fit.
        InputError: A checkpoint is missing or damaged, or an option is wrong.
        UnsupportedModelError: A checkpoint is quantised, or not of safetensors.
    """
    target = _free_folder(output_dir, overwrite=overwrite)
    mask = core_mask if isinstance(core_mask, CoreMask) else CoreMask.from_pretrained(core_mask)
    core = StoredCheckpoint.open(core_from, revision=core_revision, trust_remote_code=trust_remote_code)
    complement = StoredCheckpoint.open(
        complement_from, revision=complement_revision, trust_remote_code=trust_remote_code
    )
    merge = _Merge(core, complement, mask)
    lineage = _lineage(core, complement, mask, base_check=base_check)
    with (
        tqdm(desc="merging", total=len(complement.layout), unit="tensor", disable=not progress) as bar,
        new_folder(target, overwrite=overwrite, last=CONFIG, stale=MODEL_WEIGHTS) as staging,
    ):
        save_shards(
            staging,
            complement.layout,
            lambda names: {name: tensor for name, tensor in merge.tensors(names) if bar.update() or True},
            max_shard_size=max_shard_size,
            metadata={"total_parameters": sum(each.numel() for each in complement.layout.values())},
        )
        _copy_others(complement.folder, staging)
        config = {key: value for key, value in complement.config.items() if key != LINEAGE_ATTRIBUTE}
        replace_json(staging / CONFIG, {**config, **({LINEAGE_ATTRIBUTE: lineage} if lineage else {})})
    return target


class _Merge:
    """Which tensors of the files hold core weights, and what comes where.

    Raises:
        CoreMaskMismatchError: The checkpoints do not fit each other or the mask.
    """

    def __init__(self, core: StoredCheckpoint, complement: StoredCheckpoint, core_mask: CoreMask) -> None:
        for stored in (core, complement):
            bind(stored.model, core_mask, base_check="off")  # names and shapes
        self._core, self._complement, self._mask = core, complement, core_mask
        self._keys: dict[str, str] = {}
        for name in core_mask:
            if core_mask.count(name):
                self._keys |= self._keys_of(name)
        for name, key in self._keys.items():
            self._require_alike(name, self._core_name(key))

    def tensors(self, names: Sequence[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """Some tensors of the merged checkpoint, by their names in the complement's files."""
        masks = self._masks([self._keys[name] for name in names if name in self._keys])
        for name in names:
            tensor = self._complement.read(name)
            if name in self._keys:
                tensor = self._merged(tensor, self._core.read(self._core_name(self._keys[name])), masks[name])
            yield name, tensor

    def _keys_of(self, name: str) -> dict[str, str]:
        """Names in the complement's files -> key in its layout, for one parameter."""
        keys = self._complement.keys_of(name) or [name]  # of which stored_name says that it is missing
        return {self._complement.stored_name(key): key for key in keys}

    def _core_name(self, key: str) -> str:
        """The same tensor in the files of the core; tied ones may be there under the other name only."""
        found = self._core.find(key)
        if found is not None:
            return found
        parts = self._complement.form.sources[key]
        ties = self._core.ties
        others = (other for part in parts for other in self._core.keys_of(ties.get(part, part)))
        return self._core.stored_name(next(others, key))

    def _masks(self, keys: Sequence[str]) -> dict[str, torch.Tensor]:
        """Name in the complement's files -> which of its entries are core."""

        def core_of(name: str) -> torch.Tensor:
            first = self._complement.ties.get(name, name)
            if first in self._mask:
                return self._mask[first]
            return torch.zeros(self._complement.shapes[name], dtype=torch.bool)

        converted = self._complement.form.convert(core_of, keys)
        return {self._complement.stored_name(key): converted[key] for key in keys}

    def _merged(self, rest: torch.Tensor, core: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        # As integers, so that NaN and -0.0 stay what they are; widening is exact.
        return torch.where(chosen, bits_of(core.to(rest.dtype)), bits_of(rest)).view(rest.dtype)

    def _require_alike(self, name: str, other: str) -> None:
        mine, others = self._complement.layout[name], self._core.layout[other]
        if torch.promote_types(mine.dtype, others.dtype) != mine.dtype:
            raise CoreMaskMismatchError(
                f"{name!r} is {mine.dtype} in {str(self._complement.folder)!r} and {others.dtype} in "
                f"{str(self._core.folder)!r}, so that the core would be rounded. Save both in one dtype first: "
                "AutoModelForCausalLM.from_pretrained(..., dtype=...).save_pretrained(...)."
            )
        wanted = self._complement.form.layout[self._keys[name]].shape
        if not mine.shape == others.shape == wanted:
            raise CoreMaskMismatchError(
                f"{name!r} has shape {tuple(mine.shape)} in {str(self._complement.folder)!r}, {tuple(others.shape)} in "
                f"{str(self._core.folder)!r}, and its config says {tuple(wanted)}. Name checkpoints of one model."
            )


def _lineage(
    core: StoredCheckpoint, complement: StoredCheckpoint, core_mask: CoreMask, *, base_check: str
) -> list[str]:
    """Fingerprints of the weights that the merged core comes from.

    Raises:
        CoreMaskMismatchError: Neither checkpoint has anything to do with the mask, and `base_check` is "error".
        InputError: `base_check` is none of the three.
    """
    bind(core.model, core_mask, base_check=base_check if base_check not in {"error", "warn"} else "off")
    problem = _misfit(core, core_mask)
    if problem and _misfit(complement, core_mask) and base_check == "error":
        raise CoreMaskMismatchError(f"The mask belongs to neither checkpoint. {problem}")
    if problem and base_check == "warn":
        warnings.warn(f"The core that is kept is not that of the mask's base. {problem}", stacklevel=3)
    # Of other masks the core may be partly here and partly there: it is known only where both vouch for it.
    noted = [set(one.config.get(LINEAGE_ATTRIBUTE) or []) for one in (core, complement)]
    kept = sorted(noted[0] & noted[1])
    base = core_mask.provenance.base_fingerprint
    return kept if base is None or problem else list(dict.fromkeys([*kept, base.total]))


def _misfit(stored: StoredCheckpoint, core_mask: CoreMask) -> str | None:
    try:
        bind(stored.model, core_mask, value_of=lambda weight: stored.value_of(weight.name))
    except CoreMaskMismatchError as error:
        return str(error)
    return None


def _free_folder(output_dir: str | Path, *, overwrite: bool) -> Path:
    target = require_free(output_dir, overwrite=overwrite)
    if (target / "adapter_config.json").exists():
        raise ArtifactExistsError(
            f"{str(target)!r} holds an adapter, which transformers would load on top of the merged checkpoint. Name "
            "another folder."
        )
    return target


def _copy_others(source: Path, target: Path) -> None:
    """Tokenizer, generation config, chat templates, model code: what belongs to a checkpoint besides its weights."""
    for path in source.iterdir():
        if path.is_file() and path.suffix in _COPIED and path.name not in _NOT_COPIED:
            shutil.copyfile(path, target / path.name)
    if (source / _CHAT_TEMPLATES).is_dir():
        shutil.copytree(source / _CHAT_TEMPLATES, target / _CHAT_TEMPLATES)
