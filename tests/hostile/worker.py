"""A child process that loads damaged artifacts, with little memory and time; prints one line of JSON for each."""

from __future__ import annotations

import json
import os
import resource
import sys
import warnings
from pathlib import Path

sys.path.append(str(Path(__file__).parent))

from kinds import KINDS
from trials import Court

_HEADROOM = 1 << 30
_SECONDS = 900
_FILE_SIZE = 64 << 20


def confine() -> None:
    """From here on: a gibibyte of address space more than now, some minutes, and no large files."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_SIZE, _FILE_SIZE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(root: str, seed: str, *plan: str) -> None:
    """Try artifacts.

    Args:
        root: An empty folder.
        seed: A whole number.
        plan: For each kind "NAME:START:STOP".
    """
    warnings.simplefilter("ignore")
    wanted = [(name, range(int(start), int(stop))) for name, start, stop in (one.split(":") for one in plan)]
    kinds = {name: KINDS[name]() for name, _ in wanted}
    os.chdir(root)
    court = Court(Path(root), int(seed))
    for kind, numbers in wanted:
        confine_once()
        for trial in court.try_kind(kinds[kind], numbers):
            sys.stdout.write(json.dumps(trial.facts()) + "\n")
            sys.stdout.flush()


_done: list[bool] = []


def confine_once() -> None:
    """Confine this process unless it is."""
    if not _done:
        _done.append(True)
        confine()


if __name__ == "__main__":
    main(*sys.argv[1:])
