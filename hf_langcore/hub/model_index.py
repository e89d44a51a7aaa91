"""The copy of results in a card's metadata, `model-index`, which the Hub shows beside the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import yaml
from huggingface_hub import EvalResult
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import eval_results_to_model_index

from hf_langcore.errors import InputError
from hf_langcore.evaluation.language_score import number_or_inf
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.front_matter import share_of_limits, split_card
from hf_langcore.hub.records import RESULTS_FILE

KEY = "model-index"
TAGS = ("core-region-eval",)

_MOST_RECORDS = 200
_SHARE = 0.75  # of what is read of a card's metadata; the rest is for other keys

_TASK = "text-generation"
_MINIMAL = """
# Evaluation results

Perplexity per language, measured with hf_langcore. The figures are in `eval/results.json`, with everything that is needed
to measure them again:

```python
from hf_langcore import load_eval_results

print(load_eval_results("{repo_id}").to_markdown())
```
"""


class _Dumper(yaml.SafeDumper):
    """Without anchors, which would be lost when a part of the metadata is replaced."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def model_index_of(results: Iterable[EvalRecord], *, name: str, previous: Any = None) -> list[dict[str, Any]]:
    """A `model-index` with these results, in which the entries that others wrote stay.

    A card's metadata are of bounded size: of many records the first are copied, those of unedited models before others.

    Args:
        results: All that `eval/results.json` holds.
        name: Of the model or mask.
        previous: The `model-index` that the card has.

    Returns:
        The value of the key `model-index`; empty where there is nothing to say.

    Raises:
        InputError: `previous` is none.
    """
    models = _without_ours(previous)
    chosen = sorted(_that_fit(results, room=_SHARE - share_of_limits(_dumped(models))), key=_place)
    ours = [entry for _, group in groupby(chosen, key=_place) for entry in _entries(list(group))]
    if not ours:
        return [model for model in models if model["results"]]
    if not models:
        return [{"name": name, "results": ours}]
    first = {**models[0], "results": [*models[0]["results"], *ours]}
    return [first, *models[1:]]


def mirrored(card: str | None, results: Iterable[EvalRecord], *, repo_id: str) -> str:
    """A card whose `model-index` says what `eval/results.json` holds; nothing else in it changes.

    Args:
        card: The README.md that the repository has; None makes a small one.
        results: All that `eval/results.json` holds.
        repo_id: The repository.

    Raises:
        InputError: The card's metadata cannot be read.
    """
    name = repo_id.rsplit("/", maxsplit=1)[-1]
    if card is None:
        head = {"library_name": "hf_langcore", "tags": list(TAGS), KEY: model_index_of(results, name=name)}
        return f"---\n{_dumped(head)}---\n{_MINIMAL.format(repo_id=repo_id)}"
    metadata, _ = split_card(card)
    index = model_index_of(results, name=name, previous=metadata.get(KEY))
    return _with_index(card, metadata, index)


def _place(record: EvalRecord) -> tuple[str, ...]:
    """Entries are told apart by data set and language: languages of one configuration would be thrown together."""
    parts = (record.dataset, record.dataset_config, record.dataset_split, record.dataset_revision, record.language)
    return tuple(part or "" for part in parts)


def _that_fit(results: Iterable[EvalRecord], *, room: float) -> Iterator[EvalRecord]:
    """The first records that a card has room for."""
    for record in sorted(results, key=lambda record: record.is_edited)[:_MOST_RECORDS]:
        # Alone an entry takes more than it does beside others of its data set and language.
        room -= share_of_limits(_dumped({KEY: [{"results": _entries([record])}]}))
        if room < 0:
            return
        yield record


def _entries(records: list[EvalRecord]) -> list[dict[str, Any]]:
    metrics = [metric for record in records for metric in _metrics(record)]
    entries: list[dict[str, Any]] = eval_results_to_model_index("", metrics)[0]["results"]
    return entries


def _metrics(record: EvalRecord) -> list[EvalResult]:
    figures = {"perplexity": record.perplexity, "bits_per_byte": record.bits_per_byte}
    return [_metric(record, kind, value) for kind, value in figures.items() if value is not None]


def _metric(record: EvalRecord, kind: str, value: float) -> EvalResult:
    words = kind.replace("_", " ")
    return EvalResult(
        task_type=_TASK,
        task_name="Language modelling",
        dataset_type=record.dataset or "unknown",
        dataset_name=f"{record.dataset or 'text'} ({record.language})",
        dataset_config=record.dataset_config,
        dataset_split=record.dataset_split,
        dataset_revision=record.dataset_revision,
        dataset_args={"language": record.language},
        metric_type=kind,
        metric_name=f"{words}, {record.condition}, {record.language}",
        metric_value=number_or_inf(value),
        metric_args={
            "condition": record.condition,
            "language": record.language,
            "core_mask": record.core_mask,
            "model": record.model,
            "model_revision": record.model_revision,
            "adapter": record.adapter,
            "tokens": record.tokens,
            "file": RESULTS_FILE,
        },
    )


def _without_ours(index: Any) -> list[dict[str, Any]]:
    """What others wrote, entry for entry."""
    if index is None:
        return []
    if not isinstance(index, list) or not all(_is_model(model) for model in index):
        raise InputError(
            "The card's model-index is no list of models with a name and results, so that results cannot be added without "
            "losing what it says. Put it right, or remove the key model-index from README.md."
        )
    return [{**model, "results": [kept for one in model["results"] if (kept := _foreign(one))]} for model in index]


def _is_model(model: Any) -> bool:
    if not isinstance(model, Mapping) or not isinstance(model.get("results"), list):
        return False
    return isinstance(model.get("name"), str) and all(isinstance(one, Mapping) for one in model["results"])


def _foreign(entry: dict[str, Any]) -> dict[str, Any] | None:
    metrics = entry.get("metrics")
    if not isinstance(metrics, list):
        return entry
    others = [metric for metric in metrics if not _is_ours(metric)]
    if len(others) == len(metrics):
        return entry
    return {**entry, "metrics": others} if others else None


def _is_ours(metric: Any) -> bool:
    arguments = metric.get("args") if isinstance(metric, Mapping) else None
    return isinstance(arguments, Mapping) and arguments.get("file") == RESULTS_FILE


def _with_index(card: str, metadata: dict[str, Any], index: list[dict[str, Any]]) -> str:
    """The card with another `model-index` and not a byte changed elsewhere, as far as its metadata allow that."""
    wanted = {key: value for key, value in metadata.items() if key != KEY} | ({KEY: index} if index else {})
    mark = "\ufeff" if card.startswith("\ufeff") else ""
    content = card.removeprefix(mark)
    end = "\r\n" if "\r\n" in content else "\n"
    block = REGEX_YAML_BLOCK.search(content)
    entry = _dumped({KEY: index}) if index else ""
    if block is None:
        return f"{mark}---\n{entry}---\n".replace("\n", end) + content if index else card
    changed = _replaced(block[2], entry.rstrip("\n").replace("\n", end), end)
    result = f"{mark}{content[: block.start(2)]}{changed}{content[block.end(2) :]}"
    try:
        if split_card(result) == (wanted, split_card(card)[1]):
            return result
    except InputError:
        pass
    # An anchor inside the old index, a key that stands twice, or metadata in one line: written anew, the same values.
    body = _dumped(wanted).rstrip("\n").replace("\n", end)
    return f"{mark}{content[: block.start(2)]}{body}{content[block.end(2) :]}"


def _replaced(block: str, entry: str, end: str) -> str:
    """A block of YAML in which the lines of `model-index` are others; comments after it stay."""
    node = yaml.compose(block, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode) or node.flow_style:
        return f"{block}{end if block else ''}{entry}"
    keys = [key for key, _ in node.value]
    place = next((number for number, key in enumerate(keys) if key.value == KEY), None)
    if place is None:
        return f"{block}{end}{entry}" if entry else block
    start = keys[place].start_mark.index
    stop = keys[place + 1].start_mark.index if place + 1 < len(keys) else len(block)
    lines = block[start:stop].splitlines(keepends=True)
    after: list[str] = []
    while lines and (not lines[-1].strip() or lines[-1].startswith("#")):
        after.insert(0, lines.pop())
    rest = "".join(after) + block[stop:]
    return f"{block[:start]}{entry}{end if rest and entry else ''}{rest}"


def _dumped(values: Any) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
