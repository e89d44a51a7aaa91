"""`eval/results.json`: records of evaluations, format version 1.

The file is the truth; what a card says is a copy of it. Its reader takes nothing on trust: it may come from anybody.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from hf_langcore.errors import InputError
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.files import replace_text
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.results_table import results_table
from hf_langcore.sealing import SEAL, is_intact, sealed
from hf_langcore.strict_json import parse_json

FORMAT = "hf_langcore.eval_results"
FORMAT_VERSION = 1
RESULTS_FILE = "eval/results.json"
RESULTS_LIMIT = 32 << 20
"""Bytes of the largest `eval/results.json` that is read."""

_MOST_RECORDS = 50_000


class EvalResults(Sequence[EvalRecord]):
    """Records of evaluations, each thing measured once.

    Example:
        >>> results = EvalResults([EvalRecord(model="me/model", condition="base", language="en", tokens=9, nll=1.5)])
        >>> len(results), results[0].perplexity > 4.48, results.languages
        (1, True, ['en'])
    """

    def __init__(self, records: Iterable[EvalRecord] = ()) -> None:
        """Hold records.

        Raises:
            InputError: Something is no record, or two records measure the same thing.
        """
        self._records = tuple(records)
        seen: dict[tuple[str | None, ...], int] = {}
        for place, record in enumerate(self._records):
            if not isinstance(record, EvalRecord):
                raise InputError(
                    f"EvalResults holds EvalRecord objects, got {type(record).__name__} at place {place}."
                )
            if record.key in seen:
                raise InputError(
                    f"record {place} ({_named(record)}) measures the same as record {seen[record.key]}: model, revision, mask, "
                    "condition, language and text are equal. Keep one of them."
                )
            seen[record.key] = place

    @classmethod
    def from_json(cls, source: str | bytes, *, name: str = RESULTS_FILE) -> EvalResults:
        """Read what `to_json` wrote, and check all of it.

        Args:
            source: The text.
            name: Of the file, for messages.

        Raises:
            InputError: It is damaged, altered, of a newer format, or no such file; the message names the place.
        """
        if len(source) > RESULTS_LIMIT:
            raise InputError(
                f"{name} has {len(source):,} bytes, at most {RESULTS_LIMIT:,} are read: it is no file of results."
            )
        try:
            values = parse_json(source)
        except ValueError as error:
            raise InputError(
                f"{name} is no valid JSON ({error}). Download it again, or write it with EvalResults.save."
            ) from error
        records = []
        for place, value in enumerate(_records_of(values, name)):
            try:
                records.append(EvalRecord.from_dict(value))
            except InputError as error:
                raise InputError(f"{name}, record {place}: {error}") from error
        try:
            return cls(records)
        except InputError as error:
            raise InputError(f"{name}, {error}") from error

    def to_json(self) -> str:
        """As JSON text."""
        values = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "records": [record.to_dict() for record in self],
        }
        return json.dumps(sealed(values), indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def save(self, path: str | Path) -> Path:
        """Write a file, all or nothing.

        Args:
            path: A file that ends in `.json`, or a folder that gets `eval/results.json`, as a repository has it.

        Returns:
            The file.
        """
        path = Path(path)
        target = path if path.suffix == ".json" and not path.is_dir() else path / RESULTS_FILE
        replace_text(target, self.to_json())
        return target

    def merge(self, other: Iterable[EvalRecord]) -> EvalResults:
        """All records of both; where both measure the same thing the newer one, which is `other`'s where dates do not tell.

        The same measurement told again, with more particulars (a data set, a revision), takes the place of the first telling.
        """
        records = list(self)
        places = {record.key: place for place, record in enumerate(records)}
        moments: dict[Any, int] = {one.moment: place for place, one in enumerate(records) if one.moment is not None}
        for new in other:
            before = moments.get(new.moment)
            told = None if before is None else new.told_again(records[before])
            place = places.get(new.key) if told is None else before
            if told is None and place is not None and (new.date or "9") < (records[place].date or ""):
                continue
            record = told or new
            if place is None:
                place = len(records)
                records.append(record)
            records[place] = record
            places[record.key] = place
            if record.moment is not None:
                moments[record.moment] = place
        return EvalResults({record.key: record for record in records}.values())

    def select(
        self,
        *,
        model: str | None = None,
        condition: str | None = None,
        language: str | None = None,
        dataset: str | None = None,
        core_mask: str | None = None,
        text_sha256: str | None = None,
    ) -> EvalResults:
        """The records that have all of the given values."""
        wanted = {
            "model": model,
            "condition": condition,
            "language": language,
            "dataset": dataset,
            "core_mask": core_mask,
            "text_sha256": text_sha256,
        }
        asked = {name: value for name, value in wanted.items() if value is not None}
        return EvalResults(
            record for record in self if all(getattr(record, name) == value for name, value in asked.items())
        )

    def report(self) -> PerplexityReport:
        """The table conditions x languages, the model as it was published first.

        Raises:
            InputError: There are no records, or they are of several models or texts, or a condition was measured on other
                languages than the others; `select` takes a part.
        """
        self._require_one("models", {(record.model, record.model_revision, record.adapter) for record in self})
        self._require_one("texts", {record.text_sha256 for record in self})
        conditions: dict[str, dict[str, EvalRecord]] = {}
        for record in sorted(self, key=lambda record: record.is_edited):
            languages = conditions.setdefault(record.condition, {})
            if record.language in languages:
                raise InputError(
                    f"There are several records of {_named(record)}, so that they do not fit one table. Take a part with "
                    "select(core_mask=...), select(dataset=...) or the like."
                )
            languages[record.language] = record
        settings = {name: _settings(records) for name, records in conditions.items()}
        return PerplexityReport(
            {name: {code: record.score for code, record in records.items()} for name, records in conditions.items()},
            settings=next(iter(settings.values())),
            condition_settings=settings,
        )

    def to_markdown(self) -> str:
        """A table for each model and text: one row a language, one column a condition."""
        return results_table(self)

    def datasets(self) -> list[str]:
        """The data sets, each once, in order."""
        return list(dict.fromkeys(record.dataset for record in self if record.dataset is not None))

    @property
    def languages(self) -> list[str]:
        """The languages, each once, in order."""
        return list(dict.fromkeys(record.language for record in self))

    @overload
    def __getitem__(self, place: int) -> EvalRecord: ...
    @overload
    def __getitem__(self, place: slice) -> EvalResults: ...
    def __getitem__(self, place: int | slice) -> EvalRecord | EvalResults:
        return EvalResults(self._records[place]) if isinstance(place, slice) else self._records[place]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[EvalRecord]:
        return iter(self._records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvalResults) and self._records == other._records

    def __hash__(self) -> int:
        return hash(tuple(record.key for record in self))

    def __repr__(self) -> str:
        conditions = list(dict.fromkeys(record.condition for record in self))
        return f"EvalResults({len(self)} records: {len(self.languages)} languages, conditions {conditions})"

    def _require_one(self, what: str, found: set[Any]) -> None:
        if len(found) != 1:
            raise InputError(
                f"A report is of one set of figures, and these {len(self)} records are of {len(found)} {what}. Take a part with "
                "select(model=...), select(text_sha256=...) or the like."
            )


def _records_of(values: Any, name: str) -> list[Any]:
    """The list of records, after checking what is around it."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f'{name} holds no evaluation results: expected a JSON object with "format": "{FORMAT}".')
    version = values.get("format_version")
    if version != FORMAT_VERSION or not isinstance(version, int) or isinstance(version, bool):
        raise InputError(
            f"{name} has format_version {str(version)[:80]!r}, this hf_langcore reads {FORMAT_VERSION}. Update hf_langcore."
        )
    expected = {"format", "format_version", "records", SEAL}
    if values.keys() != expected:
        odd = sorted(values.keys() ^ expected)
        raise InputError(
            f"{name} should have format, format_version, records and {SEAL}; {odd[0][:80]!r} is missing or too much."
        )
    if not is_intact(values):
        raise InputError(
            f"{name} was damaged or altered after it was written: its content has another checksum than it names. Download it "
            "again; records are changed with EvalResults and written with its save()."
        )
    records = values["records"]
    if not isinstance(records, list) or len(records) > _MOST_RECORDS:
        found = f"{len(records):,} records" if isinstance(records, list) else f"a {type(records).__name__}"
        raise InputError(f"{name}: records should be a list of at most {_MOST_RECORDS:,} records, got {found}.")
    return records


def _settings(records: dict[str, EvalRecord]) -> dict[str, Any]:
    """What a report says about one condition."""
    first = next(iter(records.values()))
    same = ("model", "dtype", "block_size", "stride", "start_token", "text_sha256", "seed", "date")
    settings: dict[str, Any] = {name: getattr(first, name) for name in same}
    settings |= {"revision": first.model_revision, "versions": dict(first.versions)}
    settings["adapters"] = [] if first.adapter is None else [first.adapter]
    if first.perturbed is not None:
        settings["edits"] = [first.how or "edited"] if first.perturbed else []
    sources = {
        code: {"dataset": record.dataset, "config": record.dataset_config, "split": record.dataset_split}
        for code, record in records.items()
        if record.dataset is not None
    }
    return settings | ({"datasets": sources} if sources else {})


def _named(record: EvalRecord) -> str:
    return f"condition {record.condition!r}, language {record.language!r}"
