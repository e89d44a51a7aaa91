"""Alignment before and after fine-tuning, for a decoder and an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, ModernBertConfig, ModernBertForMaskedLM

from hf_langcore.errors import InputError
from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.encoder import train_masking_tokenizer
from hf_langcore.recipes.lab import alignment as alignment_module
from hf_langcore.recipes.lab.alignment import alignment
from hf_langcore.report.parts import Matrix, Points, Section, Spread
from tests.conftest import same_bits, snapshot
from tests.probing.relation_banks import relation_banks

BANKS = relation_banks(languages="ab")
TEXTS = {code: [one.text or "" for one in bank] * 2 for code, bank in BANKS.items()}
SIZES: dict[str, Any] = {"draws": 8, "transport_seeds": 1, "fine_tuning_steps": 2, "fine_tuning_language": "b"}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokenizer = train_masking_tokenizer(TEXTS["a"] + TEXTS["b"], vocab_size=300)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **shape, max_position_embeddings=256)).eval()
    special = {"pad_token_id": 0, "cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
    config = ModernBertConfig(vocab_size=300, **shape, **special, layer_types=["full_attention"])
    encoder = ModernBertForMaskedLM(config).eval()
    return Bench(
        model,
        tokenizer,
        Texts(TEXTS, TEXTS, "two"),
        output=tmp_path,
        settings=BenchSettings(block_size=16),
        treebanks=BANKS,
        encoder=(encoder, tokenizer),
    )


def test_both_models_before_and_after(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are those of `align_relations`; training changes a copy; a second run measures nothing."""
    before = [snapshot(one.model) for one in bench.subjects]
    section = alignment(bench, **SIZES)
    assert all(same_bits(one.model, bits) for one, bits in zip(bench.subjects, before, strict=True))
    assert [part.name for part in section.parts] == [
        f"{kind}-{name}"
        for kind in ("decoder", "encoder")
        for name in ("layers", "figures", "rsa", "retrieval", "transport", "change", "picture")
    ]
    settings = AlignmentSettings(max_sentences=200, draws=8, procrustes_draws=6, seeds=1)
    for subject, kind in zip(bench.subjects, ("decoder", "encoder"), strict=True):
        found = align_relations(subject.model, subject.tokenizer, BANKS, settings=settings)
        row = section.part(f"{kind}-figures").rows[1]
        assert row[0] == "1"
        assert row[1] == Spread(*(pytest.approx(one, abs=1e-4) for one in found.measures["rsa"].interval(1)))
        matrix = section.part(f"{kind}-transport")
        assert isinstance(matrix, Matrix)
        assert matrix.values[0][1] == pytest.approx(found.matrix("transport", 1)[0, 1], abs=1e-4)
        changes = section.part(f"{kind}-change").rows
        assert any(isinstance(cell, Spread) and cell.value for row in changes for cell in row[1:])
        picture = section.part(f"{kind}-picture")
        assert isinstance(picture, Points)
        assert set(picture.panels) == {"before", "after fine-tuning on b"}
        assert len(picture.x) == 2 * 2 * 7
    assert Section.from_dict(section.to_dict()).part("decoder-figures") == section.part("decoder-figures")

    monkeypatch.setattr(alignment_module, "align_relations", None)
    assert alignment(bench, **SIZES).to_dict()["parts"] == section.to_dict()["parts"]


def test_without_fine_tuning(bench: Bench) -> None:
    bench.encoder = None
    section = alignment(bench, languages=("b", "a"), layers=(1,), fine_tuning_steps=0, draws=8, transport_seeds=0)
    assert [part.name for part in section.parts] == [
        "decoder-layers",
        "decoder-figures",
        "decoder-rsa",
        "decoder-retrieval",
    ]
    assert section.part("decoder-rsa").rows == ("b", "a")
    assert section.facts["fine_tuned_copies"] == 0


def test_bad_sizes(bench: Bench) -> None:
    with pytest.raises(InputError, match=r"no treebanks of \['xx'\]"):
        alignment(bench, languages=("a", "xx"))
    with pytest.raises(InputError, match="at least 1, got 0"):
        alignment(bench, seeds=0)
    with pytest.raises(InputError, match="'zz' is to be trained on"):
        alignment(bench, fine_tuning_language="zz")
    bench.treebanks = None
    with pytest.raises(InputError, match="--treebanks"):
        alignment(bench)
