"""Results in every form that people have them, as records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from hf_langcore.errors import InputError
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.measured import MaskOf, Particulars, records_of
from hf_langcore.hub.records import RESULTS_FILE, RESULTS_LIMIT, EvalResults

Results: TypeAlias = PerplexityReport | EvalResults | EvalRecord | str | Path
"""Figures, or the file or folder that holds them."""


def gathered(
    results: Results | Sequence[Results], *, core_mask: MaskOf = None, model: str | None = None
) -> EvalResults:
    """Results in any form as records; see `push_eval_results`."""
    return gathered_with(results, Particulars(core_mask=core_mask, model=model))


def gathered_with(results: Any, particulars: Particulars) -> EvalResults:
    """Results in any form as records, with what the caller knows.

    Args:
        results: A report, records, a file or folder of these, or several of them.
        particulars: What reports cannot know.

    Raises:
        InputError: They cannot be read, do not say which model they are of, or there are none.
    """
    found = EvalResults()
    for records in _all_records(results, particulars):
        found = found.merge(records)
    if not len(found):
        raise InputError("There are no results to push: expected a PerplexityReport or an EvalResults with records.")
    return found


def _all_records(results: Any, particulars: Particulars) -> Iterator[list[EvalRecord]]:
    if isinstance(results, (str, Path)):
        results = _read_any(Path(results))
    if isinstance(results, PerplexityReport):
        yield list(records_of(results, particulars))
    elif isinstance(results, EvalRecord):
        yield [particulars.complete(results)]
    elif isinstance(results, EvalResults):
        yield [particulars.complete(record) for record in results]
    elif isinstance(results, Iterable) and not isinstance(results, Mapping):
        for one in results:
            yield from _all_records(one, particulars)
    else:
        raise InputError(
            "results should be a PerplexityReport, an EvalResults, the path of one, or a list of these, got "
            f"{type(results).__name__}."
        )


def _read_any(path: Path) -> PerplexityReport | EvalResults:
    """A file that `EvalResults.save` or `PerplexityReport.to_json` wrote."""
    file = file_of(path)
    try:
        return read_file(file)
    except InputError as error:
        try:
            return PerplexityReport.from_json(file)
        except InputError:
            raise error from None


def read_file(path: Path, name: str | None = None) -> EvalResults:
    """Read a file of results.

    Args:
        path: The file.
        name: For messages.

    Raises:
        InputError: It is too large, damaged, or no such file.
    """
    name = name or str(path)
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= RESULTS_LIMIT else b""
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror or error}). Name a file of results.") from error
    if size > RESULTS_LIMIT:
        raise InputError(f"{name} has {size:,} bytes, at most {RESULTS_LIMIT:,} are read: it is no file of results.")
    return EvalResults.from_json(content, name=name)


def file_of(path: Path) -> Path:
    """The file that holds the results in a folder, or the file itself.

    Raises:
        InputError: There is none.
    """
    file = path / RESULTS_FILE if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"There are no evaluation results at {str(path)!r}: expected a file, a folder with {RESULTS_FILE}, or 'owner/name' of "
            "a repository."
        )
    return file
