"""`.eval_results/*.yaml`: figures for a benchmark's leaderboard, on the model's own repository, only where asked for.

The Hub takes these for data sets that are benchmarks: they have an `eval.yaml` that lists tasks, and are on its list.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import EvalResultEntry, HfApi, eval_result_entries_to_yaml, parse_eval_result_entries

from hf_langcore.errors import HubNotFoundError, InputError
from hf_langcore.hub.access import hub_api, hub_errors, patiently
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.placement import current_name, same_repository

EVAL_FILE = "eval.yaml"

_METRICS = ("perplexity", "bits_per_byte", "nll")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,95}")
_LIMIT = 1 << 20
_LONGEST_NOTES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkResult:
    """Which figure goes to which benchmark.

    Attributes:
        dataset_id: "owner/name" of the benchmark's data set.
        task_id: One of the tasks in its `eval.yaml`.
        language: Of the record.
        condition: Of the record; it has to be the model itself.
        metric: "perplexity", "bits_per_byte" or "nll".
        notes: How it was measured; None says metric, window and start token.
        source_url: Link to more about the evaluation.
    """

    dataset_id: str
    task_id: str
    language: str
    condition: str = "base"
    metric: str = "perplexity"
    notes: str | None = None
    source_url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.dataset_id, str) or not re.fullmatch(
            f"{_NAME.pattern}/{_NAME.pattern}", self.dataset_id
        ):
            raise InputError(f"dataset_id is 'owner/name' of a benchmark's data set, got {self.dataset_id!r}.")
        if not isinstance(self.task_id, str) or not _NAME.fullmatch(self.task_id):
            raise InputError(f"task_id is one of the ids in the benchmark's {EVAL_FILE}, got {self.task_id!r}.")
        if self.metric not in _METRICS:
            raise InputError(f"metric should be one of {list(_METRICS)}, got {self.metric!r}.")
        if self.notes is not None and (not isinstance(self.notes, str) or len(self.notes) > _LONGEST_NOTES):
            raise InputError(f"notes is a text of at most {_LONGEST_NOTES} characters, got {self.notes!r:.100}.")
        if self.source_url is not None and not str(self.source_url).startswith(("https://", "http://")):
            raise InputError(f"source_url is a link that starts with https://, got {self.source_url!r}.")

    @property
    def file(self) -> str:
        """Its file in the model's repository."""
        return f".eval_results/{self.dataset_id.replace('/', '--')}--{self.task_id}.yaml"


def benchmark_files(
    asked: BenchmarkResult | Mapping[str, Any] | Iterable[BenchmarkResult | Mapping[str, Any]] | None,
    records: Iterable[EvalRecord],
    repo_id: str,
    *,
    token: bool | str | None = None,
) -> dict[str, bytes]:
    """The files for the benchmarks that were asked for, each checked.

    Args:
        asked: One or several; None makes no file.
        records: What is to be pushed.
        repo_id: Where to.
        token: Of huggingface_hub.

    Returns:
        Path in the repository -> content.

    Raises:
        InputError: There is no such record, it is not of the model itself, `repo_id` is not the model's repository, or
            the data set is no benchmark with such a task.
        HubError: The Hub cannot be asked.
    """
    if asked is None:
        return {}
    listed = [asked] if isinstance(asked, (BenchmarkResult, Mapping)) else list(asked)
    wanted = [one if isinstance(one, BenchmarkResult) else _from_mapping(one) for one in listed]
    api = hub_api(token)
    files: dict[str, bytes] = {}
    for one in wanted:
        record = _record_for(one, list(records))
        _require_own_repository(api, record, repo_id)
        _require_task(api, one)
        if one.file in files:
            raise InputError(f"A task takes one figure, and {one.dataset_id} {one.task_id} was asked for twice.")
        files[one.file] = _content(one, record)
    return files


def _from_mapping(values: Any) -> BenchmarkResult:
    known = {item.name: item.default is MISSING for item in fields(BenchmarkResult)}
    given = list(values) if isinstance(values, Mapping) else []
    odd = [name for name in given if name not in known]
    lacking = [name for name, is_needed in known.items() if is_needed and name not in given]
    if odd or lacking:
        wrong = f"{odd[0]!r:.100} is none of its keys" if odd else f"it lacks {', '.join(lacking)}"
        raise InputError(
            'benchmark names a figure, such as {"dataset_id": "owner/name", "task_id": "default", "language": "en"}; '
            f"{wrong}, which are {', '.join(known)}."
        )
    return BenchmarkResult(**values)


def _record_for(asked: BenchmarkResult, records: list[EvalRecord]) -> EvalRecord:
    found = [one for one in records if (one.condition, one.language) == (asked.condition, asked.language)]
    if len(found) != 1:
        raise InputError(
            f"A benchmark takes one record; there are {len(found)} of condition {asked.condition!r}, language "
            f"{asked.language!r} among those that are pushed."
        )
    record = found[0]
    if record.perturbed is not False or (record.adapter is not None and record.base_model is None):
        raise InputError(
            f"A benchmark takes figures of a model as it is published. Condition {record.condition!r} was measured "
            f"{'on edited weights' if record.is_edited else 'with an adapter' if record.adapter else 'nobody knows how'}: "
            "measure the model itself with evaluate_perplexity."
        )
    if record.dataset is not None and record.dataset.lower() != asked.dataset_id.lower():
        raise InputError(f"The record was measured on {record.dataset!r}, not on the benchmark {asked.dataset_id!r}.")
    value = getattr(record, asked.metric)
    if value is None or not math.isfinite(value):
        raise InputError(f"A benchmark takes a finite number, and {asked.metric} of that record is {value}.")
    return record


def _require_own_repository(api: HfApi, record: EvalRecord, repo_id: str) -> None:
    if not same_repository(current_name(api, record.model), current_name(api, repo_id)):
        raise InputError(
            f"Figures for a benchmark stand on the repository of the model, {record.model!r}, not on {repo_id!r}. Push them "
            "there (create_pr=True where it is somebody else's), or leave benchmark= out."
        )


def _require_task(api: HfApi, asked: BenchmarkResult) -> None:
    """Look whether the data set is a benchmark and has the task; only the Hub knows whether it is on its list."""
    try:
        with TemporaryDirectory() as folder, hub_errors("read the benchmark", asked.dataset_id, token=api.token):
            found: Any = patiently(lambda: api.get_paths_info(asked.dataset_id, [EVAL_FILE], repo_type="dataset"))
            if not found or getattr(found[0], "size", _LIMIT + 1) > _LIMIT:
                raise InputError(f"{asked.dataset_id!r} is no benchmark: it has no {EVAL_FILE} that lists tasks.")
            path = patiently(
                lambda: api.hf_hub_download(asked.dataset_id, EVAL_FILE, repo_type="dataset", cache_dir=folder)
            )
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except HubNotFoundError as error:
        raise InputError(
            f"There is no data set {asked.dataset_id!r} on the Hub that could be a benchmark. {error}"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{EVAL_FILE} of {asked.dataset_id!r} cannot be read ({error}).") from error
    tasks = values.get("tasks") if isinstance(values, dict) else None
    known = [str(task["id"]) for task in tasks or [] if isinstance(task, dict) and "id" in task]
    if asked.task_id not in known:
        raise InputError(
            f"{asked.dataset_id!r} has no task {asked.task_id!r}; its {EVAL_FILE} lists {known or 'none'}."
        )


def _content(asked: BenchmarkResult, record: EvalRecord) -> bytes:
    entry = EvalResultEntry(
        dataset_id=asked.dataset_id,
        task_id=asked.task_id,
        value=getattr(record, asked.metric),
        dataset_revision=record.dataset_revision,
        date=record.date,
        source_url=asked.source_url,
        notes=asked.notes or _notes(asked, record),
    )
    text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=10_000)
    if parse_eval_result_entries(yaml.safe_load(text)) != [entry]:
        raise InputError(f"The figure for {asked.dataset_id} {asked.task_id} cannot be written as YAML: {entry}.")
    return text.encode()


def _notes(asked: BenchmarkResult, record: EvalRecord) -> str:
    details = {"window": record.block_size, "stride": record.stride, "start token": record.start_token}
    said = ", ".join(f"{name} {value}" for name, value in details.items() if value is not None)
    metric = asked.metric.replace("_", " ")
    return f"{metric}, lower is better, {record.tokens} tokens{', ' if said else ''}{said}, hf_langcore"
