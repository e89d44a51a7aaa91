"""Figures for benchmarks: only of the model itself, on its own repository, for tasks that exist."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import yaml
from huggingface_hub import parse_eval_result_entries

from hf_langcore.errors import InputError
from hf_langcore.hub.benchmark_results import BenchmarkResult, benchmark_files
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.records import EvalResults
from hf_langcore.hub.results import push_eval_results

BASE = EvalRecord(
    model="ada/model",
    condition="base",
    language="en",
    tokens=100,
    nll=1.5,
    bytes=400,
    perturbed=False,
    dataset="guild/bench",
    dataset_revision="e" * 40,
    block_size=512,
    date="2026-11-21T18:00:00Z",
)
ASKED = {"dataset_id": "guild/bench", "task_id": "english", "language": "en"}
FILE = ".eval_results/guild--bench--english.yaml"


@pytest.fixture
def hub(online: Any) -> Any:
    tasks = "name: bench\nevaluation_framework: x\ntasks:\n- id: english\n  config: en\n- id: german\n"
    online.hub.create("guild/bench", kind="dataset", files={"eval.yaml": tasks})
    online.hub.create("guild/plain", kind="dataset", files={"README.md": "x"})
    online.hub.create("ada/model", files={"config.json": "{}"})
    return online.hub


def entry(content: bytes) -> Any:
    (found,) = parse_eval_result_entries(yaml.safe_load(content))
    return found


def test_only_on_request(hub: Any) -> None:
    """Nothing is written unless it is asked for; then in the same commit as the results."""
    push_eval_results(BASE, "ada/model")
    assert FILE not in hub.files("ada/model")
    commits = len(hub.commits("ada/model"))
    push_eval_results(replace(BASE, nll=2.0, date=None), "ada/model", benchmark=ASKED)
    assert len(hub.commits("ada/model")) == commits + 1
    found = entry(hub.files("ada/model")[FILE])
    assert (found.dataset_id, found.task_id, found.dataset_revision) == ("guild/bench", "english", "e" * 40)
    assert found.value == pytest.approx(math.exp(2.0))
    assert "lower is better" in found.notes


def test_metrics_and_words(hub: Any) -> None:
    """Other metrics, words of one's own, a link, several at once."""
    german = replace(BASE, language="de", dataset=None)
    files = benchmark_files(
        [
            BenchmarkResult(**ASKED, metric="bits_per_byte", notes="mine", source_url="https://example.org"),
            {**ASKED, "task_id": "german", "language": "de", "metric": "nll"},
        ],
        [BASE, german],
        "Ada/Model",
    )
    first, second = (entry(content) for content in files.values())
    assert (first.value, first.notes, first.source_url) == (BASE.bits_per_byte, "mine", "https://example.org")
    assert (second.value, second.task_id, second.date) == (1.5, "german", BASE.date)
    assert list(files) == [FILE, FILE.replace("english", "german")]
    assert benchmark_files(None, [BASE], "ada/model") == {}


@pytest.mark.parametrize(
    ("record", "repo", "change", "message"),
    [
        (replace(BASE, perturbed=True), "ada/model", {}, "on edited weights"),
        (replace(BASE, perturbed=None), "ada/model", {}, "nobody knows how"),
        (replace(BASE, adapter="default (LORA)"), "ada/model", {}, "with an adapter"),
        (replace(BASE, condition="top"), "ada/model", {}, "there are 0 of condition 'base'"),
        (replace(BASE, nll=math.inf), "ada/model", {}, "perplexity of that record is inf"),
        (replace(BASE, bytes=None), "ada/model", {"metric": "bits_per_byte"}, "bits_per_byte of that record is None"),
        (replace(BASE, dataset="me/texts"), "ada/model", {}, "measured on 'me/texts'"),
        (BASE, "ada/core", {}, "on the repository of the model, 'ada/model', not on 'ada/core'"),
        (BASE, "ada/model", {"task_id": "french"}, r"no task 'french'; its eval.yaml lists \['english', 'german'\]"),
        (replace(BASE, dataset=None), "ada/model", {"dataset_id": "guild/plain"}, "no benchmark: it has no eval.yaml"),
        (replace(BASE, dataset=None), "ada/model", {"dataset_id": "guild/none"}, "no data set 'guild/none'"),
        (BASE, "ada/model", {"dataset_id": "bench"}, "dataset_id is 'owner/name'"),
        (BASE, "ada/model", {"task_id": "../x"}, "task_id is one of the ids"),
        (BASE, "ada/model", {"metric": "accuracy"}, "metric should be one of"),
        (BASE, "ada/model", {"notes": "x" * 2000}, "notes is a text"),
        (BASE, "ada/model", {"source_url": "file:///srv"}, "source_url is a link"),
        (
            BASE,
            "ada/model",
            {"colour": "red"},
            "'colour' is none of its keys, which are dataset_id, task_id, language,",
        ),
    ],
)
def test_refused(hub: Any, record: EvalRecord, repo: str, change: dict[str, Any], message: str) -> None:
    """Each rule has its own message, and nothing is pushed."""
    with pytest.raises(InputError, match=message):
        benchmark_files({**ASKED, **change}, [record], repo)


def test_one_figure_a_task(hub: Any) -> None:
    """Two figures for one task are a mistake; so are two records for one figure."""
    with pytest.raises(InputError, match="asked for twice"):
        benchmark_files([ASKED, ASKED], [BASE], "ada/model")
    with pytest.raises(InputError, match="there are 2"):
        benchmark_files(ASKED, EvalResults([BASE, replace(BASE, text_sha256="a" * 64)]), "ada/model")


@pytest.mark.parametrize("content", ["tasks: english", "- a", "tasks: [1, {name: english}]", "a: ["])
def test_odd_benchmarks(hub: Any, content: str) -> None:
    """An eval.yaml of another form has no such task."""
    hub.commit("guild/bench", {"eval.yaml": content}, kind="dataset")
    with pytest.raises(InputError, match=r"no task 'english'|cannot be read"):
        benchmark_files(ASKED, [BASE], "ada/model")


def test_an_adapter_of_its_own(hub: Any) -> None:
    """An adapter's figures may stand on the adapter's repository."""
    hub.create("ada/adapter", files={"adapter_config.json": "{}"})
    record = replace(BASE, model="ada/adapter", base_model="ada/model", adapter="default (LORA)")
    assert list(benchmark_files(ASKED, [record], "ada/adapter")) == [FILE]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dataset_id": "guild/bench", "task": "english", "language": "en"}, "'task' is none of its keys"),
        (
            {"dataset_id": "guild/bench"},
            "it lacks task_id, language, which are dataset_id, task_id, language, condition",
        ),
        ({1: 2}, "1 is none of its keys"),
        (["guild/bench"], "it lacks dataset_id, task_id, language"),
    ],
)
def test_keys_are_named(asked: Any, message: str) -> None:
    """Nobody has to read code to find out."""
    with pytest.raises(InputError, match=message) as caught:
        benchmark_files([asked], [BASE], "ada/model")
    assert "__init__" not in str(caught.value)
