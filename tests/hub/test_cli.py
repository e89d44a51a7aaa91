"""`langcore push` and `langcore pull` against a Hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from card_models import files_in, mask_of, save_base
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from hf_langcore import CoreMask, CoreRegionConfig, evaluate_perplexity, load_eval_results, perturb
from hf_langcore.cli.main import app
from hf_langcore.errors import ArtifactExistsError, InputError
from hf_langcore.evaluation import PerplexityReport
from hf_langcore.hub.search import list_core_masks


@pytest.fixture
def base(online: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A base model and its tokenizer on the Hub, and an empty folder to work in."""
    name = f"{online.hub.user}/base"
    online.hub.create(name, files=files_in(save_base(tmp_path / "base")))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return name


def run(*arguments: Any, check: bool = True) -> Result:
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if check and done.exception is not None:
        raise done.exception
    return done


def found(base: str) -> CoreMask:
    mask = mask_of(AutoModelForCausalLM.from_pretrained(base), name=base, revision=None)
    mask.save_pretrained("my-core")
    return mask


def test_a_mask_is_found_pushed_listed_and_pulled(online: Any, base: str) -> None:
    """The whole way on the command line; the mask knows the commit of the model that `find` loaded."""
    run("find", base, "-o", "my-core", "--method", "magnitude", "--fraction", 0.05, "-q")
    mask = CoreMask.from_pretrained("my-core")
    assert mask.provenance.base_revision == online.hub.commits(base)[0]["sha"]
    pushed = run("push", "my-core", "my-core", "--private", "--json")
    facts = json.loads(pushed.stdout)
    repo = f"{online.hub.user}/my-core"
    assert facts["kind"] == "core mask"
    assert facts["commit"] == online.hub.commits(repo)[0]["sha"]
    listed = json.loads(run("pull", "--base", base, "--json").stdout)
    assert [(one["repo_id"], one["method"], one["private"]) for one in listed] == [(repo, "magnitude", True)]
    pulled = run("pull", repo, "-o", "pulled")
    assert f"saved in pulled: {mask!r}" in pulled.stdout
    assert facts["commit"] in pulled.stdout.replace("\n", "")
    assert CoreMask.from_pretrained("pulled") == mask


def test_a_list_for_people(online: Any, base: str) -> None:
    """Numbers, what each mask is, and how to go on."""
    mask = found(base)
    for name in ("core-a", "core-b"):
        mask.push_to_hub(name)
    said = run("pull", "--base", base).stdout
    for part in ("core-a", "core-b", "taylor", "5 %", "--choose 1"):
        assert part in said, said
    assert "No core mask for org/other has been published" in run("pull", "--base", "org/other").stdout
    chosen = run("pull", "--base", base, "--choose", 2, "-o", "two", "--json")
    assert json.loads(chosen.stdout)["repo_id"] == list_core_masks(base)[1].repo_id
    assert CoreMask.from_pretrained("two") == mask
    with pytest.raises(InputError, match="there are 2 masks"):
        run("pull", "--base", base, "--choose", 3)


@pytest.mark.parametrize("answer, is_pulled", [("1\n", True), ("\n", False), ("9\n", None), ("x\n", None)])
def test_somebody_at_a_terminal_is_asked(
    online: Any, base: str, monkeypatch: pytest.MonkeyPatch, answer: str, is_pulled: bool | None
) -> None:
    found(base).push_to_hub("core-a")
    monkeypatch.setattr("hf_langcore.cli.pull._is_terminal", lambda: True)
    done = CliRunner().invoke(app, ["pull", "--base", base], input=answer)
    if is_pulled is None:
        assert isinstance(done.exception, InputError)
    assert Path("core-a").exists() == bool(is_pulled)


@pytest.mark.parametrize(
    "arguments", [["pull"], ["pull", "me/core", "--base", "org/base"], ["pull", "me/core", "--choose", "1"]]
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert run(*arguments, check=False).exit_code == 2


def test_another_mask_is_not_replaced(online: Any, base: str) -> None:
    """Unless that is asked for."""
    mask = found(base)
    mask.push_to_hub("core")
    mask.complement().save_pretrained("core")
    with pytest.raises(ArtifactExistsError):
        run("pull", f"{online.hub.user}/core")
    run("pull", f"{online.hub.user}/core", "--overwrite")
    assert CoreMask.from_pretrained("core") == mask


def test_a_repository_in_place_of_a_folder(online: Any, base: str) -> None:
    """Every command that takes a mask takes one on the Hub, at a revision if need be."""
    mask = found(base)
    done = mask.push_to_hub("core")
    online.hub.commit(f"{online.hub.user}/core", {"core_mask_config.json": "{}"})
    repo, revision = f"{online.hub.user}/core", done.oid
    facts = json.loads(run("inspect", repo, "--revision", revision, "--json").stdout)
    assert facts["digest"] == mask.digest()
    table = run(
        "perturb",
        base,
        repo,
        "--core-mask-revision",
        revision,
        "--languages",
        "en",
        "--max-tokens",
        40,
        "-q",
        "--json",
    )
    assert set(json.loads(table.stdout)["conditions"]) == {"base", "core", "random"}


def test_a_report_is_pushed_to_the_masks_repository(online: Any, base: str) -> None:
    """And not to the model's."""
    mask = found(base)
    mask.push_to_hub("core")
    run("perturb", base, "my-core", "--languages", "en,de", "--max-tokens", 40, "-q", "-o", "table.json")
    repo = f"{online.hub.user}/core"
    run("push", "table.json", repo, "--core-mask", "my-core", "--dataset", "me/texts")
    results = load_eval_results(repo)
    assert {one.condition for one in results} == {"base", "core", "random"}
    assert {one.core_mask for one in results if one.condition == "core"} == {mask.digest()}
    assert {one.dataset for one in results} == {"me/texts"}
    with pytest.raises(InputError, match="do not belong to"):
        run("push", "table.json", base, "--core-mask", "my-core")
    run("push", "my-core", "other-core", "--results", "table.json")
    assert len(load_eval_results(f"{online.hub.user}/other-core")) == 6


def test_an_adapter_is_pushed_from_its_folder(online: Any, base: str) -> None:
    """With its mask and card; what others wrote on the Hub stays."""
    from peft import PeftModel, get_peft_model

    mask = found(base)
    mask.push_to_hub("core")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), CoreRegionConfig(core_mask=mask, r=2, task_type="CAUSAL_LM")
    )
    model.save_pretrained("adapter")
    Path("adapter/training_args.bin").write_bytes(b"hf_secret")
    Path("adapter/checkpoint-1").mkdir()
    Path("adapter/checkpoint-1/x.txt").write_text("x")
    repo = f"{online.hub.user}/adapter"
    said = run("push", "adapter", "adapter").stdout
    assert "pushed adapter" in said
    files = online.hub.files(repo)
    assert {
        "adapter_config.json",
        "adapter_model.safetensors",
        "core_mask.safetensors",
        "core_mask_ref.json",
    } <= files.keys()
    assert not [name for name in files if "training_args" in name or "checkpoint" in name]
    card = files["README.md"].decode()
    assert f'"{repo}"' in card
    assert mask.digest() in card
    online.hub.commit(repo, {"README.md": card + "\nMine.\n"})
    run("push", "adapter", repo)
    assert "Mine." in online.hub.files(repo)["README.md"].decode()
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), repo)
    assert loaded.peft_config["default"].core_mask == mask


def test_a_model_is_pushed_from_its_folder(online: Any, base: str, tmp_path: Path) -> None:
    run("push", tmp_path / "base", "copy")
    assert {"config.json", "model.safetensors"} <= online.hub.files(f"{online.hub.user}/copy").keys()


@pytest.mark.parametrize(
    "option", [["--results", "x.json"], ["--license", "mit"], ["--core-mask", "m"], ["--dataset", "d"]]
)
def test_options_that_do_not_belong(online: Any, base: str, tmp_path: Path, option: list[str]) -> None:
    with pytest.raises(InputError, match="belongs to"):
        run("push", tmp_path / "base", "copy", *option)


def test_nothing_to_push(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds nothing that can be pushed"):
        run("push", tmp_path, "me/x")
    with pytest.raises(InputError, match=r"There is no .*none'"):
        run("push", tmp_path / "none", "me/x")
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError):
        run("push", tmp_path / "x.json", "me/x")


def test_reports_made_in_python(online: Any, base: str) -> None:
    """What `evaluate_perplexity` noted about edits travels with the file."""
    from card_models import tiny_tokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    mask = found(base)
    texts = {"en": ["the cat sat on the mat"]}
    whole = evaluate_perplexity(model, tiny_tokenizer(), texts, progress=False)
    with perturb(model, mask):
        harmed = evaluate_perplexity(model, tiny_tokenizer(), texts, progress=False)
    PerplexityReport.compare({"base": whole, "fine": harmed}).to_json("r.json")
    with pytest.raises(InputError, match="do not belong to"):
        run("push", "r.json", base)
