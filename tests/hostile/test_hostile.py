"""Damaged and hostile artifacts of every kind: refused with a reason, or read as what they were.

LANGCORE_HOSTILE says how many there are, 10000 for the whole set; `run.py` prints the table.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rogues import EXPECTED
from run import BEGIN, END, KIND_NAMES, _write, failures, plan_of, table, trials

from hf_langcore import CoreMask, ImportanceScores, PerplexityReport
from hf_langcore.errors import LangCoreError
from hf_langcore.hub.front_matter import split_card
from hf_langcore.hub.records import EvalResults
from hf_langcore.hub.references import REFERENCE_FILE, read_reference
from hf_langcore.masks.scores_storage import CONFIG_FILE as SCORES_FILE
from hf_langcore.masks.storage import CONFIG_FILE

COUNT = int(os.environ.get("LANGCORE_HOSTILE", "560"))


def test_every_artifact_is_refused_or_what_it_was() -> None:
    """In a confined process: no other error, no code, no file outside, bounded time and memory, a message that helps."""
    found = list(trials(plan_of(COUNT), seed=1))
    wrong = failures(found)
    assert not wrong, "\n".join(
        f"{one['kind']} {one['number']} ({one['damage']}): {one['outcome']}: {one['says']}" for one in wrong[:20]
    )
    assert len(found) >= COUNT
    for kind in KIND_NAMES:
        outcomes = Counter(one["outcome"] for one in found if one["kind"] == kind)
        assert outcomes["refused"] > outcomes["equal"] or kind in {"card", "search listing"}, (kind, outcomes)


def test_what_a_loader_does_wrong_is_noticed() -> None:
    """Loaders that accept, crash, hang, mumble, allocate, run code, look around."""
    found = {one["kind"]: one["outcome"] for one in trials([(f"rogue {name}", 0, 1) for name in EXPECTED], seed=0)}
    assert found == {f"rogue {name}": outcome for name, (outcome, _) in EXPECTED.items()}


def test_the_table(tmp_path: Path) -> None:
    """One row for each kind and damage and one for all, between the two marks of a page."""
    trial = {
        "kind": "mask",
        "damage": "bytes",
        "number": 0,
        "outcome": "refused",
        "says": "",
        "seconds": 0.5,
        "allocated": 2.0,
    }
    rows = table([trial, {**trial, "outcome": "accepted"}, {**trial, "outcome": "hang"}]).splitlines()
    assert rows[2] == "| mask | bytes | 3 | 1 | 0 | 0 | 1 | 1 | 0.50 | 2.0 |"
    assert rows[3].startswith("| **all** |  | 3 |")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for _ in range(2):
        _write(page, "\nnew\n")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew\n{END}\nafter\n"
    page.write_text("without marks")
    with pytest.raises(SystemExit, match="no place for the table"):
        _write(page, "new")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
heads = st.sampled_from(
    ["hf_langcore.core_mask", "hf_langcore.eval_results", "hf_langcore.core_mask_ref", "hf_langcore.importance"]
)


@given(head=heads, version=st.sampled_from([1, 2]), rest=st.dictionaries(st.sampled_from(
    ["tensors", "records", "mask_sha256", "digest", "provenance", "content_sha256", "repo_id", "revision", "scores_file", "conditions", "settings"]
), values))  # fmt: skip
def test_any_json_with_the_right_head(
    head: str, version: int, rest: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever stands in the file, it is an error of ours."""
    folder = tmp_path_factory.mktemp("any")
    text = json.dumps({"format": head, "format_version": version, **rest})
    for name in (CONFIG_FILE, REFERENCE_FILE, SCORES_FILE):
        (folder / name).write_text(text)
    for load in (CoreMask.from_pretrained, ImportanceScores.from_pretrained, read_reference):
        with pytest.raises(LangCoreError) as caught:
            load(folder)
        assert 30 < len(str(caught.value)) < 2000
    for read in (EvalResults.from_json, PerplexityReport.from_json):
        with pytest.raises(LangCoreError):
            read(text)


@given(st.text(alphabet=st.sampled_from("-a:{}[]&*!|>'\"#%@`\n\t ,?<=0.~"), max_size=60))
def test_any_metadata(block: str) -> None:
    """A mapping and the text, or an error of ours."""
    try:
        metadata, _ = split_card(f"---\n{block}\n---\ntext")
    except LangCoreError as error:
        metadata = {"refused": str(error)[:1000] == str(error)}
    assert isinstance(metadata, dict)
    assert metadata.get("refused") is not False
