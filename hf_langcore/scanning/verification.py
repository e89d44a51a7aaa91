"""Edits that are really made: written, measured, and put back, thousands of them without reloading.

A session finds its tensors once, merges active adapters once, and then writes and restores through views. The text lies in
batches on the device. Edits are taken in the order of their layers, and passes begin at the layer of the edit wherever
that gives the same losses bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, get_args

import torch
from torch import nn

from hf_langcore.architecture import Weight
from hf_langcore.editing.handle import Change, EditHandle
from hf_langcore.errors import InputError
from hf_langcore.modes import eval_mode
from hf_langcore.scanning.candidates import Candidate
from hf_langcore.scanning.losses import WindowLosses
from hf_langcore.scanning.prefix import LARGEST, called_after, prefix_of
from hf_langcore.scanning.tensors import Tensors
from hf_langcore.scanning.text import PreparedText

Reuse = Literal["auto", "off"]

_CHECKS = 4  # passes that it takes to find out whether lower layers can be left out
_WIDEST = 4  # bytes of a number of a hidden state, at most


@dataclass(frozen=True, slots=True)
class Edit:
    """One or several places times a factor; norm gains by their effective value.

    Attributes:
        changes: Places and factors, made in this order.
    """

    changes: tuple[tuple[Candidate, float], ...]

    @classmethod
    def of(cls, candidate: Candidate, factor: float) -> Edit:
        """The edit of one place."""
        return cls(((candidate, float(factor)),))


class Session:
    """A model under verification: a context that leaves every bit as it was, whatever happens inside.

    Example:
        >>> with Session(model, tensors) as session:  # doctest: +SKIP
        ...     base = session.measure(text)
        ...     for edit, losses in session.measure_edits(text, base, edits):
        ...         ...
    """

    def __init__(self, model: nn.Module, tensors: Tensors, *, reuse: Reuse = "auto") -> None:
        if reuse not in get_args(Reuse):
            raise InputError(f'reuse must be "auto" or "off", got {reuse!r}.')
        self._model = model
        self._tensors = tensors
        self._offsets = {name: weight.gain_offset for name, weight in tensors.norms.items()}
        self._prefix = prefix_of(model, tensors) if reuse == "auto" else None
        self._late: set[str] = set()  # norms outside of layers that are called after the last one
        self._open: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._stack = ExitStack()
        self.num_passes = 0
        self.num_shortened = 0

    def __enter__(self) -> Session:  # noqa: PYI034 typing.Self needs Python 3.11
        with ExitStack() as stack:
            stack.enter_context(eval_mode(self._model))
            # Checks every tensor, merges adapters, and notes that the model is not as it was.
            names = [*self._tensors.norms, *self._tensors.matrices]
            stack.enter_context(EditHandle(self._model, names, _nothing, what="scan of single dimensions"))
            stack.callback(self._undo)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._whole()
        self._stack.close()

    def measure(self, text: PreparedText) -> WindowLosses:
        """Losses of the model as it is."""
        if self._prefix is None:
            return text.losses(self._pass(text))
        outside = {name: one.owner for name, one in self._tensors.norms.items() if self._tensors.layer(name) is None}
        with called_after(self._prefix.last, outside) as late:
            nll = self._pass(text)
        self._late = set(late)
        return text.losses(nll)

    def measure_edits(
        self, text: PreparedText, edits: Iterable[Edit], *, done: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[Edit, WindowLosses]]:
        """Make every edit, measure it and take it back.

        Args:
            text: What to measure on.
            edits: In any order; those of lower layers come first.
            done: Called after each edit.

        Yields:
            Each edit and its losses.
        """
        groups: dict[int, list[Edit]] = {}
        for edit in edits:
            groups.setdefault(self._start(edit), []).append(edit)
        for start in sorted(groups):
            group = groups[start]
            try:
                self._begin(text, start, group)
                for edit in group:
                    with self.written(edit):
                        nll = self._pass(text)
                    yield edit, text.losses(nll)
                    done()
            finally:
                self._whole()

    @contextmanager
    def written(self, edit: Edit) -> Iterator[None]:
        """The model with an edit in force."""
        try:
            with torch.no_grad():
                for candidate, factor in edit.changes:
                    view = candidate.view(self._tensors)
                    offset = self._offsets.get(candidate.parameter, 0.0)
                    new = ((view.float() + offset) * factor - offset).to(view.dtype)
                    self._open.append((view, view.clone()))
                    view.copy_(new)
            yield
        finally:
            self._undo()

    def _undo(self) -> None:
        """Put everything back that is open, the last first; safe to be repeated where it was interrupted."""
        with torch.no_grad():
            while self._open:
                view, old = self._open[-1]
                view.copy_(old)
                self._open.pop()

    def _start(self, edit: Edit) -> int:
        """The first layer that an edit can make itself felt in."""
        if self._prefix is None:
            return 0
        starts = []
        for candidate, _ in edit.changes:
            layer = self._tensors.layer(candidate.parameter)
            is_late = candidate.parameter in self._late
            starts.append(layer if layer is not None else len(self._tensors.layers) * is_late)
        return min(starts)

    def _begin(self, text: PreparedText, start: int, group: Sequence[Edit]) -> None:
        """Leave out the layers below `start` where that pays and changes no bit, neither without an edit nor with one."""
        size = text.num_positions * self._tensors.width * _WIDEST
        pays = start * len(group) >= _CHECKS * len(self._tensors.layers)
        if self._prefix is None or not pays or size > LARGEST:
            return
        with self._prefix.keeping(start) as states:
            plain = self._pass(text)
        with self.written(group[0]):
            edited = self._pass(text)
        self._prefix.begin_at(start, states)
        same = torch.equal(self._pass(text), plain)
        with self.written(group[0]):
            same = same and _same(self._pass(text), edited)
        if not same or len(states) != len(text.batches):
            self._whole()

    def _whole(self) -> None:
        if self._prefix is not None:
            self._prefix.begin_whole()

    def _pass(self, text: PreparedText) -> torch.Tensor:
        """Losses of all scored tokens, batch after batch: float32."""
        found = []
        with torch.inference_mode():
            for number, batch in enumerate(text.batches):
                if self._prefix is not None:
                    self._prefix.batch = number
                found.append(batch.nll(self._model))
            self.num_passes += 1
            self.num_shortened += int(self._prefix is not None and self._prefix.start > 0)
            return torch.cat(found)


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Bit for bit, NaN being the same as NaN."""
    return torch.equal(torch.nan_to_num(one, nan=-1.0), torch.nan_to_num(other, nan=-1.0))


def _nothing(weights: Mapping[str, Weight]) -> list[Change]:
    """A change of no entry for each weight, so that each is checked."""
    return [
        Change(weight, torch.empty(0, dtype=torch.int64, device=parameter.device), parameter.detach().reshape(-1)[:0])
        for weight in weights.values()
        for parameter in [weight.parameter]
    ]
