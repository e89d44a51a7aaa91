"""What happens while one artifact is loaded: time, memory, files that are opened, code that runs."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import signal
import struct
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 15.0
"""Seconds after which the loading of one artifact is broken off."""

_OPEN, _MODIFY, _CREATE, _DELETE, _MOVED = 0x20, 0x2, 0x100, 0x200, 0xC0
_EVENT = struct.Struct("iIII")
_NONBLOCK = os.O_NONBLOCK
_MIB = 1 << 20

_CODE = ("pickle.find_class", "ctypes.dlopen", "os.system", "os.exec", "os.posix_spawn", "os.fork",
         "subprocess.Popen", "socket.connect", "socket.getaddrinfo", "urllib.Request")  # fmt: skip
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
)


class TooSlowError(BaseException):
    """Not an Exception, so that nothing that is tested can swallow it."""


@dataclass
class Seen:
    """What one trial did.

    Attributes:
        seconds: Of the processor.
        allocated: MiB above what was there before: the larger of what Python and numpy asked for and what the process held.
        events: Files outside the folder that were touched, and code that ran.
    """

    seconds: float = 0.0
    allocated: float = 0.0
    events: list[str] = field(default_factory=list)


class Watch:
    """Watches this process; one for each process, since audit hooks stay.

    Args:
        root: Folder above the artifact's; everything in it but the artifact's own folder is watched.
        folder: The artifact's.
    """

    def __init__(self, root: Path, folder: Path) -> None:
        self._folder = str(folder)
        self._allowed = tuple(
            {self._folder, sys.prefix, sys.base_prefix, str(Path(os.__file__).parent), "/proc/self", *sys.path}
        )
        self._seen: Seen | None = None
        self._inotify = _Inotify([path for path in (root, *folder.parents) if path.is_relative_to(root)], folder.name)
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, _give_up)
        tracemalloc.start()

    @contextmanager
    def watching(self) -> Iterator[Seen]:
        """While this is open everything is recorded."""
        seen = Seen()
        self._inotify.drain()
        tracemalloc.reset_peak()
        before, peak = tracemalloc.get_traced_memory()[0], _resident("VmRSS", reset=True)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        start = time.process_time()
        self._seen = seen
        try:
            yield seen
        finally:
            self._seen = None
            seen.seconds = time.process_time() - start
            signal.setitimer(signal.ITIMER_REAL, 0)
            traced = tracemalloc.get_traced_memory()[1] - before
            seen.allocated = max(traced / _MIB, _resident("VmHWM") - peak)
            seen.events.extend(self._inotify.drain())

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        seen = self._seen
        if seen is None:
            return
        if event in _CODE or event in _CHANGES:
            seen.events.append(f"{event} {str(arguments)[:100]}")
        elif event == "open" and isinstance(arguments[0], (str, bytes)):
            path = os.path.normpath(os.fsdecode(arguments[0]))
            writes = isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes or not path.startswith(self._allowed):
                seen.events.append(f"opened {path[:100]}{' to write' if writes else ''}")


class _Inotify:
    """Sees whoever opens a file in some folders, also libraries that are no Python. Linux only; silent elsewhere."""

    def __init__(self, folders: list[Path], but: str) -> None:
        self._but = but.encode()
        self._names: dict[int, str] = {}
        self._handle = -1
        if sys.platform != "linux":
            return
        libc = ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True)
        self._handle = libc.inotify_init1(_NONBLOCK)
        for folder in dict.fromkeys(folders):
            number = libc.inotify_add_watch(
                self._handle, os.fsencode(folder), _OPEN | _MODIFY | _CREATE | _DELETE | _MOVED
            )
            self._names[number] = str(folder)

    def drain(self) -> list[str]:
        """What has happened since the last time."""
        found = []
        while self._handle >= 0:
            try:
                data = os.read(self._handle, 1 << 16)
            except BlockingIOError:
                break
            place = 0
            while place < len(data):
                number, _, _, length = _EVENT.unpack_from(data, place)
                name = data[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\x00")
                place += _EVENT.size + length
                if name and name != self._but:
                    found.append(f"touched {self._names.get(number)}/{os.fsdecode(name)}")
        return found


def _give_up(*_: object) -> None:
    raise TooSlowError


def _resident(field_: str, *, reset: bool = False) -> float:
    """MiB that the process holds, or held at most since the last reset; 0 where the system does not say."""
    try:
        if reset:
            Path("/proc/self/clear_refs").write_text("5")
        line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field_))
    except (OSError, StopIteration):
        return 0.0
    return int(line.split()[1]) / 1024
