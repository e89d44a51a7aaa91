"""The ratio sweep: one run per ratio from the same base, and a record that an interrupted sweep goes on from."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore.data.mini import mini_corpora
from hf_langcore.errors import ConfigurationError, CorpusError, InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.importance import compute_core_mask
from hf_langcore.recipes import ratio_sweep as recipe
from hf_langcore.recipes.pretraining import TinyModel, pretrain
from hf_langcore.recipes.ratio_sweep import RatioSweep, SweepPoint, ratio_sweep
from hf_langcore.recipes.sweep_figure import draw_sweep
from hf_langcore.training.parsing import RunArguments, parse_run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")

TEXTS = mini_corpora(["en", "zh"], sentences=6, start=200)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a core, task rows and general rows."""
    folder = tmp_path_factory.mktemp("base")
    shape = TinyModel(vocab_size=300, hidden_size=32, intermediate_size=48, layers=2, heads=2, block_size=32, steps=3)
    model, tokenizer = pretrain(mini_corpora(["en", "zh"], sentences=40), shape=shape, progress=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    compute_core_mask(model, method="magnitude", fraction=0.1).save_pretrained(folder / "core")
    rows = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(20)]
    (folder / "task.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    texts = [{"text": f"The teacher saw {i} cats."} for i in range(60)]
    (folder / "general.jsonl").write_text("\n".join(map(json.dumps, texts)), encoding="utf-8")
    return folder


@pytest.fixture
def arguments(base: Path, tmp_path: Path) -> Callable[..., RunArguments]:
    """Arguments of a short run; flags in addition."""

    def make(*flags: str, general: bool = True) -> RunArguments:
        words = [str(base), "--dataset_name", str(base / "task.jsonl"), "--output_dir", str(tmp_path / "out")]
        words += ["--core_mask", str(base / "core"), "--learning_rate", "1e-2", "--max_length", "32"]
        words += ["--per_device_train_batch_size", "4", "--max_steps", "2", "--disable_tqdm", "true"]
        if general:
            words += ["--general_dataset", str(base / "general.jsonl")]
        return parse_run([*words, *flags])

    return make


def sweep(made: RunArguments, ratios: list[float], **options: Any) -> tuple[RatioSweep, list[str]]:
    lines: list[str] = []
    return ratio_sweep(made, ratios, TEXTS, tell=lines.append, progress=False, **options), lines


def test_each_ratio_from_the_base(arguments: Callable[..., RunArguments], base: Path, tmp_path: Path) -> None:
    """The base is measured untrained, every run begins with it, and the order of the ratios does not matter."""
    found, lines = sweep(arguments(), [0.0, 2.0])
    model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    report = evaluate_perplexity(model, tokenizer, TEXTS, progress=False)
    assert found.base.perplexity == pytest.approx(report.perplexity)
    assert found.base.mean_perplexity == pytest.approx(report.mean())
    rows = [(point.ratio, point.task_rows, point.general_rows) for point in found.points]
    assert rows[0] == (0, 8, 0), "what was trained, not an epoch"
    assert rows[1][1] + rows[1][2] == 8
    assert rows[1][2] > rows[1][1] > 0
    core = json.loads((base / "core" / "core_mask_config.json").read_text())
    assert {point.core_weights for point in found.points} == {sum(one["count"] for one in core["tensors"].values())}
    assert all(point.task_loss < found.base.task_loss for point in found.points)
    assert found.points[0].perplexity != found.points[1].perplexity
    assert [line.split(":")[0] for line in lines] == ["ratio base", "ratio 0", "ratio 2"]
    again, _ = sweep(arguments("--output_dir", str(tmp_path / "other")), [2.0, 0.0])
    assert again.points == found.points[::-1]
    assert not list(tmp_path.rglob("model.safetensors"))
    json.loads((tmp_path / "out" / "sweep.json").read_text())


def test_finished_ratios_are_kept(
    arguments: Callable[..., RunArguments], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An interrupted sweep goes on; more ratios may join; other settings are refused."""
    runs: list[float | None] = []
    run = recipe._Job.run

    def count(self: Any, ratio: float | None) -> SweepPoint:
        runs.append(ratio)
        if ratio == 1.0 and len(runs) == 3:
            raise KeyboardInterrupt
        return run(self, ratio)

    monkeypatch.setattr(recipe._Job, "run", count)
    with pytest.raises(KeyboardInterrupt):
        sweep(arguments(), [0.0, 1.0])
    first, _ = sweep(arguments(), [0.0, 1.0])
    assert runs == [None, 0.0, 1.0, 1.0]
    more, _ = sweep(arguments(), [1.0, 0.0])
    assert (len(runs), more.points) == (4, first.points[::-1])
    with pytest.raises(ConfigurationError, match=r"learning_rate was 0\.01 and is 0\.5 now"):
        sweep(arguments("--learning_rate", "0.5"), [0.0])
    sweep(arguments("--learning_rate", "0.5"), [0.0], overwrite=True)
    assert runs[4:] == [None, 0.0]
    (tmp_path / "out" / "sweep.json").write_text("{")
    with pytest.raises(ConfigurationError, match="damaged"):
        sweep(arguments(), [0.0])


def test_rows_that_are_named(arguments: Callable[..., RunArguments], base: Path) -> None:
    """With an evaluation set all task rows are trained on."""
    found, _ = sweep(arguments("--eval_dataset", str(base / "task.jsonl"), "--max_steps", "20"), [0.0])
    assert found.points[0].task_rows == 80, "four epochs of 20"


@pytest.mark.parametrize("ratios", [[], [1.0, 1.0], [-1.0], [math.inf]])
def test_wrong_ratios(ratios: list[float], arguments: Callable[..., RunArguments]) -> None:
    """Before anything is loaded."""
    with pytest.raises(InputError, match="different ratios from 0 upwards"):
        sweep(arguments(), ratios)


def test_what_is_missing(
    arguments: Callable[..., RunArguments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """General data, rows to hold out, one process."""
    with pytest.raises(ConfigurationError, match="need general data"):
        sweep(arguments(general=False), [0.0, 1.0])
    (tmp_path / "one.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(CorpusError, match="--eval-dataset"):
        sweep(arguments("--dataset_name", str(tmp_path / "one.jsonl")), [0.0])
    with pytest.raises(InputError, match="eval_share"):
        sweep(arguments(), [0.0], eval_share=1.0)
    made = arguments()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigurationError, match="one process"):
        sweep(made, [0.0])
    assert not (tmp_path / "out").exists()


POINTS = (SweepPoint(0.0, 0.5, {"en": 8.0, "zh": 18.0}), SweepPoint(5.0, 0.75, {"en": 4.0, "zh": 9.0}, 10, 50))
MADE = RatioSweep(SweepPoint(None, 3.0, {"en": 4.0, "zh": 9.0}), POINTS)


def test_table() -> None:
    """Geometric means, and the change against the base."""
    assert MADE.rows() == [
        ("base", "0", "3.000", "6.00", ""),
        ("0", "0", "0.500", "12.00", "+100.0 %"),
        ("5", "50", "0.750", "6.00", "+0.0 %"),
    ]


def test_figure(tmp_path: Path) -> None:
    """A picture file; other endings are refused."""
    pytest.importorskip("matplotlib")
    draw_sweep(MADE, tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"\.png"):
        draw_sweep(MADE, tmp_path / "sweep.txt")
