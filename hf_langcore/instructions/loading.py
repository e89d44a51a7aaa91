"""Instructions of any known format as conversations that trainers take, and a list of the rows that are none."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from datasets import Dataset, Features, List, Value

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.instructions.formats import FORMATS, Format, format_of, messages_of
from hf_langcore.instructions.reading import Record, Source, read_records
from hf_langcore.instructions.turns import Message, RowError

Form = Literal["messages", "conversation_pair"]

_EXCERPT = 120
_LISTED = 10
_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_COLUMNS: dict[Form, tuple[str, ...]] = {"messages": ("messages",), "conversation_pair": ("prompt", "completion")}


@dataclass(frozen=True, slots=True)
class RowProblem:
    """A row that cannot be used.

    Attributes:
        row: Position of the row, from 0.
        line: Line of the file where it begins, from 1; None where rows are no lines.
        format: Its format; None if it has none that is known.
        kind: What is wrong, in one word: "invalid_json", "unknown_format", "missing_prompt", "missing_answer", "empty",
            "wrong_type", "encoding", "columns", "unknown_role", "role_order", "last_turn" or "tool_call".
        problem: What is wrong, in a sentence.
        excerpt: The beginning of the row.
    """

    row: int
    line: int | None
    format: Format | None
    kind: str
    problem: str
    excerpt: str

    def __str__(self) -> str:
        place = f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"
        return f"{place}: {self.problem}: {self.excerpt}"


@dataclass(frozen=True, slots=True)
class InspectedRows:
    """Rows as conversations, and those that are none.

    Attributes:
        rows: `messages`, or `prompt` and `completion`, of each row that can be used.
        formats: Format -> number of these rows.
        problems: The other rows, in order.
    """

    rows: list[dict[str, list[Message]]]
    formats: dict[str, int]
    problems: list[RowProblem]

    def to_dict(self) -> dict[str, Any]:
        """Counts and wrong rows as JSON has them."""
        return {
            "rows": len(self.rows),
            "formats": self.formats,
            "wrong_rows": len(self.problems),
            "problems": [asdict(problem) for problem in self.problems],
        }


@dataclass(frozen=True, slots=True)
class InstructionData:
    """Instructions that can be trained.

    Attributes:
        dataset: `messages`, or `prompt` and `completion`: lists of {"role", "content"}.
        formats: Format -> number of rows.
        problems: Rows that were left out.
    """

    dataset: Dataset
    formats: dict[str, int]
    problems: list[RowProblem]


def load_instructions(
    source: Source,
    *,
    format: Format | Literal["auto"] = "auto",  # noqa: A002 what users call it
    on_error: Literal["error", "skip"] = "error",
    system: str | None = None,
    form: Form = "messages",
) -> InstructionData:
    """Read instructions of any known format, row by row, into TRL's conversational form.

    Args:
        source: A .json (list of rows, columns, or one row a line), .jsonl, .csv or .parquet file, a folder of
            `save_to_disk`, a Hub data set as repo:config:split, a data set, columns, or rows.
        format: What every row should be; with "auto" each row may have a format of its own.
        on_error: "error": wrong rows are listed in an error. "skip": they are left out and listed in the result.
        system: System message for the rows that have none.
        form: "messages": whole conversations in one column. "conversation_pair": `completion` is the last answer, and
            `prompt` what comes before, so that TRL trains the last answer only.

    Raises:
        CorpusError: The source cannot be read, texts and answers differ in number, a row is wrong, or none is right.
        InputError: An option is none of the possible ones.
    """
    if on_error not in {"error", "skip"}:
        raise InputError(f"on_error is 'error' or 'skip'; got {on_error!r}.")
    found = inspect_instructions(source, format=format, system=system, form=form)
    _require_right(found, skip=on_error == "skip")
    features = Features(dict.fromkeys(_COLUMNS[form], _MESSAGES))
    return InstructionData(Dataset.from_list(found.rows, features=features), found.formats, found.problems)


def inspect_instructions(
    source: Source,
    *,
    format: Format | Literal["auto"] = "auto",  # noqa: A002 what users call it
    system: str | None = None,
    form: Form = "messages",
) -> InspectedRows:
    """Like `load_instructions`, but wrong rows raise nothing, however many there are.

    Raises:
        CorpusError: The source cannot be read, or texts and answers differ in number.
        InputError: An option is none of the possible ones.
    """
    if format not in {"auto", *FORMATS}:
        raise InputError(f"format is 'auto' or one of {', '.join(FORMATS)}; got {format!r}.")
    if form not in _COLUMNS:
        raise InputError(f"form is one of {', '.join(_COLUMNS)}; got {form!r}.")
    rows, counts, problems = [], Counter[str](), []
    for record in read_records(source):
        layout: Format | None = None
        try:
            if record.error is not None:
                raise record.error
            layout = format_of(record.value) if format == "auto" else format
            messages = messages_of(record.value, layout, system=system)
        except RowError as error:
            problems.append(_problem(record, layout, error))
        else:
            rows.append(_shaped(messages, form))
            counts[layout] += 1
    return InspectedRows(rows, dict(counts.most_common()), problems)


def _require_right(found: InspectedRows, *, skip: bool) -> None:
    """Refuse wrong rows, and in any case a source without a right one.

    Raises:
        CorpusError: There are wrong rows and they may not be skipped, or there is no right one.
    """
    if not found.rows and not found.problems:
        raise CorpusError("The source has no rows; there is nothing to learn from. Name one that has some.")
    if found.problems and (not skip or not found.rows):
        total = len(found.rows) + len(found.problems)
        advice = (
            "Correct them, or leave them out with on_error='skip' (--skip-wrong)."
            if found.rows
            else "No row is right."
        )
        raise CorpusError(
            f"{len(found.problems):,} of {total:,} rows cannot be used:\n"
            + "\n".join(f"  {line}" for line in listed(found.problems, most=_LISTED))
            + f"\n{advice}"
        )


def listed(problems: list[RowProblem], *, most: int) -> Iterator[str]:
    """A line for each of the first problems, and one that counts the others."""
    yield from map(str, problems[:most])
    if len(problems) > most:
        yield f"... and {len(problems) - most:,} more"


def _shaped(messages: list[Message], form: Form) -> dict[str, list[Message]]:
    return {"messages": messages} if form == "messages" else {"prompt": messages[:-1], "completion": messages[-1:]}


def _problem(record: Record, layout: Format | None, error: RowError) -> RowProblem:
    return RowProblem(record.row, record.line, layout, error.kind, str(error), _excerpt(record.value))


def _excerpt(value: Any) -> str:
    """The beginning of a row on one line, without columns that are missing."""
    if isinstance(value, Mapping):
        value = {name: cell for name, cell in value.items() if cell is not None}
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)
    line = " ".join("".join(c if c.isprintable() or c.isspace() else repr(c)[1:-1] for c in text).split())
    return line if len(line) <= _EXCERPT else f"{line[:_EXCERPT]}…"
