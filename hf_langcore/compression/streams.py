"""Files in blocks: nothing here holds more than one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from hf_langcore.errors import InputError
from hf_langcore.files import replace_file


def read_blocks(source: BinaryIO, block_bytes: int) -> Iterator[bytes]:
    """The input in blocks, cut behind a line or in front of a space where there is one, and never inside a character."""
    rest = b""
    while True:
        parts = [rest]
        missing = block_bytes - len(rest)
        while missing > 0 and (part := source.read(missing)):
            parts.append(part)
            missing -= len(part)
        data = b"".join(parts)
        if missing > 0:
            break
        cut = _cut(data)
        yield data[:cut]
        rest = data[cut:]
    if data:
        yield data


def _cut(data: bytes) -> int:
    half = len(data) // 2
    for mark, behind in ((b"\n", 1), (b" ", 0)):
        place = data.rfind(mark, half)
        if place > 0:
            return place + behind
    for back in range(1, 5):
        if data[-back] & 0xC0 != 0x80:  # noqa: PLR2004 the first byte of a character
            return len(data) - back
    return len(data)


@contextmanager
def opened(source: str | Path | BinaryIO) -> Iterator[BinaryIO]:
    """A file opened for reading bytes; one that is open already stays open.

    Raises:
        InputError: There is no such file.
    """
    if not isinstance(source, (str, Path)):
        yield source
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise InputError(f"There is no file {str(source)!r}. Name an existing one.") from error
        yield file


def write_to(target: str | Path | BinaryIO, write: Callable[[BinaryIO], object]) -> None:
    """Write into an open file, or into a path that is replaced in one step when all is written."""
    if not isinstance(target, (str, Path)):
        write(target)
        return

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            write(file)

    replace_file(Path(target), fill)
