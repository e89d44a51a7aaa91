"""One trial: an artifact is damaged, loaded and judged."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from artifact import SECRET, Damaged, Files, Kind, write_folder
from watching import TooSlowError, Watch

from hf_langcore.errors import LangCoreError

Outcome = Literal[
    "refused", "equal", "other content", "accepted", "error", "slow", "large", "not alone", "hang", "crash"
]
GOOD = frozenset({"refused", "equal", "other content"})

SLOW = 4.0
"""Seconds of the processor that one artifact may take; most take milliseconds, one that declares billions of weights two."""
LARGE = 64.0
"""MiB that may be allocated for one artifact."""

_LONGEST = 2000
_LONGEST_CHAIN = 8000
_SHORTEST = 30
_ADVICE = ("expected", "should", "ownload", "pdate", "ompute", "ask ", "Ask", "Name ", "name ", "ut it right", "Pass", "ave ",
           "Write", "Keep", "Give", "Measure", "Copy", "Remove", "remove", "Say ", "Look", "Tell", "take ")  # fmt: skip


@dataclass
class Trial:
    """What became of one artifact.

    Attributes:
        kind: Of the artifact.
        damage: To it.
        number: With the seed it makes the same artifact again.
        outcome: What the library did.
        says: The refusal, or what is wrong.
        seconds: Of the processor.
        allocated: MiB.
    """

    kind: str
    damage: str
    number: int
    outcome: Outcome
    says: str
    seconds: float = 0.0
    allocated: float = 0.0

    def facts(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


class Court:
    """Damages and judges artifacts of all kinds in one folder.

    Args:
        root: An empty folder.
        seed: Equal seeds make equal artifacts.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self._folder = root / "a" / "b" / "artifact"
        self._folder.parent.mkdir(parents=True)
        self._outside = root / "outside"
        for place in (root, root / "a", root / "a" / "b"):
            (place / "outside").write_bytes(SECRET)
        self._root, self._seed = root, seed
        self._watch = Watch(root, self._folder)
        self._intact: dict[str, list[Any]] = {}

    def try_kind(self, kind: Kind, numbers: range) -> Iterator[Trial]:
        """Trials of one kind; the damages take turns."""
        if kind.name not in self._intact:
            self._intact[kind.name] = [self._load_intact(kind, files) for files in kind.variants]
        names = list(kind.damages)
        for number in numbers:
            yield self._try(kind, names[number % len(names)], number)

    def _load_intact(self, kind: Kind, files: Files) -> Any:
        self._write(files)
        for _ in range(2):  # what is imported at first use is imported now
            value = kind.load(self._folder)
        return value

    def _try(self, kind: Kind, damage: str, number: int) -> Trial:
        rng = random.Random(f"{self._seed}/{kind.name}/{number}")
        variant = rng.randrange(len(kind.variants))
        damaged = _damaged(rng, kind, variant, damage)
        self._write(damaged.files)
        names = {path.name for path in self._folder.iterdir()}
        trial = Trial(kind.name, damage, number, "error", "")
        result: Any = None
        with self._watch.watching() as seen:
            try:
                result = kind.load(self._folder)
            except LangCoreError as error:
                trial.outcome, trial.says = _judged_message(error)
            except TooSlowError:
                trial.outcome, trial.says = "hang", "it was broken off"
            except Exception as error:  # noqa: BLE001 whatever else it is, it is wrong
                trial.says = f"{type(error).__name__}: {str(error)[:300]}"
            else:
                trial.outcome = "accepted"
        trial.seconds, trial.allocated = seen.seconds, seen.allocated
        if trial.outcome == "accepted":
            self._judge_value(trial, kind, result, self._intact[kind.name][variant], damaged)
        self._judge_rest(trial, seen.events, damaged.files, names)
        return trial

    def _judge_value(self, trial: Trial, kind: Kind, result: Any, intact: Any, damaged: Damaged) -> None:
        if result == intact:
            trial.outcome = "equal"
        elif damaged.may_differ:
            trial.outcome = "other content"
        elif kind.reference is not None:
            try:
                expected = kind.reference(self._folder)
            except Exception as error:  # noqa: BLE001 other readers raise anything
                trial.says = f"read, where another reader says {type(error).__name__}: {str(error)[:200]}"
                return
            trial.outcome = "other content" if result == expected else "accepted"
            trial.says = "" if result == expected else "read as something else than another reader reads"
        else:
            trial.says = f"read as another artifact: {_difference(repr(intact), repr(result))}"

    def _judge_rest(self, trial: Trial, events: list[str], files: Files, names: set[str]) -> None:
        linked = any(content in {"outside", "zeros"} for content in files.values() if isinstance(content, str))
        events = [event for event in events if not (linked and "to write" not in event and "outside" in event)]
        if {path.name for path in self._folder.iterdir()} != names:
            events.append("the folder holds other files than before")
        for path in self._root.rglob("canary*"):
            events.append("code of the artifact ran")
            path.unlink()
        if trial.outcome not in GOOD:
            return
        if events:
            trial.outcome, trial.says = "not alone", "; ".join(events[:4])
        elif trial.seconds > SLOW:
            trial.outcome, trial.says = "slow", f"{trial.seconds:.1f} s. {trial.says}"
        elif trial.allocated > LARGE:
            trial.outcome, trial.says = "large", f"{trial.allocated:.0f} MiB. {trial.says}"

    def _write(self, files: Files) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        write_folder(self._folder, files, self._outside)


def _damaged(rng: random.Random, kind: Kind, variant: int, damage: str) -> Damaged:
    """A damage that changes something."""
    files = kind.variants[variant]
    for _ in range(20):
        made = kind.damages[damage](rng, dict(files))
        made = made if isinstance(made, Damaged) else Damaged(made)
        if made.files != files:
            return made
    raise AssertionError(f"{damage} does not change {kind.name}")


def _difference(intact: str, found: str) -> str:
    """Where two texts begin to differ."""
    same = next(
        (place for place, (a, b) in enumerate(zip(intact, found, strict=False)) if a != b),
        min(len(intact), len(found)),
    )
    start = max(same - 60, 0)
    return f"...{intact[start : same + 60]}... became ...{found[start : same + 60]}..."


def _judged_message(error: LangCoreError) -> tuple[Outcome, str]:
    """A refusal must say what is wrong and what to do, in bounded length, and nothing of other files."""
    said = str(error)
    chain, one = [], error.__cause__ or error.__context__
    while one is not None and len(chain) < 100:
        chain.append(str(one))
        one = one.__cause__ or one.__context__
    problem = ""
    if not _SHORTEST <= len(said) < _LONGEST:
        problem = f"a message of {len(said)} characters"
    elif len("".join(chain)) > _LONGEST_CHAIN:
        problem = f"causes of {len(''.join(chain))} characters"
    elif not said.replace("\n", "").isprintable():
        problem = "signs that are not printable"
    elif "secret of another" in said + "".join(chain):
        problem = "content of another file"
    elif not any(word in said for word in _ADVICE):
        problem = "no advice"
    return ("error", f"{problem} in {type(error).__name__}: {said[:300]}") if problem else ("refused", said[:300])
