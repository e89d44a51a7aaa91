"""`eval/results.json`: whatever is written comes back, and whatever is damaged is refused by place."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.hub import records as records_module
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.records import FORMAT, RESULTS_FILE, EvalResults
from hf_langcore.hub.results_table import results_table
from hf_langcore.sealing import sealed

HEX = "0123456789abcdef"
BASE = EvalRecord(
    model="me/model",
    condition="base",
    language="en",
    tokens=100,
    nll=1.5,
    bytes=400,
    perturbed=False,
    text_sha256="d" * 64,
)
GERMAN = replace(BASE, language="de", nll=2.0, bytes=500)
ZEROED = replace(BASE, condition="top 3 %", nll=math.inf, perturbed=True, how="zero", core_mask="b" * 64)
ZEROED_GERMAN = replace(ZEROED, language="de", nll=9.0)
TABLE = EvalResults([ZEROED, ZEROED_GERMAN, BASE, GERMAN])

some_records = st.lists(
    st.builds(
        EvalRecord,
        model=st.sampled_from(["me/model", "me/other"]),
        condition=st.sampled_from(["base", "top 3 %", "random | 3 %", "ζερω"]),
        language=st.sampled_from(["en", "de", "no"]),
        tokens=st.integers(1, 10**6),
        nll=st.floats(0, 800) | st.just(math.inf),
        bytes=st.none() | st.integers(1, 10**6),
        date=st.none() | st.sampled_from(["2026-11-21T18:00:00Z", "2026-11-22T18:00:00Z"]),
        core_mask=st.none() | st.just("b" * 64),
    ),
    max_size=8,
    unique_by=lambda record: record.key,
)


@given(some_records)
def test_json_round_trip(found: list[EvalRecord]) -> None:
    """Text and bytes read back equal; the text is plain JSON with the format's name and version."""
    results = EvalResults(found)
    text = results.to_json()
    values = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (values["format"], values["format_version"]) == (FORMAT, 1)
    assert EvalResults.from_json(text) == EvalResults.from_json(text.encode()) == results


@given(some_records, some_records)
def test_merging(mine: list[EvalRecord], others: list[EvalRecord]) -> None:
    """Each key once; of two the newer, and without dates the other's; merging again changes nothing."""
    first, second = EvalResults(mine), EvalResults(others)
    merged = first.merge(second)
    assert {record.key for record in merged} == {record.key for record in [*first, *second]}
    assert merged.merge(second) == merged
    by_key = {record.key: record for record in merged}
    for record in second:
        before = next((one for one in first if one.key == record.key), None)
        is_older = (
            before is not None and before.date is not None and record.date is not None and record.date < before.date
        )
        assert by_key[record.key] == (before if is_older else record)


@pytest.mark.parametrize(
    ("known", "new", "expected"),
    [
        ("2026-11-21T18:00:00Z", "2026-11-22T08:00:00Z", 2.0),
        ("2026-11-22T08:00:00Z", "2026-11-21T18:00:00Z", 1.0),
        ("2026-11-22T08:00:00Z", "2026-11-22T08:00:00Z", 2.0),
        ("2026-11-22T08:00:00Z", None, 2.0),
        (None, "2026-11-22T08:00:00Z", 2.0),
        (None, None, 2.0),
    ],
)
def test_the_newer_stays(known: str | None, new: str | None, expected: float) -> None:
    """Whoever pushes last does not bring old figures back."""
    merged = EvalResults([replace(BASE, nll=1.0, date=known), GERMAN]).merge([replace(BASE, nll=2.0, date=new)])
    assert [record.nll for record in merged] == [expected, GERMAN.nll]


def test_told_again() -> None:
    """The same measurement with other particulars is one record that knows all of them; another one is not."""
    first = replace(BASE, date="2026-11-21T18:00:00Z", model_revision="a" * 40)
    again = replace(first, model_revision=None, dataset="me/texts", core_mask="b" * 64)
    (record,) = EvalResults([first]).merge([again])
    assert record == replace(first, dataset="me/texts", core_mask="b" * 64)
    assert list(EvalResults([record]).merge([first])) == [record]
    for other in (
        replace(again, nll=1.6),
        replace(again, date="2026-11-21T18:00:01Z"),
        replace(again, date=None),
        replace(again, text_sha256=None),
        replace(again, model_revision="c" * 40),
        replace(again, language="de"),
    ):
        assert len(EvalResults([first]).merge([other])) == 2
    assert [one.language for one in EvalResults([first, GERMAN]).merge([again])] == ["en", "de"]


def test_sequence() -> None:
    """A sequence of records: places, slices, membership, equality."""
    assert len(TABLE) == 4
    assert TABLE[0] == ZEROED
    assert TABLE[2:] == EvalResults([BASE, GERMAN])
    assert BASE in TABLE
    assert EvalResults([BASE]) != EvalResults([replace(BASE, nll=1.0)])
    assert hash(EvalResults([BASE])) == hash(EvalResults([BASE]))
    assert repr(TABLE) == "EvalResults(4 records: 2 languages, conditions ['top 3 %', 'base'])"
    assert (TABLE.languages, TABLE.datasets()) == (["en", "de"], [])
    assert EvalResults([replace(BASE, dataset="me/texts")]).datasets() == ["me/texts"]
    assert list(TABLE.select(language="de", condition="base")) == [GERMAN]
    assert len(TABLE.select(core_mask="b" * 64)) == 2


def test_only_records() -> None:
    """Nothing else gets in, and nothing twice."""
    with pytest.raises(InputError, match="got str at place 1"):
        EvalResults([BASE, "text"])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"record 2 .*'base'.*the same as record 0"):
        EvalResults([BASE, GERMAN, replace(BASE, nll=7.0)])


def test_report() -> None:
    """Conditions x languages, the model as it is first, with what was noted of each condition."""
    report = TABLE.report()
    assert list(report.conditions) == ["base", "top 3 %"]
    assert report["base"].nll == {"en": 1.5, "de": 2.0}
    assert report["top 3 %"].perplexity["en"] == math.inf
    assert report.conditions["base"]["en"].bytes == 400
    assert report.settings_of("base")["edits"] == []
    assert report.settings_of("top 3 %")["edits"] == ["zero"]
    assert "edits" not in EvalResults([replace(BASE, perturbed=None)]).report().settings
    assert report.settings["text_sha256"] == "d" * 64


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "of 0 models"),
        ([BASE, replace(BASE, model="me/other", condition="top")], "of 2 models"),
        ([BASE, replace(BASE, condition="top", text_sha256="e" * 64)], "of 2 texts"),
        ([ZEROED, replace(ZEROED, core_mask="e" * 64)], r"several records of condition 'top 3 %'"),
        ([BASE, GERMAN, ZEROED], "same languages"),
    ],
)
def test_what_is_no_single_table(found: list[EvalRecord], message: str) -> None:
    """Figures of several models, texts or masks are not thrown into one table."""
    with pytest.raises(InputError, match=message):
        EvalResults(found).report()


def test_markdown() -> None:
    """The table of all records."""
    assert TABLE.to_markdown() == results_table(TABLE)


def test_save(tmp_path: Path) -> None:
    """Into a file or, as in a repository, into a folder."""
    assert TABLE.save(tmp_path / "some.json") == tmp_path / "some.json"
    assert TABLE.save(tmp_path / "folder") == tmp_path / "folder" / RESULTS_FILE
    for path in (tmp_path / "some.json", tmp_path / "folder" / RESULTS_FILE):
        assert EvalResults.from_json(path.read_bytes()) == TABLE


def damaged(**changes: Any) -> str:
    values = json.loads(TABLE.to_json())
    for path, value in changes.items():
        target = values
        *way, last = path.split("__")
        for step in way:
            target = target[int(step)] if step.isdigit() else target[step]
        target[last] = value
    try:
        return json.dumps(sealed(values))  # whoever alters it on purpose seals it again
    except ValueError:
        return json.dumps(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no valid JSON"),
        ("{", "no valid JSON"),
        (b"\xff\xfe", "no valid JSON"),
        ("[" * 100_000, "no valid JSON"),
        ("9" * 5000, "no valid JSON"),
        ("[]", "holds no evaluation results"),
        ("null", "holds no evaluation results"),
        (damaged(format="other"), "holds no evaluation results"),
        (damaged(format_version=2), "format_version '2'.*Update hf_langcore"),
        (damaged(format_version=True), "format_version 'True'"),
        (damaged(format_version="1"), "format_version '1'"),
        (damaged(format_version=1.0), "format_version '1.0'"),
        (damaged(extra=1), "'extra' is missing or too much"),
        (damaged(records={}), "records should be a list.*got a dict"),
        (damaged(records=[1]), "record 0: a record should be a JSON object"),
        (damaged(records__1__nll=1e400), "no valid JSON|record 1: nll"),
        (damaged(records__1__nll=-1.0), "record 1: nll should be"),
        (damaged(records__2__tokens=-5), "record 2: tokens should be"),
        (damaged(records__3__perplexity=1.0), "record 3: perplexity should be 7.38"),
        (damaged(records__3__language="en"), "record 3: perplexity|record 3 .*the same as record 2"),
        (TABLE.to_json().replace('"nll": 1.5', '"nll": NaN'), "NaN is no JSON"),
        (TABLE.to_json().replace('"nll": "inf"', '"nll": Infinity'), "Infinity is no JSON"),
        (TABLE.to_json().replace('"tokens": 100', '"tokens": 100, "tokens": 100', 1), "'tokens' stands twice"),
        (TABLE.to_json().replace('"nll": 1.5', '"nll": 1e999'), "too large for a number"),
        (TABLE.to_json().replace('"nll": 1.5', '"nll": 1.25'), "another checksum"),
        (TABLE.to_json().replace("content_sha256", "content"), "'content' is missing or too much"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_damaged_files(text: str | bytes, message: str) -> None:
    """Each damage is named with the file and the record."""
    with pytest.raises(InputError, match=message) as caught:
        EvalResults.from_json(text, name="some.json")
    assert str(caught.value).startswith("some.json")


@given(st.integers(0), st.binary(min_size=1, max_size=3))
def test_flipped_bytes(place: int, other: bytes) -> None:
    """Bytes that were overwritten give an error of this library, or figures that agree with one another."""
    content = bytearray(TABLE.to_json().encode())
    place %= len(content)
    content[place : place + len(other)] = other
    try:
        found = EvalResults.from_json(bytes(content))
    except InputError:
        return
    assert EvalResults.from_json(found.to_json()) == found


def test_absurd_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither too many bytes nor too many records are read."""
    monkeypatch.setattr(records_module, "_MOST_RECORDS", 3)
    with pytest.raises(InputError, match="at most 3 records, got 4 records"):
        EvalResults.from_json(TABLE.to_json())
    monkeypatch.setattr(records_module, "RESULTS_LIMIT", 100)
    with pytest.raises(InputError, match="at most 100 are read"):
        EvalResults.from_json(TABLE.to_json())
