from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hf_langcore.exchange import export_core_mask
from hf_langcore.exchange.mergekit import merge_config
from hf_langcore.masks import CoreMask

NAMES = st.lists(
    st.lists(st.sampled_from("ab1."), min_size=1, max_size=4).map("".join), min_size=1, max_size=6, unique=True
)


def weight_of(config: dict[str, Any], model: str, tensor: str) -> float:
    """What mergekit takes for a tensor: the value of the first entry without a filter or with one that is in the name."""
    entry = next(one for one in config["models"] if one["model"] == model)
    for condition in entry["parameters"]["weight"]:
        if "filter" not in condition or condition["filter"] in tensor:
            value: float = condition["value"]
            return value
    raise AssertionError(tensor)


@given(NAMES, st.data())
def test_each_tensor_comes_from_one_model(names: list[str], data: st.DataObject) -> None:
    """Also where the name of one tensor is a part of another's."""
    chosen = data.draw(st.sets(st.sampled_from(names)))
    mask = CoreMask({name: torch.ones(1) > 0 for name in names})
    config = merge_config(mask, chosen, core_from="base", complement_from="tuned")
    for name in names:
        found = weight_of(config, "base", name), weight_of(config, "tuned", name)
        assert found == ((1.0, 0.0) if name in chosen else (0.0, 1.0))


def test_a_merge_takes_whole_tensors(llama: Any, tmp_path: Path) -> None:
    """The file, read as YAML and carried out as mergekit's linear method would."""
    name = "model.layers.1.mlp.up_proj.weight"
    mask = CoreMask({n: torch.rand(p.shape) < (0.9 if n == name else 0.01) for n, p in llama.named_parameters()})
    path = tmp_path / "merge.yaml"
    export_core_mask(mask, path, format="mergekit", threshold=0.5, core_from="me/base", complement_from="me/tuned")
    text = path.read_text()
    config = yaml.safe_load(text)
    assert text.startswith("# mergekit takes one weight for each tensor")
    assert config["merge_method"] == "linear"
    assert config["parameters"] == {"normalize": False}
    assert [one["model"] for one in config["models"]] == ["me/tuned", "me/base"]
    for tensor, base in llama.named_parameters():
        tuned = base + 1
        parts = [weight_of(config, "me/base", tensor) * base, weight_of(config, "me/tuned", tensor) * tuned]
        assert torch.equal(sum(parts), base if tensor == name else tuned)


def test_the_base_of_the_mask_is_the_default(llama: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    planes = {"a": torch.ones(2) > 0, "b": torch.zeros(2) > 0}
    mask = CoreMask(planes)
    known = CoreMask(planes, provenance=replace(mask.provenance, base_model="me/known"))
    export_core_mask(known, tmp_path / "m.yaml", format="mergekit", complement_from="me/tuned")
    models = yaml.safe_load((tmp_path / "m.yaml").read_text())["models"]
    assert [one["model"] for one in models] == ["me/tuned", "me/known"]


def test_all_or_nothing_is_pointed_out(tmp_path: Path) -> None:
    mask = CoreMask({"a": torch.ones(2) > 0})
    with pytest.warns(UserWarning, match=r"all of the 1 tensors .* would come from 'b'"):
        export_core_mask(mask, tmp_path / "m", format="mergekit", core_from="b", complement_from="t")
