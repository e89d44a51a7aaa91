"""The matrix of optimizer x precision x distribution: `make matrix`.

    python tests/matrix/run.py --write docs/exactness.md

Each cell is trained twice, with the freeze and with gradient masking only, under the plain Trainer of transformers; cells
that have been trained already by the same code are taken from the state folder, so that the command can be interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "distributed"))

from cells import DISTRIBUTIONS, Cell, cells_of
from launching import CONFIG_OF, PROCESSES, command, start, stop
from page import figures, problems, rewrite

import hf_langcore

STALL = 240
"""Seconds without a finished cell after which a launch is ended: one process failed and the others wait for it."""

_VERSIONS = ("torch", "transformers", "accelerate", "deepspeed", "bitsandbytes", "lion-pytorch", "schedulefree")
_LAUNCHES = {"DDP": "ddp", "FSDP2": "fsdp2", "ZeRO-2": "zero2", "ZeRO-3": "zero3"}
_HERE = Path(__file__).parent

Results = dict[str, dict[str, Any]]


def main() -> int:
    """Run what is missing, print, and write the page; 1 where a cell is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="Markdown page whose part below the matrix's mark is replaced")
    parser.add_argument("--state", type=Path, default=Path("build/matrix"), help="folder for finished cells")
    parser.add_argument("--fresh", action="store_true", help="train all cells again")
    parser.add_argument("--only", choices=list(DISTRIBUTIONS), help="one distribution")
    options = parser.parse_args()
    state = options.state / _code()
    if options.fresh:
        shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes are ended, too
    results: Results = {}
    for distribution in [options.only] if options.only else DISTRIBUTIONS:
        run(distribution, state.resolve())
        results = {key: result for name in DISTRIBUTIONS for key, result in finished(name, state).items()}
        if options.write is not None:
            rewrite(options.write, figures(results, machine=_machine()))
    if options.write is None:
        print(figures(results, machine=_machine()))  # noqa: T201
    found = problems(results)
    print("\n".join(found) or f"{len(results)} cells, all as they must be.")  # noqa: T201
    return 1 if found else 0


def run(distribution: str, state: Path) -> None:
    """Launch until every cell of a distribution has a result.

    Args:
        distribution: A key of DISTRIBUTIONS.
        state: Folder of the results.
    """
    while missing := [cell for cell in cells_of(distribution) if cell.key not in finished(distribution, state)]:
        print(f"{distribution}: {len(missing)} cells to train", flush=True)  # noqa: T201
        folder = state / distribution.replace(" ", "-") / str(time.time_ns())
        folder.mkdir(parents=True)
        reason = _watch(distribution, missing, folder)
        _note_unfinished(folder, missing, reason)


def finished(distribution: str, state: Path) -> Results:
    """Cell -> result, as the worst of all processes saw it."""
    processes = PROCESSES if distribution in _LAUNCHES else 1
    merged: Results = {}
    for folder in sorted((state / distribution.replace(" ", "-")).glob("*")):
        ranks = [_results(folder / f"rank-{rank}.jsonl") for rank in range(processes)]
        for key in ranks[0]:
            seen = [rank[key] for rank in ranks if key in rank]
            if len(seen) == processes:
                merged[key] = _worst(seen)
    return merged


def _worst(seen: list[dict[str, Any]]) -> dict[str, Any]:
    failed = [one for one in seen if "error" in one]
    if failed:
        return failed[0]
    most = {name: max(one[name] for one in seen) for name in ("core", "masters", "masters_seen", "seconds")}
    return {**seen[0], **most, "complement": min(one["complement"] for one in seen)}


def _watch(distribution: str, missing: list[Cell], folder: Path) -> str:
    """Start the processes and print each cell as it is finished; returns why they ended."""
    keys = [cell.key for cell in missing]
    script, arguments = _HERE / "cells.py", [distribution, str(folder), *keys]
    line = [sys.executable, str(script), *arguments]
    if distribution in _LAUNCHES:
        line = command(_LAUNCHES[distribution], script, *arguments)
    process = start(line, folder=folder, log=folder / "log.txt")
    shown, since = 0, time.monotonic()
    try:
        while True:
            is_over = process.poll() is not None
            done = list(_results(folder / "rank-0.jsonl").values())
            for result in done[shown:]:
                since = time.monotonic()
                print(f"  {_line(result)}", flush=True)  # noqa: T201
            shown = len(done)
            if is_over:
                return _last_error(folder / "log.txt") if process.returncode else "unfinished"
            if time.monotonic() - since > STALL:
                return f"no result within {STALL} s: one process failed while the other waited for it"
            time.sleep(0.5)
    finally:
        if process.poll() is None:
            stop(process)


def _note_unfinished(folder: Path, missing: list[Cell], reason: str) -> None:
    """A cell that was begun and not finished, by any process, gets the reason as its error, so that it is not tried again.

    Raises:
        RuntimeError: No cell was even begun.
    """
    paths = sorted(folder.glob("rank-*.jsonl"))
    begun = {line["begins"] for path in paths for line in _lines(path) if "begins" in line}
    if not begun:
        raise RuntimeError(f"The processes ended before the first cell ({reason}); see {folder / 'log.txt'}.")
    for cell in missing:
        for path in paths:
            if cell.key in begun and cell.key not in _results(path):
                entry = {"key": cell.key, "error": reason, "without": {}, "seconds": 0.0}  # whose fault is not known
                entry |= {"distribution": cell.distribution, "precision": cell.precision}
                entry |= {"optimizer": cell.optimizer, "way": cell.way}
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(entry) + "\n")


def _results(path: Path) -> Results:
    return {line["key"]: line for line in _lines(path) if "key" in line}


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):  # the last one may still be being written
            yield json.loads(line)


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{result['key']}: does not run: {result['error'][:100]}"
    return (
        f"{result['key']}: core {result['core']} of {result['size']}, masters {result['masters']}, "
        f"others {result['complement']} ({result['seconds']} s)"
    )


def _last_error(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if "Error" in line]
    return lines[-1][:300] if lines else "the processes ended without a message"


def _code() -> str:
    """A digest of what decides the results."""
    training = Path(hf_langcore.__file__).parent / "training"
    used = [training / f"{name}.py" for name in ("freeze", "freezer", "holdings")]
    used += [_HERE / "cells.py", _HERE / "optimizers.py"]
    used += [_HERE.parent / "distributed" / f"{name}.py" for name in ("tiny", "counting", "strategies")]
    used += [training / "accelerate_configs" / f"{name}.yaml" for name in CONFIG_OF.values()]
    return hashlib.sha256(b"".join(path.read_bytes() for path in used)).hexdigest()[:16]


def _machine() -> str:
    versions = [f"{name} {metadata.version(name)}" for name in _VERSIONS if _is_installed(name)]
    return f"{platform.machine()} CPU, Python {platform.python_version()}, {', '.join(versions)}."


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
