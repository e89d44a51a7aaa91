"""An open edit: what was there before, what was written, and the way back.

Restoring first looks whether every edited entry still holds what was written, bit for bit. If something else
changed them (a training step, a cast), nothing is touched and the caller hears about it, because silently putting
old values into a changed model is how edits get lost in other tools.
"""

from __future__ import annotations

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

_OPEN_EDITS: WeakKeyDictionary[nn.Module, list[EditHandle]] = WeakKeyDictionary()


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

    def put_back(self, parameter: torch.Tensor) -> None:
        with torch.no_grad():
            positions = self.positions.to(parameter.device, torch.int64)
            parameter.detach().put_(positions, self.old.to(parameter.device))


class EditHandle:
    """An edit that is in force until `restore()` or the end of its `with` block.

    Edits of one model nest: the last one is restored first.
    """

    def __init__(
        self, model: nn.Module, names: Sequence[str], changes: Callable[[Mapping[str, Weight]], Sequence[Change]]
    ) -> None:
        """Apply an edit.

        Args:
            model: A bare or wrapped model. Active adapters are merged while the edit is open, so that it acts on the
                effective weights.
            names: The parameters that `changes` needs.
            changes: Computes the changes from the weights, adapters merged.
        """
        self._model = model
        self._key = unwrap(model)
        self._adapters: MergedAdapters | None = None
        self._saved: list[_Saved] | None = None
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
            self._undo_half(adapters)
            raise
        self._adapters = adapters
        _OPEN_EDITS.setdefault(self._key, []).append(self)

    @property
    def is_open(self) -> bool:
        """True until the edit is restored."""
        return self._adapters is not None

    @property
    def num_edited(self) -> int:
        """Number of entries that the edit wrote."""
        return sum(saved.positions.numel() for saved in self._saved or ())

    def restore(self, *, force: bool = False) -> None:
        """Put back every bit. Restoring twice does nothing.

        Args:
            force: Write the old values even where the model changed under the edit.

        Raises:
            ModelChangedError: Edited entries hold something else than what was written, or a later edit is still
                open. Nothing was written; the old values are kept and `restore(force=True)` writes them.
        """
        if not self.is_open or self._saved is None:
            return
        open_edits = _OPEN_EDITS[self._key]
        if open_edits[-1] is not self and not force:
            raise ModelChangedError(
                "A later edit of this model is still open; edits are restored in reverse order. Restore that one first."
            )
        parameters = {name: weight.parameter for name, weight in bare_weights(self._model).items()}
        if not force:
            self._require_unchanged(parameters)
        for saved in self._saved:
            saved.put_back(parameters[saved.name])
        open_edits.remove(self)
        adapters, self._adapters, self._saved = self._adapters, None, None
        if adapters is not None:
            adapters.undo()

    def __enter__(self) -> EditHandle:  # noqa: PYI034 typing.Self needs Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.restore()

    def __repr__(self) -> str:
        state = f"{self.num_edited:,} weights edited" if self.is_open else "restored"
        return f"EditHandle({state})"

    def _require_unchanged(self, parameters: Mapping[str, torch.Tensor]) -> None:
        changed = [
            saved.name
            for saved in self._saved or ()
            if saved.name not in parameters or not saved.holds(parameters[saved.name])
        ]
        if changed:
            raise ModelChangedError(
                f"The model changed while an edit was open: {changed[0]!r} does not hold what the edit wrote "
                f"({len(changed)} of {len(self._saved or ())} edited tensors). Training steps, casts and loading weights "
                "belong before or after an edit. Nothing was restored; handle.restore(force=True) writes the old values."
            )

    def _undo_half(self, adapters: MergedAdapters) -> None:
        """Leave no trace of an edit that failed on the way, whatever stopped it."""
        parameters = bare_weights(self._model)
        for saved in self._saved or ():
            saved.put_back(parameters[saved.name].parameter)
        self._saved = None
        adapters.undo()


def _save(change: Change) -> _Saved:
    parameter = change.weight.parameter
    require_editable(change.weight)
    if type(parameter.data) is not torch.Tensor:
        raise UnsupportedModelError(
            f"{change.weight.name!r} is a {type(parameter.data).__name__}: sharded and quantised tensors cannot be edited in "
            "place. Edit the model before it is sharded."
        )
    compact = torch.int32 if parameter.numel() <= torch.iinfo(torch.int32).max else torch.int64
    return _Saved(
        name=change.weight.name,
        dtype=parameter.dtype,
        shape=parameter.shape,
        positions=change.positions.to(compact),
        old=torch.take(parameter.detach(), change.positions),
        new=change.values.detach().clone(),
    )
