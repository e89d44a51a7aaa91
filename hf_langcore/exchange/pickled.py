"""Pickles of `torch.save` as plain data. No name that stands in a file is ever imported, and nothing in it is called.

`torch.load(weights_only=True)` runs no code of a file either, but lets it ask for memory: a few bytes are enough for a
bytearray of any size. Here a pickle is read symbol by symbol with the standard library's `pickletools`, and only what
lists, dicts, numbers, strings and tensors are written with is known; whatever else a file asks for is refused by name.
"""

from __future__ import annotations

import io
import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hf_langcore.errors import CoreMaskFormatError
from hf_langcore.exchange.rebuilding import BUILDERS, STORAGES, NumpyType, Storage, of_type, whole
from hf_langcore.exchange.stored import damaged

_PROTOCOL = 2  # of torch.save, unless it is asked for another one
_MOST_CONTAINERS = 1 << 20

StorageOf = Callable[[torch.dtype, str, int], Storage]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that a pickle mentions, such as "torch._utils _rebuild_tensor_v2". It is never looked up."""

    text: str


def read_pickle(data: bytes | bytearray, path: Path, storage_of: StorageOf) -> Any:
    """What a pickle written by `torch.save` says, in lists, dicts, tuples, numbers, strings, `Stored` and `StoredSparse`.

    Lists may hold each other, even themselves: look at as many levels as you expect.

    Args:
        data: The pickle.
        path: The file, for messages.
        storage_of: Gives the storage with a dtype, key and number of values, after checking that it is there.

    Raises:
        CoreMaskFormatError: It is damaged or asks for anything that is neither a tensor nor plain data.
    """
    machine = _Machine(path, storage_of)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of odd escapes in damaged texts
            for opcode, argument, _ in pickletools.genops(io.BytesIO(data)):
                machine.run(opcode.name, argument)
        return machine.stack.pop()
    except CoreMaskFormatError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        damaged(path, f"its pickle is damaged ({type(error).__name__}: {str(error)[:200]})")


@dataclass(slots=True)
class _Machine:
    """The stack machine that a pickle is a program for, with the few instructions that data needs."""

    path: Path
    storage_of: StorageOf
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    containers: int = 0

    def run(self, opcode: str, argument: Any) -> None:
        if opcode in _PUSHED:
            self.stack.append(argument)
        elif opcode in _CONSTANTS:
            self.stack.append(_CONSTANTS[opcode])
        elif opcode in _TUPLES:
            count = _TUPLES[opcode]
            self._contain(tuple(self.stack.pop() for _ in range(count))[::-1])
        elif opcode in _INSTRUCTIONS:
            _INSTRUCTIONS[opcode](self, argument)
        elif opcode != "STOP":
            damaged(self.path, f"its pickle uses {opcode}, which torch.save does not; save it again with torch.save")

    def protocol(self, argument: Any) -> None:
        if argument != _PROTOCOL:
            damaged(self.path, f"it is a pickle of protocol {argument}, expected {_PROTOCOL}, torch.save's own")

    def mark(self, _: Any) -> None:
        self._count()
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def new_list(self, _: Any) -> None:
        self._contain([])

    def new_dict(self, _: Any) -> None:
        self._contain({})

    def new_tuple(self, _: Any) -> None:
        self._contain(tuple(self.since_mark()))

    def append(self, _: Any) -> None:
        item = self.stack.pop()
        of_type(list, self.stack[-1]).append(item)

    def appends(self, _: Any) -> None:
        items = self.since_mark()
        of_type(list, self.stack[-1]).extend(items)

    def set_item(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def set_items(self, _: Any) -> None:
        self._set(self.since_mark())

    def put(self, argument: Any) -> None:
        self.memo[argument] = self.stack[-1]

    def get(self, argument: Any) -> None:
        self.stack.append(self.memo[argument])

    def name(self, argument: Any) -> None:
        """Names are refused here and not when they are called, so that a file cannot even mention another one."""
        if argument not in BUILDERS and argument.removeprefix("torch ") not in STORAGES and argument != "numpy dtype":
            raise CoreMaskFormatError(
                f"{str(self.path)!r} is refused: its pickle asks for {'.'.join(argument.split(' '))!r}, which is neither a "
                "tensor nor plain data and could run code. Nothing was run. Ask for a file that was saved from lists, dicts "
                "and tensors only, or for safetensors."
            )
        self.stack.append(_Name(argument))

    def persistent(self, _: Any) -> None:
        """A storage: ("storage", type, key, device, number of values)."""
        word, kind, key, _device, numel = self.stack.pop()
        if word != "storage" or type(key) is not str:
            raise ValueError(f"it refers to a {type(key).__name__} key, expected that of a storage")
        dtype = STORAGES[of_type(_Name, kind).text.removeprefix("torch ")]
        self._contain(self.storage_of(dtype, key, whole(numel)))

    def call(self, _: Any) -> None:
        arguments, function = of_type(tuple, self.stack.pop()), of_type(_Name, self.stack.pop())
        build = BUILDERS.get(function.text)
        self._contain(NumpyType(of_type(str, arguments[0])) if build is None else build(*arguments))

    def set_state(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, NumpyType):
            target.order = state[1]
        elif not isinstance(target, dict):  # what a state dict notes beside its tensors is not needed
            raise TypeError(f"it gives a state to a {type(target).__name__}")

    def _set(self, items: list[Any]) -> None:
        target = of_type(dict, self.stack[-1])
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, (str, int)):
                raise TypeError(f"a key is a {type(key).__name__}")
            if key in target:
                raise ValueError(f"the key {key!r} stands twice")
            target[key] = value

    def _contain(self, value: Any) -> None:
        self._count()
        self.stack.append(value)

    def _count(self) -> None:
        self.containers += 1
        if self.containers > _MOST_CONTAINERS:
            damaged(self.path, f"its pickle holds more than {_MOST_CONTAINERS:,} lists, dicts and tensors")


_PUSHED = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine.protocol,
    "MARK": _Machine.mark,
    "EMPTY_LIST": _Machine.new_list,
    "EMPTY_DICT": _Machine.new_dict,
    "TUPLE": _Machine.new_tuple,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.set_state,
}
