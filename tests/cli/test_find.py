"""`langcore find` and `langcore inspect`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from hf_langcore import CoreMask, compute_core_mask
from hf_langcore.cli.find import find
from hf_langcore.data import corpora_from_folder
from hf_langcore.data.mini import mini_corpora
from hf_langcore.importance import compute as compute_module
from hf_langcore.masks.groups import Granularity


def test_the_mask_is_that_of_the_python_call(
    langcore: Any, model_folder: str, texts_folder: str, tmp_path: Path
) -> None:
    """The same job from the command line and from Python gives the same mask bit for bit."""
    outcome = langcore("find", model_folder, "-o", "core", "--data", texts_folder, "--fraction", 0.05, "-q", "--json")
    assert outcome.code == 0
    model = AutoModelForCausalLM.from_pretrained(model_folder)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    expected = compute_core_mask(model, tokenizer, corpora_from_folder(texts_folder), fraction=0.05, progress=False)
    mask = CoreMask.from_pretrained(tmp_path / "core")
    assert mask == expected
    assert mask.provenance == expected.provenance
    facts = json.loads(outcome.out)
    assert (facts["digest"], facts["count"]) == (expected.digest(), expected.count())
    assert not (tmp_path / "core.partial").exists()


def test_methods_and_granularities(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """Half of the columns by Wanda score, half of the heads by Fisher information: as from Python."""
    for method, granularity in (("wanda", "columns"), ("fisher", "heads")):
        arguments = ("--method", method, "--granularity", granularity, "--fraction", 0.5, "--languages", "en")
        output = tmp_path / granularity
        assert langcore("find", model_folder, "-o", output, *arguments, "--max-tokens", 64, "-q").code == 0
        mask = CoreMask.from_pretrained(output)
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        options = {"method": method, "granularity": granularity, "fraction": 0.5, "max_tokens": 64, "progress": False}
        assert mask == compute_core_mask(model, tokenizer, mini_corpora(["en"]), **options)
        assert mask.provenance.granularity == granularity
        assert not (tmp_path / f"{granularity}.partial").exists()
    assert "'blocks'" in langcore("find", model_folder, "-o", "x", "--granularity", "blocks").err


def test_choices_of_granularity_are_those_of_the_library() -> None:
    """The command line repeats them, so that --help needs no torch."""
    assert get_type_hints(find)["granularity"] == Granularity


def test_an_existing_folder_is_not_overwritten(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """A folder with something in it is refused before anything is computed, unless --overwrite is given."""
    arguments = ("find", model_folder, "-o", "core", "--method", "random", "-q")
    assert langcore(*arguments).code == 0
    first = CoreMask.from_pretrained(tmp_path / "core")
    refused = langcore(*arguments, "--seed", 5)
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert CoreMask.from_pretrained(tmp_path / "core") == first
    assert langcore(*arguments, "--seed", 5, "--overwrite").code == 0
    assert CoreMask.from_pretrained(tmp_path / "core") != first
    (tmp_path / "file").write_text("precious")
    assert langcore("find", model_folder, "-o", "file", "--method", "random", "-q").code == 1
    assert (tmp_path / "file").read_text() == "precious"


def test_an_interrupted_search_resumes(
    langcore: Any, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of finished languages lies beside the output until the mask is saved."""
    plain, scored = compute_module.gradient_scores, []

    def breaking(*args: Any, language: str, **options: Any) -> Any:
        if language == "zh" and "zh" not in scored:
            scored.append("zh")
            raise compute_module.InputError("the power went out")
        scored.append(language)
        return plain(*args, language=language, **options)

    monkeypatch.setattr(compute_module, "gradient_scores", breaking)
    arguments = ("find", model_folder, "-o", "core", "--languages", "en,zh", "--max-tokens", 128, "-q")
    assert langcore(*arguments).code == 1
    assert not (tmp_path / "core").exists()
    assert len(list((tmp_path / "core.partial").iterdir())) == 1
    resumed = langcore(*arguments)
    assert resumed.code == 0
    assert "resuming: 1 finished languages" in resumed.err
    assert scored == ["en", "zh", "zh"]
    assert not (tmp_path / "core.partial").exists()


def test_only_its_own_state_is_removed(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """What else lies in OUTPUT.partial stays, and a method without texts leaves the folder alone."""
    partial = tmp_path / "core.partial"
    partial.mkdir()
    (partial / "notes.txt").write_text("precious")
    (partial / "importance-0.safetensors").write_text("of another search")
    arguments = ("find", model_folder, "-o", "core", "--languages", "en", "--max-tokens", 64, "-q", "--overwrite")
    assert langcore(*arguments, "--method", "magnitude").code == 0
    assert len(list(partial.iterdir())) == 2
    assert langcore(*arguments).code == 0
    assert [path.name for path in partial.iterdir()] == ["notes.txt"]


def test_ctrl_c_says_how_to_go_on(
    langcore: Any, model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130 and one line."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(compute_module, "gradient_scores", interrupted)
    outcome = langcore("find", model_folder, "-o", "core", "--languages", "en", "--max-tokens", 64, "-q")
    assert outcome.code == 130
    assert "interrupted; run the same command again to resume" in outcome.err
    assert "Traceback" not in outcome.err


def test_the_folder_one_stands_in(langcore: Any, model_folder: str, tmp_path: Path) -> None:
    """`-o .` works where the folder is empty."""
    here = tmp_path / "here"
    here.mkdir()
    os.chdir(here)  # the fixture goes back
    assert langcore("find", model_folder, "-o", ".", "--languages", "en", "--max-tokens", 64, "-q").code == 0
    assert CoreMask.from_pretrained(here).count() > 0
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    refused = langcore("find", model_folder, "-o", ".", "--method", "random", "-q")
    assert refused.code == 1
    assert "--overwrite" in refused.err
    assert "nothing beside it" in langcore("find", model_folder, "-o", "/", "--overwrite", "-q").err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--languages", "en,xx"], "xx"),
        (["--data", "nowhere"], "no folder 'nowhere'"),
    ],
)
def test_bad_input_is_named(
    langcore: Any, model_folder: str, options: list[str], message: str, tmp_path: Path
) -> None:
    """Each wrong value gets one clear message, and nothing is written."""
    outcome = langcore("find", model_folder, "-o", "core", "-q", *options)
    assert outcome.code == 1
    assert message in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_unknown_language_file_names_what_there_is(langcore: Any, model_folder: str, texts_folder: str) -> None:
    """A language without a file is an error that lists the files there are."""
    outcome = langcore("find", model_folder, "-o", "core", "--data", texts_folder, "--languages", "en,fi", "-q")
    assert outcome.code == 1
    assert "'fi'" in outcome.err
    assert "en, es, zh" in outcome.err


def test_inspect(langcore: Any, model_folder: str) -> None:
    """What a mask is, by kind of weight and by dimension; as JSON the same figures."""
    langcore("find", model_folder, "-o", "core", "--method", "magnitude", "--fraction", 0.1, "-q")
    shown = langcore("inspect", "core")
    assert "magnitude top 10 %" in shown.out
    assert "mlp.down_proj.weight" in shown.out
    facts = json.loads(langcore("inspect", "core", "--json", "--limit", 3).out)
    mask = CoreMask.from_pretrained("core")
    assert facts["count"] == mask.count()
    assert facts["provenance"]["method"] == "magnitude"
    assert len(facts["dimensions"]) <= 3
    assert langcore("inspect", "nowhere").code == 1
