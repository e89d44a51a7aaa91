"""Forward passes that start in the middle: an edit in one layer leaves everything below it as it was.

While a pass starts at layer n, the layers below do nothing: each returns what layer n - 1 gave for this batch in the model
without an edit. What the model does around its layers (embeddings, masks, positions, final norm, head) it does itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from hf_langcore.architecture import unwrap
from hf_langcore.scanning.tensors import Tensors

LARGEST = 1 << 29  # bytes of kept states


class Prefix:
    """The decoder layers of a model, the lower of which can be left out.

    Attributes:
        batch: Number of the batch that goes through the model now.
        start: The first layer that computes.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = list(layers)
        self._kept: dict[int, Any] = {}
        self._before: dict[int, Any] = {}
        self.batch = 0
        self.start = 0

    @property
    def last(self) -> nn.Module:
        """The last layer."""
        return self._layers[-1]

    def begin_at(self, start: int, states: dict[int, Any]) -> None:
        """Let passes begin at layer `start`, with the outputs of the layer below it, batch by batch; 0 is a whole pass."""
        self.begin_whole()
        self._kept, self.start = states, start
        for number in range(start):
            own = vars(self._layers[number])
            if "forward" in own:  # accelerate's hooks sit there
                self._before[number] = own["forward"]
            own["forward"] = self._answer

    def begin_whole(self) -> None:
        """Let every layer compute again."""
        for number in range(self.start):
            own = vars(self._layers[number])
            own.pop("forward", None)
            if number in self._before:
                own["forward"] = self._before.pop(number)
        self._kept, self.start = {}, 0

    @contextmanager
    def keeping(self, start: int) -> Iterator[dict[int, Any]]:
        """Keep what the layer below `start` gives for each batch while this is open.

        Yields:
            Number of the batch -> output; empty for layer 0, below which there is none.
        """
        states: dict[int, Any] = {}
        if start == 0:
            yield states
            return

        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            states[self.batch] = output

        handle = self._layers[start - 1].register_forward_hook(keep)
        try:
            yield states
        finally:
            handle.remove()

    def _answer(self, *_positional: Any, **_named: Any) -> Any:
        return self._kept[self.batch]


def prefix_of(model: nn.Module, tensors: Tensors) -> Prefix | None:
    """The layers of a model whose layers are one list that runs in order; None for others and for compiled models."""
    if any(hasattr(module, "_orig_mod") for module in model.modules()):
        return None
    bare = unwrap(model)
    try:
        layers = [bare.get_submodule(name) for name in tensors.layers]
    except AttributeError:
        return None
    parents = {name.rpartition(".")[0] for name in tensors.layers}
    numbers = [name.rpartition(".")[2] for name in tensors.layers]
    is_one_list = len(parents) == 1 and numbers == [str(number) for number in range(len(layers))]
    return Prefix(layers) if is_one_list and layers else None


@contextmanager
def called_after(last: nn.Module, owners: dict[str, nn.Module]) -> Iterator[set[str]]:
    """Watch a whole pass: which modules are called only when the last layer is done.

    Yields:
        Names of such modules; complete when the pass is.
    """
    early: set[str] = set()
    late: set[str] = set()
    is_done = False

    def done(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        nonlocal is_done
        is_done = True

    def start(_module: nn.Module, _inputs: Any) -> None:
        nonlocal is_done
        is_done = False

    def called(name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any) -> None:
            (late if is_done else early).add(name)
            late.difference_update(early)

        return note

    handles: list[Any] = [last.register_forward_pre_hook(start), last.register_forward_hook(done)]
    handles += [owner.register_forward_pre_hook(called(name)) for name, owner in owners.items()]
    try:
        yield late
    finally:
        for handle in handles:
            handle.remove()
