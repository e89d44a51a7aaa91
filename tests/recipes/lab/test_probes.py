"""Probes by layer and language as a section."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hf_langcore.errors import InputError
from hf_langcore.probing.layers import probe_layers, transfer_matrix
from hf_langcore.probing.tagging import tag_few_shot
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab.probes import probes
from hf_langcore.report.parts import Section, Spread

pytest.importorskip("sklearn")

SIZES: dict[str, Any] = {"max_sentences": 20, "max_items": 100, "seeds": 2, "shots": (0, 2), "control": False}


@pytest.fixture
def bench(bpe_llama: Any, bpe: Any, small: Any, tmp_path: Path, parallel: Any) -> Bench:
    settings = BenchSettings(fraction=0.2, block_size=16, test_tokens=None)
    texts = Texts(small.train, small.test, "three")
    return Bench(bpe_llama, bpe, texts, output=tmp_path, settings=settings, treebanks=parallel)


def test_section(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures are those of the functions that it is made of; as JSON and back; a second run measures nothing."""
    told: list[int] = []
    monkeypatch.setattr(bench.progress, "expect", told.append)
    monkeypatch.setattr(bench.progress, "step", lambda: told.append(1))
    section = probes(bench, **SIZES)
    assert told[0] == len(told) - 1
    assert Section.from_dict(json.loads(json.dumps(section.to_dict()))) == section
    own = {"max_items": 100, "seeds": (0, 1), "progress": False}
    known = (bench.model, bench.tokenizer, bench.require_treebanks())
    for task in ("upos", "relation"):
        report = probe_layers(*known, train_languages=["en", "zh"], task=task, **own)
        best = report.best_layer()
        curves = section.part(f"{task}_layers")
        assert curves.x == (0, 1, 2)
        (label,) = [one for one in curves.lines if one.endswith("others") and not one.startswith("untrained")]
        assert curves.lines[label] == pytest.approx([report.accuracy[layer]["de"] for layer in (0, 1, 2)])
        low, high = curves.bands[label]
        assert (low[1], high[1]) == (min(report.scores[1]["de"].by_seed), max(report.scores[1]["de"].by_seed))
        matrix = section.part(f"{task}_languages_model")
        assert matrix.rows == ("en *", "de", "zh *")
        assert matrix.values[1] == pytest.approx([report.accuracy[layer]["de"] for layer in (0, 1, 2)])
        row = {row[0]: row for row in section.part(f"{task}_best").rows}["de"]
        score = report.scores[best]["de"]
        assert row[1] == Spread(score.accuracy, score.low, score.high)
        assert row[-1] == score.majority
        transfer = transfer_matrix(*known, task=task, layers=[best], **own).accuracy(best)
        assert section.part(f"{task}_transfer_model").values[1] == pytest.approx(list(transfer["de"].values()))
    tagged = tag_few_shot(*known, train_languages=["en", "zh"], shots=(0, 2), **own)
    table = section.part("tagging_model")
    assert table.columns == ("language", "sources only", "sources and 2", "2 alone")
    scores = (tagged.joint[0]["de"], tagged.joint[2]["de"], tagged.alone[2]["de"])
    assert [cell.value for cell in table.rows[0][1:]] == [score.accuracy for score in scores]
    monkeypatch.setattr("hf_langcore.recipes.lab.syntax.word_vectors", lambda *_, **__: pytest.fail("read again"))
    assert probes(bench, **SIZES).parts == section.parts


def test_encoder(bench: Bench, tmp_path: Path) -> None:
    """An encoder gets lines, matrices and columns of its own; the untrained model is one of the first model's shape."""
    encoder = (bench.model, bench.tokenizer)
    both = Bench(
        *encoder, bench.texts, output=tmp_path, settings=bench.settings, treebanks=bench.treebanks, encoder=encoder
    )
    section = probes(both, **{**SIZES, "seeds": 1, "shots": (0,), "train_languages": ("de",)})
    names = {part.name for part in section.parts}
    assert {"upos_languages_encoder", "relation_transfer_encoder", "tagging_encoder"} <= names
    model, encoder_part = section.part("upos_languages_model"), section.part("upos_languages_encoder")
    assert model.values == encoder_part.values
    assert section.facts["train_languages"] == ["de"]
    assert [line for line in section.part("upos_layers").lines if line.startswith("untrained")]


def test_bad_input_is_named(bench: Bench, bpe_llama: Any, bpe: Any) -> None:
    """No repetition, and no treebanks."""
    with pytest.raises(InputError, match="seeds is a number of repetitions, at least 1, got 0"):
        probes(bench, seeds=0)
    with pytest.raises(InputError, match="parsed sentences"):
        probes(Bench(bpe_llama, bpe, bench.texts, output=bench.output))
