"""`langcore instructions` and `langcore arithmetic`: rows to fine-tune on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from hf_langcore.cli import loading
from hf_langcore.errors import CorpusError

if TYPE_CHECKING:
    from hf_langcore.instructions import InspectedRows

_SHOWN = 20

Layout = Literal["auto", "openai", "sharegpt", "prompt_completion", "flan", "belle", "alpaca", "question_answer"]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="The .jsonl file to write.")]


def instructions(
    data: Annotated[
        str, typer.Argument(help="Rows: a file, a folder of save_to_disk, or repo:config:split on the Hub.")
    ],
    output: Output = None,
    layout: Annotated[Layout, typer.Option("--format", help="Format of all rows; each row's own if 'auto'.")] = "auto",
    form: Annotated[
        Literal["messages", "conversation_pair"],
        typer.Option(help="Whole conversations, or the last answer as a completion."),
    ] = "messages",
    system: Annotated[str | None, typer.Option(help="System message for rows without one.")] = None,
    skip_wrong: Annotated[bool, typer.Option("--skip-wrong", help="Write the other rows if some are wrong.")] = False,
    as_json: loading.AsJson = False,
) -> None:
    """Turn instructions of any known format into conversations, and list the rows that are wrong.

    Alpaca, Chinese-Vicuna and BELLE, FLAN, ShareGPT, OpenAI messages, prompts and completions, questions and answers;
    also mixed in one file. Wrong rows are named with their line; without --skip-wrong they end the command with code 1.

    Example: `langcore instructions belle.json --skip-wrong --output belle.jsonl`
    """
    loading.require_output(output)
    from hf_langcore.instructions import inspect_instructions

    with loading.only_json(as_json=as_json):  # datasets shows bars while it reads
        found = inspect_instructions(data, format=layout, form=form, system=system)
    loading.show(found.to_dict(), as_json=as_json, rendered=_summary(found))
    if not found.rows and not found.problems:
        raise CorpusError(f"{data!r} has no rows; nothing was written. Name a source that has some.")
    if not found.rows or (found.problems and not skip_wrong):
        advice = "Correct them, or leave them out with --skip-wrong." if found.rows else "No row can be used."
        raise CorpusError(f"{len(found.problems):,} rows of {data!r} are wrong, and nothing was written. {advice}")
    _write(output, found.rows, as_json=as_json)


def arithmetic(
    count: Annotated[int, typer.Option(min=1, help="Number of problems.")] = 1000,
    output: Output = None,
    operations: Annotated[str, typer.Option(help="Some of + - * /, written together.")] = "+-*/",
    digits: Annotated[str, typer.Option(help="Fewest and most digits of the numbers.")] = "1-3",
    seed: Annotated[int, typer.Option(help="Draws the problems.")] = 0,
    wording: Annotated[
        Literal["plain", "varied"], typer.Option(help="'12 + 34 =', or questions in English.")
    ] = "plain",
    direct: Annotated[bool, typer.Option("--direct", help="Results alone, without worked steps.")] = False,
    negative: Annotated[bool, typer.Option("--negative", help="Subtractions may have negative results.")] = False,
    test: Annotated[int, typer.Option(min=0, help="Also so many other problems, into a second file.")] = 0,
    as_json: loading.AsJson = False,
) -> None:
    """Write arithmetic problems with worked solutions, in the manner of Goat.

    With --test N, N problems that are not among the others go to a file of the same name with `-test` in it.

    Example: `langcore arithmetic --count 10000 --digits 1-4 --test 500 --output goat.jsonl`
    """
    held_out = None if output is None else output.with_name(f"{output.stem}-test{output.suffix}")
    for place in (output, held_out if test else None):
        loading.require_output(place)
    from hf_langcore.instructions import arithmetic_rows

    make = partial(
        arithmetic_rows,
        operations=tuple(operations),
        digits=_digits(digits),
        wording=wording,
        decomposition=not direct,
        negative=negative,
    )
    measured = make(test) if test else []  # the same problems whatever the seed
    learned = make(count, seed=seed, exclude=measured)
    _write(output, learned, as_json=as_json)
    _write(held_out, measured, as_json=as_json)
    if as_json or output is None:
        values: Any = {"rows": learned, "test": measured}
        rendered = "\n".join(json.dumps(row, ensure_ascii=False) for row in [*learned, *measured])
        loading.show(values, as_json=as_json, rendered=rendered)


def _summary(found: InspectedRows) -> str:
    from hf_langcore.instructions import listed

    formats = ", ".join(f"{name} {count:,}" for name, count in found.formats.items())
    lines = [
        f"{len(found.rows):,} conversations{f' ({formats})' if formats else ''}, {len(found.problems):,} wrong rows"
    ]
    return "\n".join([*lines, *(f"  {line}" for line in listed(found.problems, most=_SHOWN))])


def _write(output: Path | None, rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    if output is None or not lines:
        return
    from hf_langcore.files import replace_text

    replace_text(output, "".join(lines))
    if not as_json:
        print(f"{len(lines):,} rows are in {output}")


def _digits(value: str) -> tuple[int, int]:
    fewest, _, most = value.partition("-")
    if not fewest.isdecimal() or (most and not most.isdecimal()):
        raise typer.BadParameter(f"expected a number or a range such as 1-3, got {value!r}", param_hint="--digits")
    return int(fewest), int(most or fewest)
