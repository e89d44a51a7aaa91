"""General data for fine-tuning: a few times as much of it as task data, sampled anew for every epoch."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from datasets import Dataset, DatasetInfo, IterableDataset, concatenate_datasets
from datasets.iterable_dataset import ExamplesIterable
from numpy.typing import NDArray

from hf_langcore.data.rows import Row, Rows, first_row, form_of, require_chat_template, tokenise, unify
from hf_langcore.errors import ConfigurationError, CorpusError, InputError

MixBy = Literal["rows", "tokens"]
Indices = NDArray[np.int64]

_NO_TOKENS = "There is no token in any general row, so no ratio of tokens can be reached."

logger = logging.getLogger(__name__)


def mix_general_data(
    task: Rows,
    general: Rows,
    *,
    ratio: float = 5.0,
    by: str = "rows",
    seed: int = 0,
    epoch: int = 0,
    tokenizer: Any = None,
    max_length: int | None = None,
    buffer_size: int = 1000,
) -> Rows:
    """Mix general data into task data, `ratio` times as much; published advice is 5 to 10 times.

    Rows are `text`, `prompt` and `completion` (strings or messages), `messages`, or `input_ids` with `labels` or
    masks. Both sides of one form keep it. Different forms become `input_ids` and `labels` where a tokenizer is
    given (text is trained in full, of a prompt and completion only the completion); without one, text beside
    prompts becomes a completion of an empty prompt, and anything beside conversations becomes `messages`.
    Columns that do not belong to the form are dropped.

    In memory, all task rows come once, together with round(ratio * rows) general rows drawn without replacement,
    in a shuffled order. A general set with fewer rows is gone through again, in another order. Where either side
    streams, the result streams: after k task rows, round(ratio * k) general rows have come; it ends with the task
    rows. `set_epoch` draws again, from the shuffle buffer and the order of the files of a streaming general set.

    Args:
        task: The rows to learn from.
        general: Rows like those that the model was pretrained on.
        ratio: How many times as much general data as task data; 0 for none.
        by: What is counted, "rows" or "tokens". General rows come until their tokens reach `ratio` times the
            task's; tokens are counted as they are trained, with BOS, EOS and the chat template.
        seed: Seed of the sample and the order.
        epoch: Another epoch has another sample and another order.
        tokenizer: Turns rows of different forms into tokens, and counts tokens.
        max_length: Tokens after which rows are cut when they are tokenised or counted.
        buffer_size: Rows in the shuffle buffer of a streaming data set.

    Returns:
        An IterableDataset if `task` or `general` is one, otherwise a Dataset.

    Raises:
        InputError: `ratio`, `by`, `seed` or `epoch` is out of range.
        CorpusError: A data set is empty or has none of the forms.
        ConfigurationError: A tokenizer or a chat template is needed and missing.
    """
    check_mixture(ratio=ratio, by=by, seed=seed, epoch=epoch)
    before = form_of(task, name="task"), form_of(general, name="general")
    task, general = unify(task, general, tokenizer=tokenizer, max_length=max_length)
    _require_trained(task=task, general=general)
    if len(set(before)) > 1 and form_of(task, name="task") == "messages":
        logger.warning(
            "The task rows are %s and the general rows are %s; both become messages, so the chat template surrounds "
            "plain text too. Pass tokenizer= to keep the loss of each form exact.",
            *before,
        )
    size = _size_of(task, by=by, tokenizer=tokenizer, max_length=max_length)
    if isinstance(task, IterableDataset) or isinstance(general, IterableDataset):
        return _stream(_Schedule(task, general, ratio, by, size, buffer_size, seed, epoch))
    sample = _sample(task, general, ratio=ratio, by=by, size=size, seed=seed, epoch=epoch)
    rows = concatenate_datasets([task, general])
    return rows.select(mixed_order(len(task), sample, seed=seed, epoch=epoch))


def check_mixture(*, ratio: float, by: str = "rows", seed: int = 0, epoch: int = 0) -> None:
    """Refuse options that no mixture can have.

    Raises:
        InputError: One is out of range; the message says which.
    """
    if not (isinstance(ratio, (int, float)) and math.isfinite(ratio) and ratio >= 0):
        raise InputError(f"ratio is general data per task data: a finite number of at least 0, got {ratio!r}.")
    if by not in get_args(MixBy):
        raise InputError(f"by must be one of {list(get_args(MixBy))}, got {by!r}.")
    for name, value in (("seed", seed), ("epoch", epoch)):
        if value < 0:
            raise InputError(f"{name} must be at least 0, got {value!r}.")


def general_sample(num_task: int, num_general: int, *, ratio: float, seed: int = 0, epoch: int = 0) -> Indices:
    """Which general rows go with `num_task` task rows in one epoch.

    Args:
        num_task: Number of task rows.
        num_general: Number of general rows.
        ratio: General rows per task row.
        seed: Seed of the draw.
        epoch: Another epoch has another draw.

    Returns:
        round(ratio * num_task) indices into the general rows. None comes twice before all have come once.

    Raises:
        InputError: `ratio`, `seed` or `epoch` is out of range.
        CorpusError: There are no general rows.
    """
    check_mixture(ratio=ratio, seed=seed, epoch=epoch)
    wanted = round(ratio * num_task)
    _warn_of_repetition(wanted, num_general)
    return draw_general(wanted, num_general, seed=seed, epoch=epoch)


def draw_general(count: int, num_general: int, *, seed: int = 0, epoch: int = 0) -> Indices:
    """The first `count` general rows of an epoch; where there are fewer, another permutation of all follows.

    Raises:
        CorpusError: There are no general rows.
    """
    passes = _passes(num_general, seed=seed, epoch=epoch)
    drawn = [next(passes) for _ in range(-(-count // max(num_general, 1)) or 1)]
    return np.concatenate(drawn)[:count]


def general_sample_by_tokens(
    task_tokens: int, num_general: int, size: Callable[[int], int], *, ratio: float, seed: int = 0, epoch: int = 0
) -> Indices:
    """Like `general_sample`, but general rows come until their tokens reach `ratio * task_tokens`.

    Args:
        task_tokens: Tokens of all task rows.
        num_general: Number of general rows.
        size: Index of a general row -> its tokens.
        ratio: General tokens per task token.
        seed: Seed of the draw.
        epoch: Another epoch has another draw.

    Raises:
        InputError: `ratio`, `seed` or `epoch` is out of range.
        CorpusError: There are no general rows, or no tokens in them.
    """
    check_mixture(ratio=ratio, seed=seed, epoch=epoch)
    chosen: list[int] = []
    tokens = 0
    for permutation in _passes(num_general, seed=seed, epoch=epoch):
        for index in permutation.tolist():
            if tokens >= ratio * task_tokens:
                _warn_of_repetition(len(chosen), num_general)
                return np.array(chosen, np.int64)
            chosen.append(index)
            tokens += size(index)
        if not tokens:
            raise CorpusError(_NO_TOKENS)
    raise AssertionError  # the passes never end


def mixed_order(num_task: int, sample: Indices, *, seed: int = 0, epoch: int = 0) -> Indices:
    """All task rows and the sampled general rows in one shuffled order.

    Returns:
        Indices into the task rows followed by the general rows.
    """
    together = np.concatenate([np.arange(num_task), sample + num_task])
    return np.random.default_rng([seed, epoch, 1]).permutation(together)


def _passes(num_general: int, *, seed: int, epoch: int) -> Iterator[Indices]:
    """Endless permutations of the general rows."""
    if num_general < 1:
        raise CorpusError("general has no rows; pass general data, or train without it.")
    generator = np.random.default_rng([seed, epoch, 0])
    while True:
        yield generator.permutation(num_general)


def _sample(
    task: Dataset, general: Dataset, *, ratio: float, by: str, size: Callable[[Row], int], seed: int, epoch: int
) -> Indices:
    if by == "rows":
        return general_sample(len(task), len(general), ratio=ratio, seed=seed, epoch=epoch)
    tokens = sum(size(row) for row in task)
    return general_sample_by_tokens(
        tokens, len(general), lambda index: size(general[index]), ratio=ratio, seed=seed, epoch=epoch
    )


def _size_of(rows: Rows, *, by: str, tokenizer: Any, max_length: int | None) -> Callable[[Row], int]:
    """What one row counts."""
    if by == "rows":
        return lambda _: 1
    form = form_of(rows, name="rows")
    if form == "tokens":
        return lambda row: len(row["input_ids"][:max_length])
    if tokenizer is None:
        raise ConfigurationError('by="tokens" needs tokenizer=, or rows with `input_ids`, to count tokens.')
    require_chat_template(tokenizer, form)
    return lambda row: len(tokenise(row, tokenizer, form=form, max_length=max_length)["input_ids"])


def _require_trained(**sides: Rows) -> None:
    for name, rows in sides.items():
        if isinstance(rows, Dataset) and not len(rows):
            raise CorpusError(
                f"No token of the {name} rows is trained: prompts alone fill max_length, or the chat template marks "
                "no assistant turn. Raise max_length or mend the rows."
            )


def _warn_of_repetition(wanted: int, num_general: int) -> None:
    if 0 < num_general < wanted:
        logger.warning(
            "The mixture needs %d general rows and there are %d: each comes %.3g times on average in one epoch. "
            "Pass more general data or a smaller ratio.",
            wanted,
            num_general,
            wanted / num_general,
        )


@dataclass(frozen=True)
class _Schedule:
    """The order of a streaming mixture: task rows, each followed by the general rows that are due."""

    task: Rows
    general: Rows
    ratio: float
    by: str
    size: Callable[[Row], int]
    buffer_size: int
    seed: int
    epoch: int

    def rows(self) -> Iterator[dict[str, Any]]:
        general = self._endless_general()
        task_size = general_size = 0
        for row in self._shuffled(self.task, 0):
            yield row
            task_size += self.size(row)
            due = self.ratio * task_size
            while general_size < (round(due) if self.by == "rows" else due):
                more = next(general)
                general_size += self.size(more)
                yield more

    def _endless_general(self) -> Iterator[dict[str, Any]]:
        total = 0
        for number in itertools.count(1):
            for row in self._shuffled(self.general, number):
                total += self.size(row)
                yield row
            if not total:
                raise CorpusError(_NO_TOKENS)
            if number == 1:
                logger.warning("The general data of a streaming mixture is used up and starts again, reshuffled.")

    def _shuffled(self, rows: Rows, number: int) -> Rows:
        seed = int(np.random.default_rng([self.seed, self.epoch, number]).integers(2**32))
        if isinstance(rows, IterableDataset):
            return rows.shuffle(seed=seed, buffer_size=self.buffer_size)
        return rows.shuffle(seed=seed, keep_in_memory=True)


class _MixedExamples(ExamplesIterable):  # type: ignore[misc]
    """The hook through which `shuffle` and `set_epoch` of datasets reach the schedule, also behind a `map`."""

    def __init__(self, schedule: _Schedule) -> None:
        super().__init__(_numbered, {"schedule": schedule})

    def shuffle_data_sources(self, generator: np.random.Generator) -> _MixedExamples:
        schedule = self.kwargs["schedule"]
        drawn = int(deepcopy(generator).integers(2**31))
        return _MixedExamples(replace(schedule, epoch=schedule.epoch ^ drawn))


def _numbered(schedule: _Schedule) -> Iterator[tuple[int, dict[str, Any]]]:
    return enumerate(schedule.rows())


def _stream(schedule: _Schedule) -> IterableDataset:
    first_row(schedule.task, name="task")
    first_row(schedule.general, name="general")
    features = schedule.task.features if schedule.task.features == schedule.general.features else None
    return IterableDataset(_MixedExamples(schedule), info=DatasetInfo(features=features))
