"""Runs PEFT's own test-suite with CORE_REGION in LoRA's place, and reports what fails.

    python tests/conformance/peft_suite.py --method both -n 2 --report conformance.md

The suite is not part of this repository: it comes from PEFT's source distribution of the installed version, is copied to
a temporary folder and rewritten while it is imported (`swap.py`, `rewriting.py`). Models that the suite asks the Hub for
are made here, tiny and random (`local_hub.py`). No network is needed once the source distribution is there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FILES = (
    "test_custom_models.py",
    "test_decoder_models.py",
    "test_config.py",
    "test_initialization.py",
    "test_low_level_api.py",
    "test_hub_features.py",
    "test_tuners_utils.py",
    "test_target_parameters.py",
    "test_trainable_tokens.py",
    "test_mapping.py",
    "test_encoder_decoder_models.py",
    "test_seq_classifier.py",
    "test_feature_extraction_models.py",
    "test_token_classification_qa.py",
    "test_other.py",
    "test_helpers.py",
    "test_auto.py",
    "test_integrations.py",
)
"""The files with tests that are not about one method, or that are about what CORE_REGION shares with LoRA."""

COMPILE_FILE = "test_torch_compile.py"
"""Slow; only with --compile."""

KNOWN: dict[str, str] = {
    "test_load_resized_embedding_ignore_mismatched_sizes": (
        "by design: the core of an embedding with 100 rows says nothing about one with 105, so the adapter is refused"
    ),
    "test_set_peft_model_state_dict_preserves_input": (
        "by design: the test loads weights into a model with other base weights, hence with another core by magnitude"
    ),
}
"""Tests that fail on purpose -> why. They count as failed, and do not make the run fail."""

_INI = """[pytest]
filterwarnings =
    ignore::pytest.PytestUnknownMarkWarning
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one test.

    Attributes:
        test: Its id.
        outcome: "passed", "failed", "skipped" (by the suite itself), "xfailed", "not applicable" or "unrelated".
        reason: Why it was skipped or left out, or the first line of the error.
    """

    test: str
    outcome: str
    reason: str

    @property
    def file(self) -> str:
        """The module of the suite."""
        return self.test.partition("::")[0].rpartition("/")[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for.

    Returns:
        0 if nothing failed but what is KNOWN to, 1 if something did.
    """
    options = _parser().parse_args(arguments)
    methods = ("random", "magnitude") if options.method == "both" else (options.method,)
    with tempfile.TemporaryDirectory(prefix="peft-suite-") as name:
        work = Path(options.work or name)
        prepare(work, options.source)
        outcomes = {method: run(work, method, options) for method in methods}
        failing = {item.test for results in outcomes.values() for item in results if item.outcome == "failed"}
        baseline: list[Outcome] = []
        if options.baseline and failing:
            baseline = run(work, "lora", options, only=sorted({test.partition("[")[0] for test in failing}))
    report = render(outcomes, {_with_loras_names(item.test): item for item in baseline} if options.baseline else None)
    if options.report:
        Path(options.report).write_text(report, encoding="utf-8")
    else:
        print(report)  # noqa: T201
    return 1 if any(_why(test) is None for test in failing) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run PEFT's own test-suite with CORE_REGION in LoRA's place.")
    parser.add_argument(
        "--source", help="PEFT's source distribution, a folder or a tar file; by default it is fetched"
    )
    parser.add_argument(
        "--method",
        choices=["random", "magnitude", "both", "lora"],
        default="both",
        help='the mask; "lora" runs the suite as it is',
    )
    parser.add_argument("--select", default="", help="passed to pytest as -k")
    parser.add_argument("--files", nargs="+", default=list(FILES), metavar="FILE", help="modules of the suite")
    parser.add_argument("--compile", action="store_true", help=f"also {COMPILE_FILE}, which is slow")
    parser.add_argument("-n", dest="workers", default="0", help="worker processes (pytest-xdist)")
    parser.add_argument("--fraction", type=float, default=0.3, help="share of each tensor that is core")
    parser.add_argument("--timeout", type=float, default=7200, help="seconds for one run of the suite")
    parser.add_argument(
        "--baseline", action="store_true", help="run what fails with LoRA too, to tell failures of this set-up"
    )
    parser.add_argument("--report", metavar="FILE", help="Markdown file to write; printed without it")
    parser.add_argument(
        "--work", metavar="FOLDER", help="keep the copied suite and the made models there for the next run"
    )
    parser.add_argument("--log", metavar="FOLDER", help="keep pytest's output there, one file per method")
    return parser


# --- Preparing -------------------------------------------------------------------------------------------------------


def prepare(work: Path, source: str | None) -> None:
    """Lay out the suite and the stand-in for the Hub, unless an earlier run left them."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "tests").is_dir():
        lay_out_suite(_source(source, work), work)
    if not (work / "hub").is_dir():
        for line in lay_out_hub(work):
            print(f"not on the stand-in for the Hub: {line}", file=sys.stderr)  # noqa: T201


def _source(given: str | None, work: Path) -> Path:
    """Folder of the unpacked source distribution."""
    path = Path(given) if given else _download(work / "download")
    if path.is_dir():
        return path
    target = work / "source"
    with tarfile.open(path) as archive:
        archive.extractall(target, filter="data")
    return next(folder.parent for folder in target.rglob("tests") if (folder / "testing_common.py").is_file())


def _download(folder: Path) -> Path:
    version = importlib.metadata.version("peft")
    what = ["--no-binary", "peft", "--no-deps", "--no-build-isolation", f"peft=={version}"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *what, "--dest", folder], check=True)
    return next(folder.glob("peft-*.tar.gz"))


def lay_out_suite(source: Path, work: Path) -> None:
    """Copy the suite's Python files and make them a package, which the source distribution leaves to the repository.

    Raises:
        FileNotFoundError: `source` has no test-suite.
    """
    tests = source / "tests"
    if not (tests / "testing_common.py").is_file():
        raise FileNotFoundError(f"{str(source)!r} expected PEFT's source distribution, with tests/testing_common.py.")
    target = work / "tests"
    target.mkdir()
    for file in tests.glob("*.py"):
        (target / file.name).write_bytes(file.read_bytes())
    (target / "__init__.py").touch()
    (work / "pytest.ini").write_text(_INI)


def lay_out_hub(work: Path) -> list[str]:
    """Make the stand-in for the Hub in a process of its own, so that nothing of it lingers in this one.

    Returns:
        What could not be made.

    Raises:
        RuntimeError: None of it could, which says that an import fails.
    """
    code = (
        "import sys, pathlib, local_hub\n"
        "from peft import get_peft_model\n"
        "from hf_langcore.tuner import CoreRegionConfig\n"
        "def adapter(model, options):\n"
        "    config = CoreRegionConfig(method='random', fraction=0.3, init_weights=False, **options)\n"
        "    return get_peft_model(model, config)\n"
        "print('\\n'.join(local_hub.build_hub(pathlib.Path(sys.argv[1]), adapter)))\n"
    )
    command = [sys.executable, "-c", code, str(work / "hub")]
    done = subprocess.run(command, env=_environment(work), check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"The models for the tests cannot be made:\n{done.stderr[-2000:]}")
    return [line for line in done.stdout.splitlines() if line]


def _environment(work: Path) -> dict[str, str]:
    paths = [str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HF_HUB_CACHE": str(work / "hub"),
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "WANDB_DISABLED": "true",
    }


# --- Running ---------------------------------------------------------------------------------------------------------


def run(work: Path, method: str, options: Any, *, only: Iterable[str] = ()) -> list[Outcome]:
    """Run the suite once.

    Args:
        work: Folder with the suite.
        method: "random", "magnitude" or "lora".
        options: The command line's.
        only: Ids of tests; none means all that are selected.
    """
    outcomes = work / f"{method}.jsonl"
    outcomes.unlink(missing_ok=True)
    files = [*options.files, *([COMPILE_FILE] if options.compile else [])]
    chosen = list(only) or [f"tests/{file}" for file in files]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "swap",
        "-p",
        "no:cacheprovider",
        "-q",
        "--tb=short",
        "--no-header",
    ]
    command += ["-k", options.select] if options.select else []
    command += ["-n", options.workers] if options.workers != "0" else []
    environment = {
        **_environment(work),
        "CONFORMANCE_SUITE": str(work),
        "CONFORMANCE_METHOD": method,
        "CONFORMANCE_FRACTION": str(options.fraction),
        "CONFORMANCE_OUTCOMES": str(outcomes),
    }
    if options.compile:
        environment["PEFT_DEBUG_WITH_TORCH_COMPILE"] = "1"
    argument_file = work / f"{method}.args"  # ids of thousands of tests do not fit a command line
    argument_file.write_text("\n".join(chosen))
    log = Path(options.log or work) / f"{method}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    results: list[Outcome] = []
    with log.open("w", encoding="utf-8") as output:
        try:
            subprocess.run(
                [*command, f"@{argument_file}"],
                cwd=work,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=options.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            reason = f"the run took longer than {options.timeout:.0f} s; later tests are missing"
            results.append(Outcome("tests/(all)::(timeout)", "failed", reason))
    if outcomes.is_file():
        lines = outcomes.read_text(encoding="utf-8").splitlines()
        results += [Outcome(**json.loads(line)) for line in lines]
    else:
        results.append(Outcome("tests/(all)::(start)", "failed", f"pytest did not start, see {log.name}"))
    return _one_per_test(results)


def _one_per_test(results: Iterable[Outcome]) -> list[Outcome]:
    """A test whose teardown fails reports twice; it failed."""
    kept: dict[str, Outcome] = {}
    for item in results:
        if item.test not in kept or item.outcome == "failed":
            kept[item.test] = item
    return list(kept.values())


# --- Reporting -------------------------------------------------------------------------------------------------------


def render(outcomes: dict[str, list[Outcome]], baseline: dict[str, Outcome] | None) -> str:
    """The report as Markdown.

    Args:
        outcomes: By mask method.
        baseline: What became of the failing tests with LoRA itself; None if that was not asked.
    """
    version = importlib.metadata.version("peft")
    lines = [f"# PEFT {version}'s own tests with CORE_REGION in LoRA's place", ""]
    lines += ["| file | mask | passed | failed | skipped | not applicable |", "| --- | --- | --: | --: | --: | --: |"]
    for method, results in outcomes.items():
        files = sorted({item.file for item in results})
        lines += [_row(file, method, [item for item in results if item.file == file]) for file in files]
        lines.append(_row("**all**", method, results))
    for method, results in outcomes.items():
        lines += ["", f"## Failed, mask {method}", ""]
        lines += _failures([item for item in results if item.outcome == "failed"], baseline) or ["None."]
    for title, kinds in (("Not applicable", ("not applicable",)), ("Skipped by the suite", ("skipped", "xfailed"))):
        lines += ["", f"## {title}", ""]
        lines += _reasons(outcomes, kinds) or ["None."]
    return "\n".join(lines) + "\n"


def _row(file: str, method: str, results: list[Outcome]) -> str:
    count = Counter(_kind(item) for item in results)
    cells = [file, method, *(str(count[kind]) for kind in ("passed", "failed", "skipped", "not applicable"))]
    return f"| {' | '.join(cells)} |"


def _kind(item: Outcome) -> str:
    if item.outcome == "skipped" and item.reason.startswith("not applicable"):
        return "not applicable"
    return "skipped" if item.outcome == "xfailed" else item.outcome


def _failures(failed: list[Outcome], baseline: dict[str, Outcome] | None) -> list[str]:
    """Failing tests by their error, the most frequent error first."""
    groups: dict[str, list[Outcome]] = {}
    for item in failed:
        groups.setdefault(item.reason, []).append(item)
    lines = []
    for reason, items in sorted(groups.items(), key=lambda group: -len(group[1])):
        lines.append(f"- `{reason.replace('`', chr(39))}`")
        lines += [f"  - {item.test}{_with_lora(item, baseline)}{_known(item)}" for item in items]
    return lines


def _known(item: Outcome) -> str:
    why = _why(item.test)
    return f" ({why})" if why else ""


def _why(test: str) -> str | None:
    return next((reason for name, reason in KNOWN.items() if f"::{name}" in test), None)


def _with_lora(item: Outcome, baseline: dict[str, Outcome] | None) -> str:
    if baseline is None:
        return ""
    other = baseline.get(_with_loras_names(item.test))
    return f" (with LoRA: {other.outcome if other else 'not run'})"


def _with_loras_names(test: str) -> str:
    """Ids of cases hold the name of the config class."""
    return test.replace("CoreRegionConfig", "LoraConfig").replace("-core_region-", "-lora-")


def _reasons(outcomes: dict[str, list[Outcome]], kinds: tuple[str, ...]) -> list[str]:
    count: Counter[tuple[str, str]] = Counter()
    for method, results in outcomes.items():
        for item in results:
            if _kind(item) in {"skipped" if kind == "xfailed" else kind for kind in kinds}:
                count[item.reason.removeprefix("not applicable: "), method] += 1
    reasons = sorted({reason for reason, _ in count}, key=lambda reason: -sum(count[reason, m] for m in outcomes))
    return [
        f"- {reason}: " + ", ".join(f"{count[reason, method]} {method}" for method in outcomes) for reason in reasons
    ]


if __name__ == "__main__":
    sys.exit(main())
