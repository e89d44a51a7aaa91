"""General data for fine-tuning: a few times as much of it as task data, sampled anew for every epoch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset, Value, concatenate_datasets

from hf_langcore.data.draws import check_mixture, counts_by_rows, counts_by_tokens, draw_general, in_one, mixed_order
from hf_langcore.data.rows import Row, Rows, form_of, require_chat_template, tokenise, unify
from hf_langcore.data.shares import TASK, General, Weights, named_sources, shares_of
from hf_langcore.data.sources import load_rows
from hf_langcore.data.streams import Schedule, mixed_stream
from hf_langcore.errors import ConfigurationError, CorpusError

logger = logging.getLogger(__name__)


def mix_general_data(
    task: Rows,
    general: General,
    *,
    ratio: float = 5.0,
    weights: Weights | None = None,
    by: str = "rows",
    seed: int = 0,
    epoch: int = 0,
    tokenizer: Any = None,
    max_length: int | None = None,
    buffer_size: int = 1000,
    source_column: str | None = None,
) -> Rows:
    """Mix general data into task data, `ratio` times as much; published advice is 5 to 10 times.

    Rows are `text`, `prompt` and `completion` (strings or messages), `messages`, or `input_ids` with `labels` or
    masks. Data sets of one form keep it. Different forms become `input_ids` and `labels` where a tokenizer is
    given (text is trained in full, of a prompt and completion only the completion); without one, text beside
    prompts becomes a completion of an empty prompt, and anything beside conversations becomes `messages`.
    Columns that do not belong to the form are dropped.

    In memory, all task rows come once, together with round(ratio * rows) general rows drawn without replacement,
    in a shuffled order. A general source with fewer rows is gone through again, in another order. Where any side
    streams, the result streams: after k task rows, round(ratio * k) general rows have come; it ends with the task
    rows. `set_epoch` draws again, from the shuffle buffer and the order of the files of a streaming general set.

    Several sources share the general rows by weight: in memory by the largest remainder, in a stream so that each
    is less than one row off its share after every row.

    Args:
        task: The rows to learn from.
        general: Rows like those that the model was pretrained on: one data set, or several as a list or by name.
        ratio: How many times as much general data, of all sources together, as task data; 0 for none.
        weights: How the sources share it, name -> weight or in their order; equally if None.
        by: What is counted, "rows" or "tokens". General rows of a source come until their tokens reach its share
            of `ratio` times the task's; tokens are counted as they are trained, with BOS, EOS and the chat template.
        seed: Seed of the sample and the order.
        epoch: Another epoch has another sample and another order.
        tokenizer: Turns rows of different forms into tokens, and counts tokens.
        max_length: Tokens after which rows are cut when they are tokenised or counted.
        buffer_size: Rows in the shuffle buffer of a streaming data set.
        source_column: Adds a column of this name that says where each row comes from: "task", "general", or the
            name of the source.

    Returns:
        An IterableDataset if `task` or a general source is one, otherwise a Dataset.

    Raises:
        InputError: `ratio`, `weights`, `by`, `seed` or `epoch` is out of range.
        CorpusError: A data set is empty or has none of the forms.
        ConfigurationError: A tokenizer or a chat template is needed and missing, or the weights are of other sources.
    """
    check_mixture(ratio=ratio, by=by, seed=seed, epoch=epoch)
    sources = {
        name: load_rows(rows) if isinstance(rows, (str, Path)) else rows
        for name, rows in named_sources(general).items()
    }
    shares = shares_of(list(sources), weights)
    task, sources = _unified(task, sources, tokenizer=tokenizer, max_length=max_length)
    size = _size_of(task, by=by, tokenizer=tokenizer, max_length=max_length)
    if any(isinstance(rows, IterableDataset) for rows in (task, *sources.values())):
        schedule = Schedule(task, sources, shares, ratio, by, size, buffer_size, seed, epoch, source_column)
        return mixed_stream(schedule)
    counts = _counts(task, sources, shares, ratio=ratio, by=by, size=size, seed=seed, epoch=epoch)
    lengths = {name: len(rows) for name, rows in sources.items()}
    sample = in_one(draw_general(counts, lengths, seed=seed, epoch=epoch), lengths)
    rows = joined({TASK: task, **sources}, source_column=source_column)
    return rows.select(mixed_order(len(task), sample, seed=seed, epoch=epoch))


def joined(sources: Mapping[str, Dataset], *, source_column: str | None) -> Dataset:
    """All rows of all sources, one source after the other, with a column that names it if there is to be one."""
    if source_column is None:
        return concatenate_datasets(list(sources.values()))
    parts = [
        rows.add_column(source_column, [name] * len(rows), feature=Value("string")) for name, rows in sources.items()
    ]
    return concatenate_datasets(parts)


def _unified(
    task: Rows, sources: Mapping[str, Rows], *, tokenizer: Any, max_length: int | None
) -> tuple[Rows, dict[str, Rows]]:
    """Task and sources in one form, with at least one trained row each."""
    names = [TASK, *sources]
    given = [task, *sources.values()]
    before = [form_of(rows, name=name) for name, rows in zip(names, given, strict=True)]
    unified = unify(*given, names=names, tokenizer=tokenizer, max_length=max_length)
    for name, rows in zip(names, unified, strict=True):
        _require_trained(name, rows)
    if len(set(before)) > 1 and form_of(unified[0], name=TASK) == "messages":
        logger.warning(
            "The rows are of different forms (%s); all become messages, so the chat template surrounds plain text too. "
            "Pass tokenizer= to keep the loss of each form exact.",
            ", ".join(f"{name}: {form}" for name, form in zip(names, before, strict=True)),
        )
    return unified[0], dict(zip(sources, unified[1:], strict=True))


def _counts(
    task: Dataset,
    sources: Mapping[str, Dataset],
    shares: Sequence[Fraction],
    *,
    ratio: float,
    by: str,
    size: Callable[[Row], int],
    seed: int,
    epoch: int,
) -> dict[str, int]:
    lengths = {name: len(rows) for name, rows in sources.items()}
    if by == "rows":
        return counts_by_rows(len(task), lengths, ratio=ratio, shares=shares)
    return counts_by_tokens(
        sum(size(row) for row in task),
        lengths,
        lambda name, index: size(sources[name][index]),
        ratio=ratio,
        shares=shares,
        seed=seed,
        epoch=epoch,
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


def _require_trained(name: str, rows: Rows) -> None:
    if isinstance(rows, Dataset) and not len(rows):
        raise CorpusError(
            f"No token of the {name} rows is trained: prompts alone fill max_length, or the chat template marks "
            "no assistant turn. Raise max_length or mend the rows."
        )
