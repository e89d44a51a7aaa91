"""Results in every form: reports, records, their files, and several of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from hf_langcore import PerplexityReport, evaluate_perplexity, perturb
from hf_langcore.errors import InputError
from hf_langcore.hub.gathering import file_of, gathered, read_file
from hf_langcore.masks import CoreMask
from hf_langcore.masks.provenance import Provenance


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


def test_forms_of_results(table: Any, tmp_path: Path) -> None:
    """A report, several, records, their files; what measures the same is kept once."""
    report, core_mask = table
    expected = gathered(report, core_mask=core_mask)
    report.to_json(tmp_path / "report.json")
    expected.save(tmp_path / "results.json")
    for given in (
        [report["base"], report["top"]],
        (report, report["top"]),
        tmp_path / "report.json",
        str(tmp_path / "results.json"),
        expected,
        list(expected),
        [report["base"], tmp_path / "report.json", expected],
    ):
        assert set(gathered(given, core_mask=core_mask)) == set(expected)
    with pytest.raises(InputError, match="got int"):
        gathered(3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no results to push"):
        gathered([])
    (tmp_path / "bad.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.json holds no evaluation results"):
        gathered(tmp_path / "bad.json")


def test_files(tmp_path: Path) -> None:
    """A folder as a repository has it, or the file itself; what is none is named."""
    with pytest.raises(InputError, match="no evaluation results at"):
        file_of(tmp_path)
    with pytest.raises(InputError, match="no evaluation results at"):
        file_of(tmp_path / "missing.json")
    (tmp_path / "eval").mkdir()
    file = tmp_path / "eval" / "results.json"
    file.write_text("[]", encoding="utf-8")
    assert file_of(tmp_path) == file_of(file) == file
    with pytest.raises(InputError, match=r"^mine holds no evaluation results"):
        read_file(file, "mine")
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path)
