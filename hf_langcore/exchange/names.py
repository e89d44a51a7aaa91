"""Which parameter of a model a name in a foreign file means."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from hf_langcore.architecture import Weight, aliases, bare_weights, unwrap
from hf_langcore.errors import CoreMaskMismatchError

# What PEFT, DistributedDataParallel and torch.compile put before or between the parts of a name.
_WRAPPERS = re.compile(r"^base_model\.model\.|^module\.|(?<![^.])_orig_mod\.|\bbase_layer\.|\bmodules_to_save\.\w+\.")


class Parameters(Mapping[str, Weight]):
    """The parameters of a bare model; names in files are looked up with `find`.

    Args:
        model: A causal LM, bare or wrapped, with values or on the meta device.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model: Any = unwrap(model)
        self._weights = bare_weights(model)
        self._aliases = aliases(model)
        self._prefix = f"{getattr(self.model, 'base_model_prefix', '') or 'model'}."

    def __getitem__(self, name: str) -> Weight:
        return self._weights[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)

    def find(self, name: str, *, source: str) -> Weight:
        """The parameter that a file calls `name`.

        What wrappers add to names is left out, a file of the model without its head (or the other way round) may lack or
        have the first part, and the second name of a tied parameter means the parameter.

        Args:
            name: The name in the file.
            source: The file, for messages.

        Raises:
            CoreMaskMismatchError: The model has no such parameter.
        """
        bare = _WRAPPERS.sub("", _WRAPPERS.sub("", name))
        for candidate in (bare, f"{self._prefix}{bare}", bare.removeprefix(self._prefix)):
            known = self._aliases.get(candidate, candidate)
            if known in self._weights:
                return self._weights[known]
        near = difflib.get_close_matches(bare[:200], self._weights, n=3, cutoff=0.4)
        raise CoreMaskMismatchError(
            f"{source!r} names the tensor {name[:200]!r}, and {type(self.model).__name__} has no such parameter. Nearest "
            f"names: {', '.join(map(repr, near)) or 'none'}. Pass the model that the file was made for."
        )
