"""All benchmarks in one run: `make bench`.

    python tests/benchmarks/run.py --write docs/performance.md
    python tests/benchmarks/run.py --only training --write docs/performance.md

Every figure is a ratio of two things measured in turns in the same process, the median of several; absolute times
belong to the machine. Nothing here is a test: a busy machine must not break a build.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import metadata
from pathlib import Path

import artifact
import scan
import torch
from adapter_memory import extra_bytes_per_parameter
from freezing import LARGE, peak, restoring
from models import Setting, forward_of, silence_upstream, step_of
from paired import Ratio, ratio

_MARKS = {
    "training": "<!-- figures of training: written by `make bench` -->",
    "adapters": "<!-- figures of adapters: written by `make bench` -->",
    "artifact": "<!-- figures of artifact: written by `make bench` -->",
    "scan": "<!-- figures of scan: written by `make bench` -->",
}
_VERSIONS = ("torch", "transformers", "peft")


def main() -> None:
    """Run everything and print, or write below the mark of a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="Markdown page whose figures are replaced")
    parser.add_argument("--repeats", type=int, default=5, help="measured pairs of each case")
    parser.add_argument("--only", choices=list(_MARKS), help="measure one part")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    silence_upstream()
    parts = {
        "training": lambda: [_freezing(options)],
        "adapters": lambda: [_steps(options), _inference(options), _memory()],
        "artifact": lambda: [_load(), *artifact.tables(repeats=options.repeats)],
        "scan": lambda: [_load(), scan.table(repeats=options.repeats)],
    }
    for part, measure in parts.items():
        if options.only in {None, part}:
            figures = "\n\n".join([_machine(options.device), *measure()])
            print(figures) if options.write is None else _write(options.write, part, figures)


def _write(page: Path, part: str, figures: str) -> None:
    """Replace the figures of one part: from its mark to the next one, or to the end."""
    before, _, rest = page.read_text(encoding="utf-8").partition(_MARKS[part])
    others = [rest.find(mark) for mark in _MARKS.values() if mark in rest]
    after = rest[min(others) :] if others else ""
    page.write_text(f"{before}{_MARKS[part]}\n\n{figures}\n" + (f"\n{after}" if after else ""), encoding="utf-8")


def _machine(device: str) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _VERSIONS)
    where = torch.cuda.get_device_name() if device == "cuda" else f"{platform.machine()} CPU"
    return f"{where}, {torch.get_num_threads()} threads, {os.cpu_count()} cores; Python {platform.python_version()}, {versions}."


def _load() -> str:
    average = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return f"Load average before: {average}."


def _freezing(options: argparse.Namespace) -> str:
    """Full fine-tuning: what restoring adds to a step, timed apart and as whole steps in turns, and its memory."""
    head = (
        "| case | tokens | 1 + restore / step | whole steps in turns: median (smallest to largest) | step, ms | restore, ms "
        "| held, bytes per parameter | peak, more than plain |\n| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
    )
    rows = []
    base = Setting(device=options.device)
    for dtype in (torch.float32, torch.bfloat16):
        for way, fraction in (("compact", 0.01), ("compact", 0.05), ("published", 0.01), ("anchor", 0.01)):
            for tokens in (2048, 512) if way == "compact" else (2048,):
                setting = base.but(dtype=dtype, fraction=fraction, tokens=tokens)
                rows.append(_freezing_row(way, setting, options))
    return "\n".join(["### Step of full fine-tuning", "", head, *rows])


def _freezing_row(way: str, setting: Setting, options: argparse.Namespace) -> str:
    ours, plain = restoring(way, setting), restoring("plain", setting)
    step, after = ours.share(repeats=options.repeats)
    whole = ratio(ours.both, plain.both, repeats=options.repeats, warmups=1)
    names = {"compact": "frozen core", "published": "published restore", "anchor": "uniform anchor"}
    share = "" if way == "anchor" else f" {setting.fraction:.0%}"
    dtype = str(setting.dtype).removeprefix("torch.")
    more = "" if setting.tokens != Setting().tokens else f"{_more(way, setting):.3f}"
    row = (
        f"| {dtype}, {names[way]}{share} | {setting.tokens} | {1 + after / step:.4f} | {whole} | {step * 1000:.0f} "
        f"| {after * 1000:.1f} | {ours.nbytes / ours.parameters:.3f} | {more} |"
    )
    print(row, file=sys.stderr)
    return row


def _more(way: str, setting: Setting) -> float:
    """Peak of a whole process over that of plain training, in bytes per parameter of the larger model used for it."""
    parameters = sum(one.numel() for one in LARGE.but(dtype=setting.dtype).base().parameters())
    return (peak(way, setting.fraction, setting.dtype) - peak("plain", 0.01, setting.dtype)) / parameters


def _steps(options: argparse.Namespace) -> str:
    plain = Setting(device=options.device)
    cases = {
        "float32, random 1 %, 2048 tokens": plain,
        "float32, random 1 %, 512 tokens": plain.but(tokens=512),
        "float32, magnitude 1 %, 2048 tokens": plain.but(method="magnitude"),
        "float32, random 30 %, 2048 tokens": plain.but(fraction=0.3),
        "bfloat16, random 1 %, 2048 tokens": plain.but(dtype=torch.bfloat16),
        "bfloat16, random 1 %, 512 tokens": plain.but(dtype=torch.bfloat16, tokens=512),
        "bfloat16 autocast, random 1 %, 2048 tokens": plain.but(autocast=True),
    }
    rows = []
    for name, setting in cases.items():
        measured = ratio(
            step_of(setting.core_region(), setting), step_of(setting.lora(), setting), repeats=options.repeats
        )
        rows.append(_row(name, measured))
    return _table("Training step, masked adapter / LoRA", rows)


def _inference(options: argparse.Namespace) -> str:
    setting = Setting(device=options.device)
    one = setting.but(tokens=512)
    merged = setting.core_region()
    merged.merge_adapter()
    pairs = {
        "2048 tokens, merged / base model": (merged, setting.base(), setting),
        "512 tokens, merged / base model": (merged, setting.base(), one),
        "2048 tokens, unmerged / LoRA unmerged": (setting.core_region(), setting.lora(), setting),
        "512 tokens, unmerged / LoRA unmerged": (setting.core_region(), setting.lora(), one),
    }
    rows = [
        _row(name, ratio(forward_of(ours, case), forward_of(theirs, case), repeats=options.repeats))
        for name, (ours, theirs, case) in pairs.items()
    ]
    rows.append(_row("generating 32 tokens, unmerged / LoRA unmerged", _generation(setting, options.repeats)))
    return _table("Inference", rows)


def _generation(setting: Setting, repeats: int) -> Ratio:
    ids = setting.batch()[:1, :16]
    models = [setting.core_region().eval(), setting.lora().eval()]

    def generate(model: torch.nn.Module) -> object:
        return model.generate(input_ids=ids, min_new_tokens=32, max_new_tokens=32, do_sample=False, pad_token_id=0)  # type: ignore[operator]

    return ratio(lambda: generate(models[0]), lambda: generate(models[1]), repeats=repeats)


def _memory() -> str:
    held, peak = extra_bytes_per_parameter()
    return (
        "### Memory of training, more than LoRA\n\n| | bytes per base parameter |\n| --- | ---: |\n"
        f"| held between steps (mask and index of the core) | {held:.3f} |\n| peak of the process | {peak:.3f} |"
    )


def _row(name: str, measured: Ratio) -> str:
    print(f"{name}: {measured}", file=sys.stderr)
    return f"| {name} | {measured} | {measured.ours * 1000:.0f} | {measured.theirs * 1000:.0f} |"


def _table(title: str, rows: list[str]) -> str:
    head = "| case | ratio: median (smallest to largest) | ours, ms | theirs, ms |\n| --- | --- | ---: | ---: |"
    return "\n".join([f"### {title}", "", head, *rows])


if __name__ == "__main__":
    main()
