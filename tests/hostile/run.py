"""Loads damaged and hostile artifacts of all kinds in a confined process, and prints what became of them.

    python tests/hostile/run.py --count 10000
    python tests/hostile/run.py --count 10000 --write docs/security.md

Equal seeds make equal artifacts. With `--write` the table in a page is replaced, between the two comments that mark it.
The exit code is 1 if one artifact was not refused as it should be.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.append(str(FOLDER))

GOOD = ("refused", "equal", "other content")
BEGIN, END = "<!-- hostile artifacts: begin -->", "<!-- hostile artifacts: end -->"
KIND_NAMES = (
    "core mask", "adapter", "results", "reference", "card", "search listing", "importance scores", "values of a frozen core", "report",
    "LAPE neurons (.pth)", "sparse differences (.bin)", "SHiRA adapter", "boolean safetensors", "boolean arrays (.npy, .npz)",
)  # fmt: skip

_FIRST, _NEXT = (
    180.0,
    30.0,
)  # seconds until the first answer of a process, with its imports, and until each further one

Plan = list[tuple[str, int, int]]


def plan_of(count: int, names: Sequence[str] = KIND_NAMES) -> Plan:
    """At least `count` artifacts, the same number of each kind."""
    each = -(-count // len(names))
    return [(name, 0, each) for name in names]


def trials(plan: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """Try all artifacts; a process that hangs or dies is replaced, and what it was trying is recorded."""
    left = [part for part in plan if part[1] < part[2]]
    while left:
        yield from _until_it_stops(left, seed)


def _until_it_stops(left: Plan, seed: int) -> Iterator[dict[str, Any]]:
    """The answers of one process; takes from `left` what has been tried."""
    with tempfile.TemporaryDirectory() as root, tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [
                sys.executable,
                str(FOLDER / "worker.py"),
                root,
                str(seed),
                *(f"{name}:{start}:{stop}" for name, start, stop in left),
            ],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        assert process.stdout is not None
        answers: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(process.stdout, answers), daemon=True)
        reader.start()
        wait, outcome = _FIRST, "crash"
        try:
            while line := answers.get(timeout=wait):
                wait = _NEXT
                _advance(left)
                yield json.loads(line)
        except queue.Empty:
            outcome = "hang"
        process.kill()
        process.wait()
        reader.join()
        process.stdout.close()
        if not left:
            return
        errors.seek(0)
        said = errors.read()[-2000:]
        if wait == _FIRST and outcome == "crash":
            raise RuntimeError(f"the process that loads artifacts did not start:\n{said}")
        name, number, _ = left[0]
        _advance(left)
        words = f"no answer in {wait:g} s" if outcome == "hang" else f"exit code {process.returncode}: {said[-300:]}"
        yield {
            "kind": name,
            "damage": "?",
            "number": number,
            "outcome": outcome,
            "says": words,
            "seconds": 0.0,
            "allocated": 0.0,
        }


def _read(lines: Iterable[str], answers: queue.Queue[str | None]) -> None:
    for line in lines:
        answers.put(line)
    answers.put(None)


def _advance(left: Plan) -> None:
    name, number, stop = left[0]
    left[0] = (name, number + 1, stop)
    if number + 1 >= stop:
        left.pop(0)


def failures(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trials that went wrong."""
    return [trial for trial in found if trial["outcome"] not in GOOD]


def table(found: Sequence[dict[str, Any]]) -> str:
    """One row for each kind of artifact and damage."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for trial in found:
        groups[trial["kind"], trial["damage"]].append(trial)
    groups["**all**", ""] = list(found)
    lines = [
        "| artifact | damage | tried | refused | equal | other content | accepted wrongly | other errors | slowest, s | most memory, MiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [_row(kind, damage, group) for (kind, damage), group in groups.items()]
    return "\n".join(lines) + "\n"


def _row(kind: str, damage: str, group: Sequence[dict[str, Any]]) -> str:
    counts = Counter(trial["outcome"] for trial in group)
    wrong = sum(counts.values()) - sum(counts[name] for name in (*GOOD, "accepted"))
    cells = [
        kind, damage, len(group), *(counts[name] for name in GOOD), counts["accepted"], wrong,
        f"{max(trial['seconds'] for trial in group):.2f}", f"{max(trial['allocated'] for trial in group):.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def _write(page: Path, text: str) -> None:
    content = page.read_text(encoding="utf-8")
    before, _, rest = content.partition(BEGIN)
    _, _, after = rest.partition(END)
    if not rest or not after:
        raise SystemExit(f"{page} has no place for the table: the comments {BEGIN} and {END} are missing.")
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="artifacts in all, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kind", action="append", choices=KIND_NAMES, help="only this kind; may be given several times"
    )
    parser.add_argument("--write", type=Path, help="page whose table is replaced")
    parser.add_argument("--log", type=Path, help="file that gets one line of JSON for each artifact")
    options = parser.parse_args()
    found = []
    for trial in trials(plan_of(options.count, options.kind or KIND_NAMES), options.seed):
        found.append(trial)
        if len(found) % 500 == 0:
            sys.stderr.write(f"{len(found)} tried, {len(failures(found))} wrong\n")
    if options.log:
        options.log.write_text("".join(json.dumps(trial) + "\n" for trial in found))
    text = f"\n{len(found):,} artifacts, seed {options.seed}.\n\n{table(found)}"
    sys.stdout.write(text)
    for trial in failures(found)[:60]:
        sys.stderr.write(
            f"{trial['kind']} {trial['number']} ({trial['damage']}): {trial['outcome']}: {trial['says']}\n"
        )
    if options.write:
        _write(options.write, text)
    return 1 if failures(found) else 0


if __name__ == "__main__":
    sys.exit(main())
