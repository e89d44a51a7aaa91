"""A record says what was measured, and nothing that cannot be true or must not be known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.errors import InputError
from hf_langcore.hub.eval_record import EvalRecord, is_digest, is_model_name
from hf_langcore.masks.origin import is_commit

PLAIN = EvalRecord(model="me/model", condition="base", language="en", tokens=100, nll=1.5)
FULL = replace(
    PLAIN,
    bytes=400,
    model_revision="a" * 40,
    base_model="them/base",
    perturbed=True,
    how="zero: taylor top 3 %, 12 weights",
    adapter="default (LORA)",
    core_mask="b" * 64,
    core_mask_repo="me/core",
    core_mask_revision="c" * 40,
    dataset="me/texts",
    dataset_config="eng",
    dataset_split="test",
    dataset_revision="v1",
    text_sha256="d" * 64,
    block_size=512,
    stride=256,
    start_token="bos (id 1)",  # noqa: S106 a token of a tokenizer
    dtype="float32",
    seed=0,
    versions={"torch": "2.13.0"},
    date="2026-11-21T18:00:00Z",
)

texts = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="\ufeff"), min_size=1
).filter(lambda text: bool(text.strip()) and "hf_" not in text)
losses = st.floats(0, 1e6) | st.just(math.inf)
records = st.builds(
    EvalRecord,
    model=st.sampled_from(["me/model", "gpt2", "A.b_c/D-e.f"]),
    condition=texts,
    language=texts,
    tokens=st.integers(1, 10**9),
    nll=losses,
    bytes=st.none() | st.integers(1, 10**9),
    model_revision=st.none() | st.text("0123456789abcdef", min_size=40, max_size=40),
    perturbed=st.none() | st.booleans(),
    core_mask=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    dataset=st.none() | st.just("me/texts"),
    dataset_config=st.none() | texts,
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    versions=st.dictionaries(texts, texts, max_size=3),
)


@given(records)
def test_json_round_trip(record: EvalRecord) -> None:
    """What is written comes back equal, infinite figures included, and is plain JSON."""
    text = json.dumps(record.to_dict(), allow_nan=False)
    assert EvalRecord.from_dict(json.loads(text)) == record


def test_full_round_trip() -> None:
    """Every field comes back, and two that are equal are one in a set."""
    again = EvalRecord.from_dict(FULL.to_dict())
    assert again == FULL
    assert {again, FULL} == {FULL}
    assert FULL.to_dict()["perplexity"] == pytest.approx(math.exp(1.5))
    assert FULL.bits_per_byte == pytest.approx(1.5 * 100 / math.log(2) / 400)


def test_destroyed_models() -> None:
    """Infinity is the word inf in both figures; a perplexity beyond any float has a finite loss."""
    values = replace(PLAIN, nll=math.inf, bytes=9).to_dict()
    assert (values["nll"], values["perplexity"], values["bits_per_byte"]) == ("inf", "inf", "inf")
    assert EvalRecord.from_dict(values).perplexity == math.inf
    large = replace(PLAIN, nll=1000.0).to_dict()
    assert (large["nll"], large["perplexity"]) == (1000.0, "inf")
    assert EvalRecord.from_dict(large).nll == 1000.0


WRONG: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", "/srv/models/secret"),
    ("model", "./model"),
    ("model", "~/model"),
    ("model", "C:\\model"),
    ("model", "a/b/c"),
    ("model", "../up"),
    ("model", None),
    ("model", "me/hf_" + "a" * 34),
    ("base_model", "/srv/base"),
    ("condition", ""),
    ("condition", " "),
    ("condition", "a\nb"),
    ("condition", "a\ud800"),
    ("condition", "x" * 401),
    ("condition", "hf_" + "A" * 34),
    ("condition", 3),
    ("language", None),
    ("tokens", 0),
    ("tokens", -3),
    ("tokens", 2.0),
    ("tokens", True),
    ("tokens", 10**16),
    ("nll", math.nan),
    ("nll", -0.1),
    ("nll", "many"),
    ("nll", True),
    ("nll", None),
    ("bytes", 0),
    ("bytes", -1),
    ("model_revision", "main"),
    ("model_revision", "A" * 40),
    ("perturbed", 1),
    ("how", 5),
    ("core_mask", "b" * 63),
    ("core_mask_revision", "v1"),
    ("dataset", "/srv/texts"),
    ("dataset", "../texts"),
    ("dataset", "~/texts"),
    ("dataset", "D:/texts"),
    ("text_sha256", "t"),
    ("block_size", 0),
    ("seed", 2**63),
    ("seed", 1.5),
    ("versions", ["torch"]),
    ("versions", {"torch": 2}),
    ("versions", {str(number): "1" for number in range(33)}),
    ("date", "yesterday"),
    ("date", "2026-13-21T18:00:00Z"),
    ("date", "2026-11-21T18:00:00+00:00"),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: repr(value)[:30])
def test_wrong_fields(name: str, value: Any) -> None:
    """The message names the field and never repeats a token."""
    with pytest.raises(InputError, match=rf"^{name} should be") as caught:
        replace(FULL, **{name: value})
    assert "hf_" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"perplexity": 4.0}, "perplexity should be 4.48"),
        ({"perplexity": "inf"}, "perplexity should be 4.48"),
        ({"perplexity": None}, "perplexity should be 4.48"),
        ({"perplexity": True, "nll": 0.0}, "perplexity should be 1.0"),
        ({"perplexity": math.nan}, "perplexity should be 4.48"),
        ({"bits_per_byte": 1.0}, "bits_per_byte should be 0.54"),
        ({"bits_per_byte": None}, "bits_per_byte should be 0.54"),
        ({"bytes": None}, "bits_per_byte should be None"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"perturbed": False}, "how says"),
        ({"nll": math.nan}, "nll should be"),
        ({"nll": "Infinity"}, "nll should be"),
        ({"versions": "new"}, "versions should be"),
    ],
    ids=repr,
)
def test_records_that_cannot_be_true(change: dict[str, Any], message: str) -> None:
    """Figures that do not follow from one another, and fields that nobody knows."""
    with pytest.raises(InputError, match=message):
        EvalRecord.from_dict({**FULL.to_dict(), **change})


@pytest.mark.parametrize("name", ["model", "condition", "language", "tokens", "nll", "perplexity"])
def test_missing_fields(name: str) -> None:
    """What every record needs is asked for by name; the rest may be left out."""
    values = FULL.to_dict()
    del values[name]
    with pytest.raises(InputError, match=f"missing field '{name}'"):
        EvalRecord.from_dict(values)
    with pytest.raises(InputError, match="JSON object"):
        EvalRecord.from_dict([name])
    short = {key: PLAIN.to_dict()[key] for key in ("model", "condition", "language", "tokens", "nll", "perplexity")}
    assert EvalRecord.from_dict(short) == PLAIN


def test_figures_of_other_programs() -> None:
    """A last digit more or less is no lie."""
    values = FULL.to_dict()
    values["perplexity"] *= 1 + 1e-9
    assert EvalRecord.from_dict(values) == FULL


@pytest.mark.parametrize(
    ("condition", "perturbed", "expected"),
    [
        ("base", None, False),
        ("baseline", None, False),
        ("model", None, True),
        ("top 3 %", None, True),
        ("top 3 %", False, False),
        ("base", True, True),
    ],
)
def test_what_counts_as_edited(condition: str, perturbed: bool | None, expected: bool) -> None:
    """What was noted counts; where nothing was, all but the baseline counts as edited."""
    assert replace(PLAIN, condition=condition, perturbed=perturbed).is_edited is expected


@pytest.mark.parametrize(
    "change",
    [
        {"model": "me/other"},
        {"model_revision": "f" * 40},
        {"core_mask": "f" * 64},
        {"condition": "top"},
        {"language": "de"},
        {"dataset": "me/others"},
        {"dataset_split": "dev"},
        {"text_sha256": "f" * 64},
        {"adapter": "other"},
    ],
    ids=repr,
)
def test_keys(change: dict[str, Any]) -> None:
    """Each of these makes it another measurement; figures, dates and versions do not."""
    assert replace(FULL, **change).key != FULL.key
    assert replace(FULL, nll=3.0, tokens=5, date=None, versions={}, dtype="bfloat16").key == FULL.key


def test_names() -> None:
    """Names, commits and digests are told by their form."""
    assert all(is_model_name(name) for name in ("gpt2", "a/b", "meta-llama/Llama-3.1-8B"))
    assert not any(is_model_name(name) for name in ("", "/a", "a/", "a//b", "-a/b", "a b", None, "a/b/c", ".cache/x"))
    assert is_commit("0" * 40)
    assert not is_commit("0" * 41)
    assert is_digest("0" * 64)
    assert not is_digest(None)
