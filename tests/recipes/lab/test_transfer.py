"""Further pretraining on one language, and tokens of its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hf_langcore.errors import CorpusError, InputError
from hf_langcore.evaluation import evaluate_perplexity
from hf_langcore.recipes.bench.texts import Texts
from hf_langcore.recipes.bench.workbench import Bench, BenchSettings
from hf_langcore.recipes.lab import transfer as transfer_module
from hf_langcore.recipes.lab.transfer import transfer
from hf_langcore.recipes.lab.transfer_texts import measured_texts
from hf_langcore.recipes.pretraining import train_tokenizer

TEXTS = {
    "zh": ["猫坐在垫子上。狗看着月亮。猫跑回家。", "狗跑回家。猫看着月亮。狗坐在垫子上。"] * 2,
    "en": ["the cat sat on the mat. the dog looked at the moon.", "a dog ran home. the cat sat there."] * 12,
    "de": ["die Katze sitzt auf der Matte. der Hund sieht den Mond.", "ein Hund lief heim."] * 12,
}
SIZES: dict[str, Any] = {
    "samples": (0, 6, 99),
    "side_samples": 6,
    "new_tokens": (0, 6),
    "initialisations": ("mean_of_pieces", "zero"),
    "seeds": (0,),
    "block_size": 8,
    "batch_size": 4,
    "learning_rate": 1e-2,
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    tokenizer = train_tokenizer(TEXTS["en"] + TEXTS["de"], vocab_size=290)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=290, **shape, tie_word_embeddings=True)).eval()
    settings = BenchSettings(block_size=16, test_tokens=40, core_languages=("en", "zh"), fraction=0.1)
    return Bench(model, tokenizer, Texts(TEXTS, TEXTS, "tiny"), output=tmp_path, settings=settings)


def test_every_way_of_training(bench: Bench) -> None:
    """Old and new vocabulary, all protections; the frozen core keeps every bit; side runs stop early."""
    section = transfer(bench, **SIZES)
    bits = {row[0]: row[1:] for row in section.part("bits").rows}
    protections = ("all trained", "frozen core", "mixed", "frozen core and mixed")
    assert list(bits) == [
        *(f"old vocabulary, {one}" for one in protections),
        *(f"6 new tokens (mean of pieces), {one}" for one in protections),
        "6 new tokens (zero), all trained",
    ]
    full = [name for name, cells in bits.items() if None not in cells]
    assert full == [*list(bits)[:4], "6 new tokens (mean of pieces), all trained"]
    zh = {name: [cell for cell in cells[:3] if cell] for name, cells in bits.items()}
    assert all(figures[-1] < figures[0] for figures in zh.values())
    core = {row[0]: row[1:] for row in section.part("core").rows}
    for name, (tokens, size, changed) in core.items():
        assert size == bench.core().count()
        assert (changed == 0) is ("frozen" in name)
        assert tokens > 0
    assert core["old vocabulary, mixed"][0] == 2 * core["old vocabulary, all trained"][0]
    assert core["6 new tokens (mean of pieces), all trained"][0] < core["old vocabulary, all trained"][0]
    rows = section.part("growth").rows
    assert [row[0] for row in rows] == ["0", "6", "12 (all)"]
    assert section.facts["samples"] == [0, 6, 12]
    assert set(section.part("curve_0").lines) == set(full)
    assert section.part("languages").columns[2:] == tuple(full)
    assert [row[0] for row in section.part("initialisations").rows] == [
        "6 new tokens (mean of pieces), all trained",
        "6 new tokens (zero), all trained",
    ]


def test_the_first_row_is_the_model_as_it_is(bench: Bench) -> None:
    """Perplexity of the old vocabulary; bits per byte of the same bytes."""
    section = transfer(bench, **{**SIZES, "new_tokens": (0,), "samples": (0,)}, frozen=False, general_ratio=0)
    texts = measured_texts(TEXTS, bench.tokenizer, max_tokens=40)
    report = evaluate_perplexity(bench.model, bench.tokenizer, texts, block_size=16, progress=False)
    assert section.part("growth").columns == ("rows", "zh", "en", "others")
    assert section.part("growth").rows[0][1:] == pytest.approx(
        [report.perplexity[code] for code in ("zh", "en", "de")]
    )
    score = report.only()["zh"]
    expected = score.nll * score.tokens / math.log(2) / sum(len(text.encode()) for text in texts["zh"])
    assert section.part("bits").rows[0][1] == pytest.approx(expected)


def test_lengths_before_and_after(bench: Bench) -> None:
    """The language becomes shorter, the others stay."""
    section = transfer(bench, **{**SIZES, "new_tokens": (6, 3), "samples": (0,)}, frozen=False, general_ratio=0)
    table = {row[0]: row[1:] for row in section.part("lengths").rows}
    assert table["zh"][1] < table["zh"][2] < table["zh"][0]
    assert len(set(table["en"])) == len(set(table["de"])) == 1


def test_finished_runs_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run goes on where it was, and learns no tokens where nothing is left to do."""
    made = []
    real = transfer_module.pretrain_further

    def stopping(*args: Any, **options: Any) -> Any:
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(transfer_module, "pretrain_further", stopping)
    sizes = {**SIZES, "frozen": False, "general_ratio": 0, "samples": (0, 3), "seeds": (0, 1)}
    sizes["initialisations"] = ("mean",)
    with pytest.raises(KeyboardInterrupt):
        transfer(bench, **sizes)
    first = transfer(bench, **sizes)
    assert len(made) == 5
    monkeypatch.setattr(transfer_module, "learn_tokens", None)
    assert transfer(bench, **sizes) == first
    cell = first.part("growth").rows[1][1]
    assert cell.low < cell.value < cell.high
    assert first.part("curve_0").bands["old vocabulary, all trained"][1][1] == first.part("bits").rows[0][2].high
    assert len(made) == 5


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"samples": ()}, InputError, "samples must be"),
        ({"samples": (0.5,)}, InputError, "samples must be"),
        ({"new_tokens": (-1,)}, InputError, "new_tokens must be"),
        ({"general_ratio": -1}, InputError, "general_ratio must be"),
        ({"initialisations": ("ones",)}, InputError, "initialisations must be"),
        ({"seeds": (1, 1)}, InputError, "seeds must be"),
        ({"language": "fr"}, InputError, "language='fr'"),
        ({"new_tokens": (9_999,)}, CorpusError, "fewer"),
        ({"general_ratio": 90, "new_tokens": (0,), "frozen": False}, CorpusError, "mixed in"),
    ],
)
def test_wrong_sizes_are_refused(bench: Bench, wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        transfer(bench, **{**SIZES, **wrong})


def test_one_language_is_not_enough(bench: Bench) -> None:
    bench.texts = Texts({"zh": TEXTS["zh"]}, {"zh": TEXTS["zh"]}, "one")
    with pytest.raises(InputError, match="two languages"):
        transfer(bench, **SIZES)
