"""Rows side by side say what a model says of each alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from hf_langcore.compression.rows import plan_batches, run_rows


@pytest.mark.parametrize("tokens", [0, 1, 7, 64, 65, 1000])
def test_a_plan_covers_all_tokens(tokens: int) -> None:
    """Evenly, within its limits, longer rows first."""
    plan = plan_batches(tokens, chunk=8, streams=5)
    assert sum(map(sum, plan)) == tokens
    assert all(len(batch) <= 5 and max(batch) <= 8 and batch == sorted(batch, reverse=True) for batch in plan)
    lengths = [length for batch in plan for length in batch]
    assert not lengths or max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("name", ["coder_llama", "coder_gpt2"])
@pytest.mark.parametrize("context", [6, 16])
def test_probabilities_are_those_of_the_sliding_window(
    request: pytest.FixtureRequest, name: str, context: int
) -> None:
    """Each step: the start token, and what went before, back to the last time that the context was full."""
    model = request.getfixturevalue(name)
    script = np.array([[5, 9, 30, 7, 8, 11, 40, 41, 12, 13], [6, 6, 8, 100, 3, 50, 4, 90, 91, 0]], dtype=np.int32)
    seen: list[np.ndarray] = []

    def code(probabilities: np.ndarray) -> np.ndarray:
        seen.append(probabilities)
        return script[: len(probabilities), len(seen) - 1]

    assert run_rows(model, [10, 9], code, start_id=0, context=context) == [list(script[0]), list(script[1][:9])]
    assert [len(probabilities) for probabilities in seen] == [2] * 9 + [1]
    begin = 0
    for step, probabilities in enumerate(seen):
        if step - begin + 1 > context:
            begin = step - context // 2
        ids = torch.tensor([[0, *script[0, begin:step].tolist()]])
        with torch.inference_mode():
            expected = model(ids).logits[0, -1].softmax(-1).numpy()
        np.testing.assert_allclose(probabilities[0], expected, atol=1e-5)


def test_a_model_of_its_own_cache(coder_llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no room to be made, the model's own cache gives the same."""
    from hf_langcore.compression import rows

    found = []
    for has_room in (True, False):
        seen: list[np.ndarray] = []

        def code(probabilities: np.ndarray, seen: list[np.ndarray] = seen) -> np.ndarray:
            seen.append(probabilities.copy())
            return np.full(len(probabilities), 5 + len(seen), dtype=np.int32)

        if not has_room:
            monkeypatch.setattr(rows, "roomy_cache", lambda *_: None)
        run_rows(coder_llama, [9, 9], code, start_id=0, context=6)
        found.append(np.stack(seen))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
