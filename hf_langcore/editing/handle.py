"""An open edit: what was there before, what was written, and the way back.

Restoring first looks whether every edited entry still holds what was written, bit for bit. If something else
changed them (a training step, a cast), nothing is touched and the caller hears about it, because silently putting
old values into a changed model is how edits get lost in other tools.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from weakref import WeakKeyDictionary

import torch
from torch import nn

from hf_langcore.architecture import Weight, bare_weights, require_editable, unwrap
from hf_langcore.editing.merging import MergedAdapters
from hf_langcore.errors import ModelChangedError, UnsupportedModelError
from hf_langcore.masks import bits_of
from hf_langcore.modes import forget_alteration, note_alteration

# The open edits of each bare model, in the order in which they were opened. A handle refers to its model weakly, so
# that a forgotten edit does not keep the model in memory.
_OPEN_EDITS: WeakKeyDictionary[nn.Module, list[EditHandle]] = WeakKeyDictionary()

_LONGEST = 300  # characters of an edit in words; masks made of many masks have long names


@dataclass(frozen=True, slots=True)
class Change:
    """New values for some entries of one weight.

    Attributes:
        weight: The weight.
        positions: int64, flat positions in the stored tensor.
        values: New values in the weight's dtype, one per position, or one for all.
    """

    weight: Weight
    positions: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Saved:
    name: str
    dtype: torch.dtype
    shape: torch.Size
    positions: torch.Tensor  # int32 where that is enough: most of what an edit keeps
    old: torch.Tensor
    new: torch.Tensor

    def holds(self, parameter: torch.Tensor) -> bool:
        if parameter.dtype != self.dtype or parameter.shape != self.shape:
            return False
        now = torch.take(parameter.detach(), self.positions.to(parameter.device, torch.int64))
        return torch.equal(bits_of(now), bits_of(self.new.to(parameter.device).expand_as(now).contiguous()))

    def put_back(self, tensor: torch.Tensor) -> None:
        if tensor.shape != self.shape:
            raise ModelChangedError(
                f"{self.name!r} had shape {tuple(self.shape)} when it was edited and has {tuple(tensor.shape)} now, so the "
                "old values have no place any more. Load the weights again."
            )
        with torch.no_grad():
            positions = self.positions.to(tensor.device, torch.int64)
            tensor.detach().put_(positions, self.old.to(tensor.device, tensor.dtype))


class EditHandle:
    """An edit that is in force until `restore()` or the end of its `with` block.

    Edits of one model nest: the last one is restored first.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        changes: Callable[[Mapping[str, Weight]], Sequence[Change]],
        *,
        what: str = "edited",
        core_mask: str | None = None,
    ) -> None:
        """Apply an edit.

        Args:
            model: A bare or wrapped model. Active adapters are merged while the edit is open, so that it acts on the
                effective weights.
            names: The parameters that `changes` needs.
            changes: Computes the changes from the weights, adapters merged.
            what: The edit in words, for those who measure the model meanwhile.
            core_mask: Digest of the mask that is edited; None where that is no mask, or a control of one.
        """
        self._model = weakref.ref(unwrap(model))
        self._adapters: MergedAdapters | None = None
        self._saved: list[_Saved] = []
        adapters = MergedAdapters(model)
        try:
            weights = bare_weights(model)
            planned = changes({name: weights[name] for name in names})
            self._saved = [_save(change) for change in planned]
            for change in planned:
                with torch.no_grad():
                    values = change.values.expand(change.positions.shape)
                    change.weight.parameter.detach().put_(change.positions, values)
        except BaseException:
            self._undo_half(model, adapters)
            raise
        self._adapters = adapters
        _OPEN_EDITS.setdefault(unwrap(model), []).append(self)
        self._what = f"{what[:_LONGEST]}, {self.num_edited:,} weight{'' if self.num_edited == 1 else 's'}"
        note_alteration(model, self._what, core_mask=core_mask)

    @property
    def is_open(self) -> bool:
        """True until the edit is restored."""
        return self._adapters is not None

    @property
    def num_edited(self) -> int:
        """Number of entries that the edit wrote."""
        return sum(saved.positions.numel() for saved in self._saved)

    def restore(self, *, force: bool = False) -> None:
        """Put back every bit. Restoring twice does nothing.

        Args:
            force: Write the old values even where the model changed under the edit, and end later edits first.

        Raises:
            ModelChangedError: Edited entries hold something else than what was written, or a later edit is still
                open. Nothing was written; the old values are kept and `error.handle.restore(force=True)` writes them.
        """
        model, adapters = self._model(), self._adapters
        if adapters is None or model is None:
            return
        open_edits = _OPEN_EDITS[model]
        if open_edits[-1] is not self and not force:
            raise ModelChangedError(
                "A later edit of this model is still open; edits are restored in reverse order. Restore that one first.",
                handle=self,
            )
        while open_edits[-1] is not self:
            open_edits[-1].restore(force=True)
        weights = bare_weights(model)
        # Where somebody has taken a merged adapter out, the kept base values replace the whole weight below.
        mine = [saved for saved in self._saved if not _taken_out(adapters, weights.get(saved.name))]
        if not force:
            self._require_unchanged(mine, weights)
        for saved in mine:
            saved.put_back(weights[saved.name].parameter)
        open_edits.remove(self)
        forget_alteration(model, self._what)
        self._adapters, self._saved = None, []
        adapters.undo()

    def keep(self) -> None:
        """Let what was written stay for good: the old values are forgotten, and restoring does nothing any more.

        Raises:
            ModelChangedError: Adapters were merged for the edit, so that it lies in effective weights, or another edit is open.
        """
        model, adapters = self._model(), self._adapters
        if adapters is None or model is None:
            return
        if len(_OPEN_EDITS[model]) > 1 or not adapters.is_empty:
            raise ModelChangedError(
                "An edit can be kept only where it is the model's one open edit and no adapter was merged for it. Restore the "
                "other edits, or merge the adapter into the base first.",
                handle=self,
            )
        _OPEN_EDITS[model].remove(self)
        self._adapters, self._saved = None, []

    def value_before(self, weight: Weight, value: torch.Tensor) -> torch.Tensor:
        """What `value` of a weight was before this edit."""
        base = self._adapters.value_before(weight) if self._adapters is not None else None
        if base is not None:
            return base
        for saved in self._saved:
            if saved.name == weight.name:
                value = value.detach().clone()
                saved.put_back(value)
        return value

    def __enter__(self) -> EditHandle:  # noqa: PYI034 typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def __repr__(self) -> str:
        state = f"{self.num_edited:,} weights edited" if self.is_open else "restored"
        return f"EditHandle({state})"

    def _require_unchanged(self, saved: Sequence[_Saved], weights: Mapping[str, Weight]) -> None:
        changed = [one.name for one in saved if one.name not in weights or not one.holds(weights[one.name].parameter)]
        if changed:
            raise ModelChangedError(
                f"The model changed while an edit was open: {changed[0]!r} does not hold what the edit wrote "
                f"({len(changed)} of {len(self._saved)} edited tensors). Training steps, casts and loading weights "
                "belong before or after an edit. Nothing was restored; handle.restore(force=True) writes the old values "
                "(the handle is what perturb returned, and `error.handle`).",
                handle=self,
            )

    def _undo_half(self, model: nn.Module, adapters: MergedAdapters) -> None:
        """Leave no trace of an edit that failed on the way, whatever stopped it."""
        weights = bare_weights(model)
        for saved in self._saved:
            saved.put_back(weights[saved.name].parameter)
        self._saved = []
        adapters.undo()


def restore_all(model: nn.Module, *, force: bool = False) -> int:
    """End every open edit of a model, the last one first; for handles that were lost.

    Args:
        model: The model, bare or wrapped.
        force: As in `EditHandle.restore`.

    Returns:
        Number of edits that were restored.

    Raises:
        ModelChangedError: The model changed under an edit; that edit and those before it stay open.
    """
    open_edits = list(reversed(_OPEN_EDITS.get(unwrap(model), [])))
    for handle in open_edits:
        handle.restore(force=force)
    return len(open_edits)


def value_before_edits(model: nn.Module, weight: Weight) -> torch.Tensor:
    """The value of a weight as it was before all open edits, adapters out."""
    value: torch.Tensor = weight.parameter
    for handle in reversed(_OPEN_EDITS.get(unwrap(model), [])):
        value = handle.value_before(weight, value)
    return value


def _taken_out(adapters: MergedAdapters, weight: Weight | None) -> bool:
    return weight is not None and adapters.was_taken_out(weight)


def _save(change: Change) -> _Saved:
    weight, parameter = change.weight, change.weight.parameter
    require_editable(weight)
    if weight.is_shadowed:
        raise UnsupportedModelError(
            f"The active adapter uses a copy of its own for {weight.name!r} (modules_to_save), so an edit of the model's "
            "weight would change nothing. Switch the adapter off first (with model.disable_adapter(): ...), or edit the "
            "result of merge_and_unload()."
        )
    if type(parameter.data) is not torch.Tensor:
        raise UnsupportedModelError(
            f"{weight.name!r} is a {type(parameter.data).__name__}: sharded and quantised tensors cannot be edited in "
            "place. Edit the model before it is sharded."
        )
    compact = torch.int32 if parameter.numel() <= torch.iinfo(torch.int32).max else torch.int64
    return _Saved(
        name=weight.name,
        dtype=parameter.dtype,
        shape=parameter.shape,
        positions=change.positions.to(compact),
        old=torch.take(parameter.detach(), change.positions),
        new=change.values.detach().clone(),
    )
