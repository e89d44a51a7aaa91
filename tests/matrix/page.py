"""The page of the matrix: tables of what was counted, and what did not run with its error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cells import DISTRIBUTIONS, PRECISIONS, STEPS
from optimizers import CHECK, LEARNING_RATE, OPTIMIZERS, WEIGHT_DECAY

from hf_langcore.files import replace_text

MARK = "<!-- matrix: everything from here to the next mark or the end is written by `make matrix` -->"

_PREAMBLE = f"""{STEPS} steps of the plain Trainer on a Llama whose sizes two processes cannot share evenly, with a random core of {{size}} weights,
norms included; learning rate {LEARNING_RATE:g}, gradients clipped, and weight decay {WEIGHT_DECAY:g}, though not on norms, whose core the
control therefore keeps. Each pair is the number of core weights whose bits changed *with the freeze* · *with gradient
masking only*, the control. Weights are gathered from all processes. With ZeRO the first figure counts weights and float32
masters together, and the control masks before gradients are reduced.

FSDP2, which accelerate replaces by DDP on CPUs, and float16 autocast with loss scaling, which it leaves out there, are
switched on by patches of `tests/distributed/strategies.py`. "bf16 weights" under ZeRO are a bfloat16 model in DeepSpeed's
bfloat16 mode, with float32 masters. Muon steps matrices only. The 8 bits are those of bitsandbytes on CPUs."""

Results = dict[str, dict[str, Any]]


def rewrite(path: Path, text: str) -> None:
    """Replace what is below the matrix's mark; other parts of the page stay."""
    page = path.read_text(encoding="utf-8") if path.is_file() else ""
    before, _, after = page.partition(MARK)
    _, other, rest = after.partition("\n<!-- ")
    replace_text(path, f"{before.rstrip()}\n\n{MARK}\n\n{text}\n{other}{rest}".lstrip())


def problems(results: Results) -> list[str]:
    """Every cell that is not as it must be, in words."""
    return [f"{key}: {problem}" for key, result in results.items() if (problem := _problem(result))]


def _problem(result: dict[str, Any]) -> str | None:
    if "error" in result:
        is_own = "error" not in result.get("without", {})
        return f"fails only because of the {result['way']}: {result['error']}" if is_own else None
    if not result["complement"]:
        return "no weight outside the core changed"
    if result["way"] == "freeze" and result["core"] + result["masters"]:
        return f"{result['core']} core weights and {result['masters']} masters changed"
    if result["optimizer"] == CHECK:
        return "the control does not mask gradients" if result["core"] else None
    if result["way"] == "masking" and not result["core"]:
        return "gradient masking alone kept the core, so that the cell shows nothing"
    return None


def figures(results: Results, *, machine: str) -> str:
    """Everything below the mark."""
    notes: list[str] = []
    size = next((result["size"] for result in results.values() if "size" in result), 0)
    head, rule = " | ".join(DISTRIBUTIONS), "| --- " * 2 + "| ---: " * len(DISTRIBUTIONS) + "|"
    frozen = [_row(results, optimizer, precision, _counts, notes) for optimizer, precision in _rows()]
    moved = [_row(results, optimizer, precision, _moved, []) for optimizer, precision in _rows()]
    seconds = sum(result["seconds"] for result in results.values())
    checked = [result for result in results.values() if result["optimizer"] == CHECK]
    masked = sum(not result.get("error") and not result["core"] for result in checked)
    return "\n".join(
        [
            "## The matrix: core weights whose bits changed",
            "",
            _PREAMBLE.format(size=size),
            "",
            f"| optimizer | precision | {head} |",
            rule,
            *frozen,
            "",
            f"The control does mask: with {CHECK} it leaves the core as it is in {masked} of {len(checked)} distributions.",
            "",
            *[f"{number}. {note}" for number, note in enumerate(notes, 1)],
            "",
            "## The matrix: other weights of the same tensors that changed under the freeze",
            "",
            f"| optimizer | precision | {head} |",
            rule,
            *moved,
            "",
            f"Two processes with gloo where there are two; {seconds / 60:.0f} minutes of training in all. {machine}",
        ]
    )


def _rows() -> list[tuple[str, str]]:
    return [(optimizer, precision) for optimizer in OPTIMIZERS for precision in PRECISIONS]


def _row(results: Results, optimizer: str, precision: str, show: Any, notes: list[str]) -> str:
    cells = []
    for distribution in DISTRIBUTIONS:
        ways = [results.get(f"{distribution} | {precision} | {optimizer} | {way}") for way in ("freeze", "masking")]
        cells.append(show(*ways, notes))
    return f"| {optimizer} | {precision} | {' | '.join(cells)} |"


def _counts(freeze: dict[str, Any] | None, masking: dict[str, Any] | None, notes: list[str]) -> str:
    if freeze is None or masking is None:
        return "not run"
    return f"{_count(freeze, notes)} · {_count(masking, notes)}" if "error" not in freeze else _count(freeze, notes)


def _count(result: dict[str, Any], notes: list[str]) -> str:
    if "error" not in result:
        masters = result["masters"] if result["way"] == "freeze" else 0
        return f"{result['core'] + masters}"
    error = result["without"].get("error")
    whose = "Does not run, with or without the freeze" if error else f"Fails with the {result['way']}"
    note = f"{whose}: {' '.join((error or result['error']).split())[:240]}"
    if note not in notes:
        notes.append(note)
    return f"- ({notes.index(note) + 1})"


def _moved(freeze: dict[str, Any] | None, masking: dict[str, Any] | None, notes: list[str]) -> str:
    if freeze is None or "error" in freeze:
        return "-"
    return f"{freeze['complement']:,}"
