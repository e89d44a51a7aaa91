"""Results on the Hub: one commit, merged with what is there, read back anywhere."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from hf_langcore import PerplexityReport, evaluate_perplexity, perturb
from hf_langcore.errors import ConfigurationError, HubConflictError, HubError, HubNotFoundError, InputError
from hf_langcore.evaluation import LanguageScore
from hf_langcore.hub import gathering
from hf_langcore.hub import records as records_module
from hf_langcore.hub import results as results_module
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.records import RESULTS_FILE, EvalResults
from hf_langcore.hub.redaction import require_no_secret
from hf_langcore.hub.results import load_eval_results, push_eval_results
from hf_langcore.masks import CoreMask
from hf_langcore.masks.provenance import Provenance
from hf_langcore.sealing import sealed

BASE = EvalRecord(model="ada/model", condition="base", language="en", tokens=100, nll=1.5, perturbed=False)
GERMAN = replace(BASE, language="de")
ZEROED = replace(BASE, condition="top", perturbed=True, core_mask="b" * 64)
MINE, THEIRS = EvalResults([BASE, ZEROED]), EvalResults([replace(BASE, nll=9.0), GERMAN])

REPO = "ada/core"
CARD = "---\nlicense: mit   # theirs\n---\n\n# Their text\n"


@pytest.fixture
def hub(online: Any) -> Any:
    return online.hub


@pytest.fixture
def table(llama: Any, tokenizer: Any, texts: Any) -> tuple[PerplexityReport, CoreMask]:
    """A model that was measured as it is and with a region zeroed, and the region."""
    llama.config._name_or_path = "ada/model"
    name = "model.layers.0.self_attn.q_proj.weight"
    bits = torch.ones_like(llama.get_parameter(name), dtype=torch.bool)
    core_mask = CoreMask({name: bits}, provenance=Provenance(base_model="ada/model", base_revision="a" * 40))
    base = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    with perturb(llama, core_mask):
        zeroed = evaluate_perplexity(llama, tokenizer, texts, progress=False)
    return PerplexityReport.compare({"base": base, "top": zeroed}), core_mask


def stored(hub: Any, repo: str = REPO, revision: str = "main") -> EvalResults:
    return EvalResults.from_json(hub.files(repo, revision)[RESULTS_FILE])


def test_push_and_load(hub: Any, table: Any, run_online: Callable[..., Any]) -> None:
    """One commit with results and card; another process reads the same table."""
    report, core_mask = table
    done = push_eval_results(report, REPO, core_mask=core_mask, dataset="ada/texts", private=True)
    assert set(hub.files(REPO)) == {RESULTS_FILE, "README.md"}
    assert hub.commits(REPO)[0]["sha"] == done.oid
    assert len(hub.commits(REPO)) == 2, "the repository's first commit, and one with all files"
    results = load_eval_results(REPO)
    assert {(one.condition, one.perturbed, one.core_mask) for one in results} == {
        ("base", False, None),
        ("top", True, core_mask.digest()),
    }
    assert results.report().conditions == report.conditions
    card = ModelCard(hub.files(REPO)["README.md"].decode())
    card.validate()
    shown = {
        (one.metric_args["condition"], one.metric_args["language"]): one.metric_value
        for one in card.data.eval_results
        if one.metric_type == "perplexity"
    }
    assert shown == {(one.condition, one.language): one.perplexity for one in results}
    script = "import sys\nfrom hf_langcore.hub.results import load_eval_results\nprint(load_eval_results(sys.argv[1]).to_json())"
    other = run_online(script, REPO, token=hub.tokens.write)
    assert EvalResults.from_json(other.stdout) == results


def test_merging_with_what_is_there(hub: Any) -> None:
    """Records of others stay, newer ones replace, and the card keeps every byte but for the index."""
    hub.create(REPO, files={"README.md": CARD, RESULTS_FILE: MINE.to_json(), "other.txt": "x"})
    push_eval_results(THEIRS, REPO)
    expected = {record.key: record.nll for record in MINE.merge(THEIRS)}
    assert {record.key: record.nll for record in stored(hub)} == expected
    assert len(expected) == 3
    card = hub.files(REPO)["README.md"].decode()
    start, stop = card.index("model-index:"), card.index("\n---", 4)
    assert card[:start] + card[stop + 1 :] == CARD
    assert hub.files(REPO)["other.txt"] == b"x"
    assert len(ModelCard(card).data.eval_results) == 3


def test_pushing_again_changes_nothing(hub: Any) -> None:
    """The same results make no commit."""
    first = push_eval_results(MINE, REPO)
    assert push_eval_results(MINE, REPO).oid == first.oid


def test_somebody_pushes_meanwhile(hub: Any) -> None:
    """Their records and ours are both there; with a named parent nothing is written."""
    start = push_eval_results(MINE, REPO)
    hub.fault(
        "push", method="POST", path="/commit/", files={RESULTS_FILE: MINE.merge(EvalResults([GERMAN])).to_json()}
    )
    push_eval_results(EvalResults([replace(BASE, language="fr")]), REPO)
    assert set(stored(hub).languages) == {"en", "de", "fr"}
    before = hub.files(REPO)
    with pytest.raises(HubConflictError, match="parent_commit"):
        push_eval_results(EvalResults([replace(BASE, language="es")]), REPO, parent_commit=start.oid)
    assert hub.files(REPO) == before


def test_branches_and_pull_requests(hub: Any) -> None:
    """Both are built on what the repository holds."""
    hub.create(REPO, files={RESULTS_FILE: MINE.to_json()})
    push_eval_results(THEIRS, REPO, revision="trial", commit_message="Mine")
    assert hub.commits(REPO, "trial")[0]["title"] == "Mine"
    assert set(stored(hub, revision="trial").languages) == {"en", "de"}
    assert stored(hub) == MINE
    hub.create("bob/core", files={RESULTS_FILE: MINE.to_json()})
    proposed = push_eval_results(THEIRS, "bob/core", create_pr=True)
    assert proposed.pr_url
    assert stored(hub, "bob/core") == MINE
    assert load_eval_results("bob/core", revision=proposed.pr_revision).languages == ["en", "de"]
    assert load_eval_results(REPO, revision="trial").languages == ["en", "de"]


@pytest.mark.parametrize("options", [{}, {"create_pr": True}, {"revision": "trial"}, {"model": "ada/other"}], ids=str)
def test_never_on_the_model_itself(hub: Any, table: Any, options: dict[str, Any]) -> None:
    """Whatever the caller says; what the model itself can do is welcome there."""
    report, core_mask = table
    hub.create("ada/model", files={"config.json": "{}"})
    before = hub.files("ada/model"), len(hub.commits("ada/model"))
    for results in (report, report["top"], PerplexityReport.compare({"base": report["top"]})):
        with pytest.raises(InputError, match="do not belong to 'ada/model'"):
            push_eval_results(results, "ada/model", **options)
    with pytest.raises(InputError, match="do not belong to 'ada/model'"):
        push_eval_results(replace(ZEROED, model="ada/renamed"), "ada/model", core_mask=core_mask, **options)
    assert (hub.files("ada/model"), len(hub.commits("ada/model"))) == before
    if "model" not in options:
        push_eval_results(report["base"], "ada/model", **options)


def test_not_beside_any_weights(hub: Any) -> None:
    """A repository that holds a model is refused, also where the records name another."""
    hub.create("ada/copy", files={"model.safetensors": "x"})
    with pytest.raises(InputError, match=r"'ada/copy': it holds a model \(model\.safetensors\)"):
        push_eval_results(MINE, "ada/copy")
    assert set(hub.files("ada/copy")) == {"model.safetensors"}
    push_eval_results(BASE, "ada/copy")
    hub.create("ada/adapter", files={"adapter_model.safetensors": "x", "core_mask.safetensors": "x"})
    push_eval_results(MINE, "ada/adapter")


def test_offline(online: Any) -> None:
    """Once read, results are there without network; what was never read is missing by name."""
    push_eval_results(MINE, REPO)
    with pytest.raises(HubError, match="not in the cache"):
        load_eval_results(REPO, local_files_only=True)
    loaded = load_eval_results(REPO)
    online.offline()
    assert load_eval_results(REPO) == loaded == load_eval_results(REPO, local_files_only=True)
    with pytest.raises(HubError):
        load_eval_results("ada/other")


def test_loading_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file, or a folder as a repository has it."""
    MINE.save(tmp_path / "folder")
    file = MINE.save(tmp_path / "some.json")
    monkeypatch.chdir(tmp_path)
    for source in (file, str(file), tmp_path / "folder", str(tmp_path / "folder"), "folder"):
        assert load_eval_results(source) == MINE
    with pytest.raises(InputError, match=r"expected a file, a folder with eval/results\.json, or 'owner/name'"):
        load_eval_results(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="revision='main'"):
        load_eval_results(file, revision="main")


def test_nothing_to_load(hub: Any) -> None:
    """Missing repositories and missing results are told apart from damage."""
    hub.create(REPO, files={"a.txt": "x"})
    with pytest.raises(HubNotFoundError, match="push_eval_results writes"):
        load_eval_results(REPO)
    with pytest.raises(HubNotFoundError, match="ada/missing"):
        load_eval_results("ada/missing")
    altered = json.loads(MINE.to_json().replace("1.5", "-1.5"))
    hub.commit(REPO, {RESULTS_FILE: json.dumps(sealed(altered))})
    with pytest.raises(InputError, match=r"eval/results\.json of 'ada/core', record 0: nll"):
        load_eval_results(REPO)


def test_damaged_results_are_not_overwritten(hub: Any) -> None:
    """What cannot be read cannot be merged with, and stays."""
    hub.create(REPO, files={RESULTS_FILE: "{", "README.md": CARD})
    with pytest.raises(InputError, match=r"eval/results\.json of 'ada/core' is no valid JSON"):
        push_eval_results(MINE, REPO)
    hub.commit(REPO, {RESULTS_FILE: None, "README.md": b"\xff\xfe"})
    with pytest.raises(InputError, match="no UTF-8"):
        push_eval_results(MINE, REPO)
    hub.commit(REPO, {"README.md": "---\nmodel-index: 3\n---\n"})
    with pytest.raises(InputError, match="model-index"):
        push_eval_results(MINE, REPO)
    assert RESULTS_FILE not in hub.files(REPO)


def test_large_files_are_refused(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before they are downloaded, or read."""
    hub.create(REPO, files={RESULTS_FILE: MINE.to_json() + " " * 20_000})
    (tmp_path / "large.json").write_text(MINE.to_json() + " " * 20_000, encoding="utf-8")
    for module in (results_module, gathering, records_module):
        monkeypatch.setattr(module, "RESULTS_LIMIT", 10_000)
    for action in (load_eval_results, lambda repo: push_eval_results(THEIRS, repo)):
        with pytest.raises(HubError, match="10,000"):
            action(REPO)  # type: ignore[operator]
    assert not [one for one in hub.log("GET", f"resolve/{RESULTS_FILE}") if one["status"] == 200]
    with pytest.raises(InputError, match="at most 10,000 are read"):
        load_eval_results(tmp_path / "large.json")


def test_old_reports(hub: Any, tmp_path: Path) -> None:
    """Reports of versions that did not note edits: the baseline goes anywhere, the rest not to the model."""
    scores = {"en": {"nll": 1.0, "perplexity": math.e, "tokens": 9}}
    old = {"format_version": 1, "settings": {"model": "ada/model"}, "conditions": {"base": scores, "top": scores}}
    (tmp_path / "old.json").write_text(json.dumps(old), encoding="utf-8")
    hub.create("ada/model", files={"config.json": "{}"})
    with pytest.raises(InputError, match="nobody noted whether it was edited"):
        push_eval_results(tmp_path / "old.json", "ada/model")
    push_eval_results(tmp_path / "old.json", REPO)
    push_eval_results(PerplexityReport.from_json(tmp_path / "old.json")["base"], "ada/model")
    assert [one.perturbed for one in stored(hub)] == [None, None]


def test_no_secret_is_published(hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token in a condition or in the card's text stops the push and is not repeated; nothing names the machine."""
    secret = "s3cret-without-a-form"  # noqa: S105
    monkeypatch.setenv("HF_TOKEN", hub.tokens.write)
    hub.create(REPO, files={"README.md": f"{hub.tokens.write}"})
    with pytest.raises(InputError, match=r"README.md would hold your access token") as caught:
        push_eval_results(MINE, REPO)
    assert hub.tokens.write not in str(caught.value)
    require_no_secret({"a": b"fine"}, token=secret)
    with pytest.raises(InputError, match="a would hold"):
        require_no_secret({"a": f"x{secret}y".encode()}, token=secret)
    assert RESULTS_FILE not in hub.files(REPO)


def test_what_is_pushed_names_no_folder(hub: Any, table: Any, tmp_path: Path) -> None:
    """Neither the report's folder nor the user's name stands in any file."""
    report, _ = table
    for own in [report.settings, *report._own.values()]:
        own["model"] = str(tmp_path / "secret-model")
    with pytest.raises(InputError, match="the folder 'secret-model'"):
        push_eval_results(report, REPO)
    push_eval_results(report, REPO, model="ada/model")
    assert all(b"secret-model" not in content for content in hub.files(REPO).values())


def test_nothing_is_made_for_what_is_refused(hub: Any, table: Any) -> None:
    """No repository comes to be by a push that is refused."""
    with pytest.raises(InputError):
        push_eval_results(table[0], "ada/model")
    with pytest.raises(InputError):
        push_eval_results([], "ada/new")
    assert hub.repos() == []


def test_broken_connection(hub: Any) -> None:
    """The repository has the old files or the new ones."""
    push_eval_results(MINE, REPO)
    before = hub.files(REPO)
    hub.fault("drop", method="POST", path="/commit/", times=None)
    with pytest.raises(HubError, match="connection"):
        push_eval_results(THEIRS, REPO)
    assert hub.files(REPO) == before
    hub.calm()
    hub.fault("status", method="POST", path="/commit/", status=503)
    push_eval_results(THEIRS, REPO)
    assert set(stored(hub).languages) == {"en", "de"}


def test_hand_made_reports(hub: Any) -> None:
    """Figures without any settings need the model's name and no more."""
    report = PerplexityReport({"base": {"en": LanguageScore(1.0, 9)}})
    push_eval_results(report, "ada/model", model="ada/model")
    assert [(one.model, one.perturbed, one.text_sha256) for one in stored(hub, "ada/model")] == [
        ("ada/model", None, None)
    ]
    assert HfApi().model_info("ada/model").card_data.eval_results


def test_figures_of_another_mask_are_refused(hub: Any, table: Any) -> None:
    """What was measured with one mask edited is never told of another."""
    report, core_mask = table
    with pytest.raises(InputError, match=f"mask {core_mask.digest()[:8]} edited"):
        push_eval_results(report, REPO, core_mask="c" * 64)
    assert hub.repos() == []


def test_models_that_were_edited_and_saved(hub: Any, llama: Any, tokenizer: Any, texts: Any, tmp_path: Path) -> None:
    """They are not the base, whatever their author calls them."""
    name = "model.layers.0.self_attn.q_proj.weight"
    core_mask = CoreMask({name: torch.ones_like(llama.get_parameter(name), dtype=torch.bool)})
    with perturb(llama, core_mask):
        llama.save_pretrained(tmp_path / "damaged")
    damaged = type(llama).from_pretrained(tmp_path / "damaged")
    report = evaluate_perplexity(damaged, tokenizer, texts, condition="base", progress=False)
    with pytest.raises(InputError, match=r"condition 'base' \(zero: given, .* do not belong to 'ada/model'"):
        push_eval_results(report, "ada/model", model="ada/model")
    push_eval_results(report, REPO, model="ada/model")
    assert {one.core_mask for one in stored(hub)} == {core_mask.digest()}


def test_a_missing_commit_is_mentioned(hub: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Once, by name of the model; not where the commit is known."""
    push_eval_results(MINE, REPO)
    assert [
        one.getMessage().count("'ada/model'") for one in caplog.records if "model_revision=" in one.getMessage()
    ] == [1]
    caplog.clear()
    push_eval_results(MINE, "ada/second", model_revision="a" * 40)
    assert not [one for one in caplog.records if "model_revision=" in one.getMessage()]


def test_a_masks_card_marks_other_masks(hub: Any) -> None:
    """The card's metadata say which mask is its own."""
    card = f"---\ncore_mask: {{digest: {'b' * 64}}}\n---\n\n{results_module.RESULTS_MARKS.put('', into='')}"
    hub.create(REPO, files={"README.md": card})
    push_eval_results(EvalResults([*MINE, replace(ZEROED, condition="rival", core_mask="c" * 64)]), REPO)
    shown = hub.files(REPO)["README.md"].decode()
    assert "| base | top | rival (mask cccccccc) |" in shown


def test_thousands_of_records(hub: Any) -> None:
    """All are in the file, and each push leaves a card that the next one can read."""
    hub.create(REPO, files={"README.md": CARD})
    many = EvalResults(
        [*(replace(ZEROED, condition=f"c{place % 20}", language=f"l{place // 20}") for place in range(2000)), BASE]
    )
    push_eval_results(many, REPO)
    push_eval_results(EvalResults([GERMAN]), REPO)
    assert len(stored(hub)) == 2002
    shown = ModelCard(hub.files(REPO)["README.md"].decode()).data.eval_results
    assert len(shown) <= 200
    assert {one.metric_args["language"] for one in shown if one.metric_args["condition"] == "base"} == {"en", "de"}
