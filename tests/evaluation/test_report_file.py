"""Reports as files: what was written comes back, what was changed is refused, older files are read."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from hf_langcore import PerplexityReport
from hf_langcore.errors import InputError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.evaluation.report_file import read_report
from hf_langcore.sealing import SEAL, sealed

SETTINGS = {"model": "me/model", "edits": ["zero"], "text_sha256": "d" * 64}
REPORT = PerplexityReport(
    {"base": {"en": LanguageScore(1.5, 100, 400)}, "gone": {"en": LanguageScore(math.inf, 100, 400)}},
    settings=SETTINGS,
    condition_settings={"base": SETTINGS},
)


def changed(**changes: Any) -> str:
    values = json.loads(REPORT.to_json())
    return json.dumps(sealed({**values, **changes}))


def figure(**changes: Any) -> str:
    return changed(conditions={"base": {"en": {"nll": 1.5, "perplexity": math.exp(1.5), "tokens": 100, **changes}}})


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """From text and from a file, in any layout; a file of before there were seals, too."""
    text = REPORT.to_json(tmp_path / "report.json")
    values = json.loads(text)
    unsealed = {key: value for key, value in values.items() if key != SEAL}
    assert len(unsealed) < len(values)
    for source in (text, tmp_path / "report.json", json.dumps(values, sort_keys=True), json.dumps(unsealed)):
        found = read_report(source)
        assert (found.conditions, found.settings) == (REPORT.conditions, SETTINGS)


def test_keys_that_json_turns_into_text_do_not_break_the_seal() -> None:
    """Settings made by hand."""
    report = PerplexityReport({"base": {"en": LanguageScore(1.0, 2)}}, settings={"seeds": {10: "a", 9: "b"}})
    assert PerplexityReport.from_json(report.to_json()).settings == {"seeds": {"10": "a", "9": "b"}}


@pytest.mark.parametrize(
    "old, new", [("1.5", "1.6"), ("me/model", "me/modem"), ('"base"', '"case"'), ("100", "101"), (SEAL, "seal")]
)
def test_no_word_changes_unnoticed(old: str, new: str) -> None:
    with pytest.raises(InputError, match=r"no perplexity report .*(checksum|not known)"):
        PerplexityReport.from_json(REPORT.to_json().replace(old, new, 1))


@pytest.mark.parametrize(
    "text, problem",
    [
        (changed(format_version=2), "this hf_langcore reads 1"),
        (changed(format_version=True), "this hf_langcore reads 1"),
        (changed(extra=1), "'extra' is not known"),
        (changed(settings=[1]), "settings should be a JSON object"),
        (changed(condition_settings={"base": 5}), "settings of a condition"),
        (figure(nll=-0.1), "nll should be"),
        (figure(nll=True), "nll should be"),
        (figure(nll="1.5"), "nll should be"),
        (figure(nll=10**400), "nll should be"),
        (figure(tokens=1.5), "tokens should be"),
        (figure(tokens=-1), "tokens should be"),
        (figure(tokens=None), "tokens should be"),
        (figure(bytes=True), "bytes should be"),
        (figure(perplexity=4.0), "as follows from nll"),
        (figure(perplexity=10**400), "as follows from nll"),
        (figure(perplexity=None), "as follows from nll"),
        (figure(odd=1), "unknown field 'odd'"),
        ('{"conditions": {}, "conditions": {}}', "stands twice"),
        ('{"settings": NaN}', "NaN"),
        ('{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_what_cannot_be_is_refused(text: str, problem: str) -> None:
    """Also where all checksums are right."""
    with pytest.raises(InputError, match=problem) as caught:
        PerplexityReport.from_json(text)
    assert len(str(caught.value)) < 1000


def test_messages_say_what_was_given(tmp_path: Path) -> None:
    """Text has no name; a file has."""
    text = REPORT.to_json().replace("1.5", "1.6")
    (tmp_path / "my.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"^The text is no perplexity report as written by to_json: its content"):
        PerplexityReport.from_json(text)
    with pytest.raises(InputError, match=r"^'.*my\.json' is no perplexity report"):
        PerplexityReport.from_json(tmp_path / "my.json")


def test_only_ordinary_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(InputError, match="no ordinary file"):
            PerplexityReport.from_json(path)
