"""The Space without its page: edits that change what is shown, and that leave no trace."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from explorer import DimensionEdit, Explorer, RegionEdit, load_explorer, parse_index, weights_digest

from hf_langcore import CoreMask
from hf_langcore.errors import CoreMaskMismatchError, InputError, LangCoreError

PROMPT = "The teacher reads"
NORM = "model.layers.0.input_layernorm"
MATRIX = "model.layers.1.mlp.down_proj.weight"


def test_zeroing_the_core_changes_what_is_said_and_measured(explorer: Explorer) -> None:
    outcome = explorer.explore(RegionEdit("core"), PROMPT, max_new_tokens=12)
    assert outcome.num_edited == explorer.core_mask.count()
    assert outcome.before.startswith(PROMPT)
    assert len(outcome.before) > len(PROMPT)
    assert outcome.after != outcome.before
    assert outcome.report["after"].mean() > 2 * outcome.report["before"].mean()
    assert outcome.report.languages == ["de", "en"]
    assert outcome.report["before"].perplexity == explorer.base.perplexity
    assert outcome.is_restored
    assert weights_digest(explorer._model) == explorer.digest
    nothing = explorer.explore(RegionEdit("core", "scale", 1.0), PROMPT, max_new_tokens=12)
    assert nothing.after == nothing.before == outcome.before
    assert nothing.report["after"].perplexity == explorer.base.perplexity


def test_controls_are_as_large_as_they_say(explorer: Explorer) -> None:
    mask = explorer.core_mask
    random = explorer.explore(RegionEdit("random", seed=1), PROMPT, max_new_tokens=5)
    assert random.num_edited == mask.count()
    other = explorer.explore(RegionEdit("random", seed=2), PROMPT, max_new_tokens=5)
    assert other.report["after"].perplexity != random.report["after"].perplexity
    assert random.report["after"].mean() < 2 * explorer.base.mean()
    rest = explorer.explore(RegionEdit("complement"), PROMPT, max_new_tokens=5)
    assert rest.num_edited == mask.numel() - mask.count()


def test_the_amount_is_a_factor_or_noise(explorer: Explorer) -> None:
    means = {
        (how, amount): explorer.explore(RegionEdit("core", how, amount), PROMPT, max_new_tokens=1)
        .report["after"]
        .mean()
        for how, amount in (("scale", 0.0), ("zero", 5.0), ("noise", 0.0), ("noise", 5.0))
    }
    assert means["scale", 0.0] == means["zero", 5.0]
    assert means["noise", 0.0] == explorer.base.mean()
    assert means["noise", 5.0] > 2 * explorer.base.mean()


def test_one_dimension_and_one_weight(explorer: Explorer) -> None:
    norm = explorer.explore(DimensionEdit(NORM, 3, factor=10.0), PROMPT, max_new_tokens=5)
    assert norm.num_edited == 1
    assert norm.report["after"].perplexity != explorer.base.perplexity
    column = explorer.explore(DimensionEdit(MATRIX, 5, 1, 0.0), PROMPT, max_new_tokens=5)
    assert column.num_edited == 48
    assert column.is_restored


def test_one_weight_is_the_one_in_that_row_and_column(explorer: Explorer, gpt2: Any) -> None:
    cases = {MATRIX: explorer._model, "transformer.h.0.mlp.c_proj": gpt2}
    for name, model in cases.items():
        before = {each: tensor.clone() for each, tensor in model.state_dict().items()}
        with DimensionEdit(name, (2, 40), factor=4.0).open(model, explorer.core_mask):
            changed = {
                (each, tuple(place))
                for each, tensor in model.state_dict().items()
                for place in (tensor != before[each]).nonzero().tolist()
            }
        # GPT-2 stores (input, output); a row is an output everywhere.
        assert changed == {(MATRIX, (2, 40)) if model is not gpt2 else (f"{name}.weight", (40, 2))}
        assert all(torch.equal(tensor, before[each]) for each, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "edit, message",
    [
        (DimensionEdit("model.nothing", 0), "model.nothing"),
        (DimensionEdit(NORM, 48), "dimensions 0 to 47"),
        (DimensionEdit(MATRIX, 1), "say which axis"),
        (DimensionEdit(MATRIX, (48, 0)), "dimensions 0 to 47 along axis 0"),
        (DimensionEdit(MATRIX, (0, 96)), "dimensions 0 to 95 along axis 1"),
        (DimensionEdit(NORM, (0, 0)), "axis"),
        (RegionEdit("nowhere"), "core, complement, random"),
        (RegionEdit("core", "paint"), "how must be one of"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    explorer: Explorer, edit: DimensionEdit | RegionEdit, message: str
) -> None:
    with pytest.raises(LangCoreError, match=message):
        explorer.explore(edit, PROMPT)
    assert weights_digest(explorer._model) == explorer.digest


def test_prompts_have_to_be_there_and_to_fit(explorer: Explorer) -> None:
    with pytest.raises(InputError, match="prompt is empty"):
        explorer.explore(RegionEdit(), "  ")
    with pytest.raises(InputError, match=r"Shorten the prompt"):
        explorer.explore(RegionEdit(), "цифра " * 600)


def test_indices_as_people_write_them() -> None:
    assert parse_index(" 2100 ") == 2100
    assert parse_index("1764,1710") == (1764, 1710)
    for wrong in ("", "-1", "1.5", "1, 2, 3", "²", "1,"):
        with pytest.raises(InputError, match="row and column"):
            parse_index(wrong)


def test_weights_that_are_not_restored_are_noticed(space_folders: dict[str, str]) -> None:
    explorer = load_explorer(*space_folders.values())

    class Forgetful(RegionEdit):
        def open(self, model: Any, core_mask: CoreMask) -> Any:
            handle = super().open(model, core_mask)
            with torch.no_grad():
                model.lm_head.weight[0, 0] += 1e-3  # not the edit's, so restoring does not undo it
            return handle

    assert not explorer.explore(Forgetful(), PROMPT, max_new_tokens=2).is_restored


def test_visitors_do_not_see_each_other(explorer: Explorer, monkeypatch: pytest.MonkeyPatch) -> None:
    edits = [RegionEdit("core"), DimensionEdit(NORM, 3, factor=10.0), RegionEdit("random"), RegionEdit("complement")]
    alone = [explorer.explore(edit, PROMPT, max_new_tokens=4) for edit in edits]
    generate, inside, most = explorer._model.generate, threading.Semaphore(0), []

    def slow(*arguments: Any, **options: Any) -> Any:
        inside.release()
        most.append(inside._value)
        time.sleep(0.02)  # long enough for the others to come in, if they may
        out = generate(*arguments, **options)
        inside.acquire()
        return out

    monkeypatch.setattr(explorer._model, "generate", slow)
    with ThreadPoolExecutor(len(edits)) as pool:
        together = list(pool.map(lambda edit: explorer.explore(edit, PROMPT, max_new_tokens=4), edits))
    assert max(most) == 1
    for one, other in zip(alone, together, strict=True):
        assert (one.before, one.after, one.report["after"].perplexity) == (
            other.before,
            other.after,
            other.report["after"].perplexity,
        )
        assert other.is_restored


def test_a_core_is_computed_where_no_mask_is_given(space_folders: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("the teacher reads a book\n" * 20, encoding="utf-8")
    explorer = load_explorer(space_folders["model"], None, str(tmp_path))
    assert explorer.core_mask.provenance.method == "taylor"
    assert explorer.core_mask.density() == pytest.approx(0.03, abs=0.001)
    assert explorer.base.languages == ["en"]
    assert explorer.base.tokens["en"] <= 128


def test_a_mask_of_another_model_is_refused_at_the_start(space_folders: dict[str, str], tmp_path: Path) -> None:
    CoreMask({"model.norm.weight": torch.ones(3, dtype=torch.bool)}).save_pretrained(tmp_path)
    with pytest.raises(CoreMaskMismatchError):
        load_explorer(space_folders["model"], str(tmp_path), None)
