"""From reports to records: what was noted is kept, what is nobody's business is not published."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import hf_langcore
from hf_langcore import PerplexityReport, evaluate_perplexity, perturb, scale_dimension
from hf_langcore.errors import InputError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.measured import Particulars, records_of
from hf_langcore.masks import CoreMask
from hf_langcore.masks.origin import HubOrigin
from hf_langcore.masks.provenance import Provenance

NAME = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture
def named(llama: Any) -> Any:
    llama.config._name_or_path = "them/base"
    return llama


@pytest.fixture
def core_mask(llama: Any) -> CoreMask:
    bits = torch.zeros_like(llama.get_parameter(NAME), dtype=torch.bool)
    bits[3] = True
    return CoreMask({NAME: bits}, provenance=Provenance(base_model="them/base", base_revision="a" * 40))


@pytest.fixture
def table(named: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> PerplexityReport:
    base = evaluate_perplexity(named, tokenizer, texts, progress=False, seed=3)
    with perturb(named, core_mask):
        zeroed = evaluate_perplexity(named, tokenizer, texts, progress=False, seed=3)
    return PerplexityReport.compare({"base": base, "top": zeroed})


def test_what_a_report_knows(table: PerplexityReport, core_mask: CoreMask) -> None:
    """Model, text, windows, versions and date; which conditions were edited, and how."""
    records = {(one.condition, one.language): one for one in records_of(table, Particulars(core_mask=core_mask))}
    assert set(records) == {("base", "en"), ("base", "de"), ("top", "en"), ("top", "de")}
    base, zeroed = records["base", "en"], records["top", "en"]
    assert (base.model, base.model_revision) == ("them/base", "a" * 40)
    assert (base.perturbed, base.how, base.core_mask) == (False, None, None)
    assert (zeroed.perturbed, zeroed.core_mask) == (True, core_mask.digest())
    assert zeroed.how == f"zero: {core_mask.provenance.summary()}, 32 weights"
    assert (zeroed.nll, zeroed.tokens) == (table["top"].nll["en"], table["top"].tokens["en"])
    assert (base.block_size, base.stride, base.start_token) == (64, 32, "bos (id 1)")
    assert (base.dtype, base.seed) == ("float32", 3)
    assert base.text_sha256 == table.settings["text_sha256"]
    assert base.versions["hf_langcore"] == hf_langcore.__version__
    assert base.versions["torch"] == torch.__version__
    assert base.date is not None
    assert base.bytes == sum(len(text.encode()) for text in TEXTS_EN)


TEXTS_EN = [
    "the cat sat on the mat and looked at the moon",
    "a dog ran home",
    "we saw two birds in the old tree",
]


def test_what_only_the_caller_knows(table: PerplexityReport, core_mask: CoreMask) -> None:
    """Data sets for all languages or for each; seeds only where none was noted; digests of masks by condition."""
    given = Particulars(
        dataset="me/texts",
        dataset_config={"en": "eng", "de": "deu"},
        dataset_split="test",
        dataset_revision="v1",
        seed=99,
        core_mask={"top": core_mask.digest(), "base": "c" * 64},
        core_mask_repo="me/core",
        core_mask_revision="d" * 40,
        model_revision="e" * 40,
    )
    records = list(records_of(table, given))
    assert {(one.language, one.dataset_config) for one in records} == {("en", "eng"), ("de", "deu")}
    assert {(one.dataset, one.dataset_split, one.dataset_revision) for one in records} == {("me/texts", "test", "v1")}
    assert {one.seed for one in records} == {3}
    assert {(one.condition, one.core_mask) for one in records} == {("base", None), ("top", core_mask.digest())}
    assert {one.core_mask_repo for one in records} == {None, "me/core"}
    assert {one.model_revision for one in records} == {"e" * 40}


def test_where_the_mask_lies(table: PerplexityReport, core_mask: CoreMask) -> None:
    """A mask that was pulled or pushed knows it."""
    core_mask = core_mask.with_origin(HubOrigin("me/core", "f" * 40))
    places = {
        (one.core_mask_repo, one.core_mask_revision)
        for one in records_of(table["top"], Particulars(core_mask=core_mask))
    }
    assert places == {("me/core", "f" * 40)}


def test_hub_sources_are_noted() -> None:
    """Corpora that named a data set say where the text comes from."""
    settings = {"model": "me/m", "datasets": {"en": {"dataset": "me/texts", "config": "eng", "split": "test"}}}
    report = PerplexityReport({"base": {"en": LanguageScore(1.0, 9), "de": LanguageScore(1.0, 9)}}, settings=settings)
    english, german = records_of(report, Particulars())
    assert (english.dataset, english.dataset_config, english.dataset_split) == ("me/texts", "eng", "test")
    assert german.dataset is None


@pytest.mark.parametrize("noted", [None, "", "/srv/models/secret-model", "./secret-model", "models\\secret-model"])
def test_folders_are_not_published(noted: str | None) -> None:
    """The message asks for the repository, and does not repeat the path."""
    report = PerplexityReport({"base": {"en": LanguageScore(1.0, 9)}}, settings={"model": noted})
    with pytest.raises(InputError, match='model="owner/name"') as caught:
        list(records_of(report, Particulars()))
    assert "srv" not in str(caught.value)
    (record,) = records_of(report, Particulars(model="me/model", model_revision="a" * 40))
    assert (record.model, record.model_revision, record.base_model) == ("me/model", "a" * 40, None)


def test_relative_folders_look_like_repositories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, core_mask: CoreMask
) -> None:
    """A name of a folder that is there is none of a repository; the mask says what the model is."""
    (tmp_path / "them" / "copy").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    report = PerplexityReport({"base": {"en": LanguageScore(1.0, 9)}}, settings={"model": "them/copy"})
    with pytest.raises(InputError, match="the folder 'copy'"):
        list(records_of(report, Particulars()))
    (record,) = records_of(report, Particulars(core_mask=core_mask))
    assert (record.model, record.model_revision) == ("them/base", "a" * 40)


def test_another_model_than_was_noted(table: PerplexityReport) -> None:
    """What the weights were loaded from is not forgotten when the caller names another model."""
    for record in records_of(table["base"], Particulars(model="me/adapter", core_mask="b" * 64)):
        assert (record.model, record.base_model, record.core_mask) == ("me/adapter", "them/base", "b" * 64)


def test_adapters(named: Any, tokenizer: Any, texts: Any) -> None:
    """An active adapter is part of the record; one that is switched off is not."""
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(named, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    (first, _) = records_of(
        evaluate_perplexity(model, tokenizer, texts, condition="base", progress=False), Particulars()
    )
    assert (first.model, first.adapter, first.perturbed) == ("them/base", "default (LORA)", False)
    with model.disable_adapter():
        off = evaluate_perplexity(model, tokenizer, texts, progress=False)
    assert {one.adapter for one in records_of(off, Particulars())} == {None}


def test_edits_of_single_dimensions(named: Any, tokenizer: Any, texts: Any) -> None:
    """They are named in the record."""
    with scale_dimension(named, "model.norm", 3, factor=10):
        report = evaluate_perplexity(named, tokenizer, texts, progress=False)
    assert {one.how for one in records_of(report, Particulars())} == {"model.norm.weight 3 times 10, 1 weight"}


def test_nobody_noted_it(table: PerplexityReport) -> None:
    """A table made by hand says nothing about edits, and neither do its records."""
    by_hand = PerplexityReport(table.conditions, settings=table.settings)
    assert {(one.condition, one.perturbed) for one in records_of(by_hand, Particulars())} == {
        ("base", False),
        ("top", None),
    }


@pytest.mark.parametrize(
    ("settings", "given", "message"),
    [
        ({"text_sha256": "short"}, {}, "'base', language 'en': text_sha256 should be"),
        ({}, {"core_mask": "me/core"}, "core_mask should be a CoreMask or the 64 hex digits"),
        ({}, {"dataset": "/srv/texts"}, "dataset should be"),
        ({}, {"model_revision": "main"}, "model_revision should be"),
        ({"versions": {"torch": 2}}, {}, "versions should be"),
    ],
)
def test_wrong_values(settings: dict[str, Any], given: dict[str, Any], message: str) -> None:
    """Conditions and languages are named."""
    report = PerplexityReport(
        {"base": {"en": LanguageScore(1.0, 9)}}, settings={"model": "me/m", "adapters": ["a"], **settings}
    )
    with pytest.raises(InputError, match=message):
        list(records_of(report, Particulars(**given)))


def test_records_are_completed() -> None:
    """What a record says already stays."""
    record = EvalRecord(model="me/m", condition="top", language="en", tokens=9, nll=1.0, dataset="me/own", seed=1)
    done = Particulars(dataset="me/texts", dataset_split="test", seed=5, core_mask="b" * 64).complete(record)
    assert (done.dataset, done.dataset_split, done.seed, done.core_mask) == ("me/own", "test", 1, "b" * 64)


def test_the_mask_that_was_edited(table: PerplexityReport, core_mask: CoreMask) -> None:
    """It is known without being named, and no other one takes its place, also through JSON."""
    mine, other = core_mask.digest(), core_mask.complement().with_provenance(core_mask.provenance)
    for report in (table, PerplexityReport.from_json(table.to_json()), table["top"]):
        (edited,) = {one.core_mask for one in records_of(report, Particulars()) if one.is_edited}
        assert edited == mine
        with pytest.raises(
            InputError, match=f"'top'.* mask {mine[:8]} edited.* is {other.digest()[:8]}, another mask"
        ):
            list(records_of(report, Particulars(core_mask=other)))
        with pytest.raises(InputError, match="another mask"):
            list(records_of(report, Particulars(core_mask={"top": other.digest()})))
    assert list(records_of(table["base"], Particulars(core_mask=other)))


@pytest.mark.parametrize("kind", ["random", "complement", "drawn", "dimension"])
def test_controls_stand_beside_the_mask_that_they_are_compared_with(
    named: Any, tokenizer: Any, texts: Any, core_mask: CoreMask, kind: str
) -> None:
    """What is drawn from a mask, its complement and single dimensions are no other mask's core."""
    drawn = core_mask.complement().with_provenance(Provenance(method="random", which="random", fraction=0.1))
    regions = {"random": core_mask.random_like(seed=1), "complement": core_mask.complement(), "drawn": drawn}
    with scale_dimension(named, "model.norm", 3, factor=2) if kind == "dimension" else perturb(named, regions[kind]):
        report = evaluate_perplexity(named, tokenizer, texts, progress=False)
    assert {one.core_mask for one in records_of(report, Particulars())} == {None}
    assert {one.core_mask for one in records_of(report, Particulars(core_mask=core_mask))} == {core_mask.digest()}


def test_two_masks_at_once(named: Any, tokenizer: Any, texts: Any, core_mask: CoreMask) -> None:
    """Each of them may be named; without a name nobody guesses."""
    second = core_mask.complement().with_provenance(core_mask.provenance)
    with perturb(named, core_mask), perturb(named, second):
        report = evaluate_perplexity(named, tokenizer, texts, progress=False)
    assert {one.core_mask for one in records_of(report, Particulars())} == {None}
    for one in (core_mask, second):
        assert {record.core_mask for record in records_of(report, Particulars(core_mask=one))} == {one.digest()}
    with pytest.raises(InputError, match="another mask"):
        list(records_of(report, Particulars(core_mask="b" * 64)))


def test_where_another_mask_lies_is_not_said_of_a_record(core_mask: CoreMask) -> None:
    """A record that names its mask gets no repository of another one, and that of its own."""
    record = EvalRecord(model="me/m", condition="top", language="en", tokens=9, nll=1.0, core_mask="b" * 64)
    placed = core_mask.with_origin(HubOrigin("me/core", "f" * 40))
    assert Particulars(core_mask=placed).complete(record).core_mask_repo is None
    own = replace(record, core_mask=core_mask.digest())
    assert Particulars(core_mask=placed).complete(own).core_mask_repo == "me/core"


def test_notes_that_are_none() -> None:
    """A report may come from anybody."""
    for noted in ("b" * 64, ["short", 3, None], {"a": 1}):
        report = PerplexityReport(
            {"top": {"en": LanguageScore(1.0, 9)}}, settings={"model": "me/m", "edits": ["x"], "edited_masks": noted}
        )
        (record,) = records_of(report, Particulars(core_mask="c" * 64))
        assert record.core_mask == "c" * 64
