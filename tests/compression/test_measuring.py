"""Bits per byte are those of the perplexity, and models with other vocabularies can be compared."""

from __future__ import annotations

import gzip
import math
from typing import Any

import pytest

from hf_langcore.compression import CompressionReport, evaluate_compression, load_compression_measurement
from hf_langcore.errors import CorpusError, InputError, UnsupportedModelError
from hf_langcore.evaluation import evaluate_perplexity
from tests.conftest import build_t5

CORPORA = {"en": ["the cat sat on the mat", "we saw two birds"], "de": ["die Katze sitzt auf der Matte"]}


@pytest.fixture(scope="module")
def report(coder_llama: Any, exact: Any) -> CompressionReport:
    return evaluate_compression(
        coder_llama, exact, CORPORA, block_size=16, stride=8, chunk=20, round_trip=True, progress=False
    )


def test_the_figures_are_those_of_the_perplexity(report: CompressionReport, coder_llama: Any, exact: Any) -> None:
    other = evaluate_perplexity(coder_llama, exact, CORPORA, block_size=16, stride=8, progress=False)
    score = report.only()["en"]
    assert score.bits == pytest.approx(other.nll["en"] * other.tokens["en"] / math.log(2))
    assert score.bytes == 38
    assert report.bits_per_byte["en"] == pytest.approx(score.bits / 38)
    assert report.ratio["en"] == pytest.approx(8 / score.bits_per_byte)
    assert score.percent == pytest.approx(100 / score.ratio)
    total = report.total()
    assert total.bytes == 38 + 29
    assert total.bits == pytest.approx(score.bits + report.only()["de"].bits)


def test_compressors_and_weights(report: CompressionReport, coder_llama: Any) -> None:
    """Each document alone and all in one; the weights count once."""
    documents = CORPORA["en"]
    sizes = report.archived["en"]["gzip"]
    assert sizes.by_document == sum(len(gzip.compress(text.encode(), 9, mtime=0)) for text in documents)
    assert sizes.whole == len(gzip.compress("\n".join(documents).encode(), 9, mtime=0))
    assert set(report.archived["de"]) == {"gzip", "zstd", "xz"}
    weights = sum(parameter.numel() * 4 for parameter in coder_llama.parameters())
    assert report.model_bytes == {"model": weights}
    assert report.adjusted_percent() == pytest.approx(report.total().percent + 100 * weights / 67)


def test_the_round_trip_is_real(report: CompressionReport) -> None:
    for language, documents in CORPORA.items():
        trip = report.only()[language].round_trip
        assert trip is not None
        assert trip.identical
        assert trip.original == len("\n".join(documents).encode())
        assert trip.compressed > 300  # the header alone


def test_models_of_other_vocabularies(report: CompressionReport, coder_gpt2: Any, normalising: Any) -> None:
    """The same text in other tokens; other texts are refused."""
    options = {"block_size": 16, "compressors": (), "progress": False}
    other = evaluate_compression(coder_gpt2, normalising, CORPORA, **options)
    both = CompressionReport.compare({"small": report, "other": other})
    assert both.total("other").bytes == both.total("small").bytes
    assert both.total("other").tokens != both.total("small").tokens
    assert both.to_dict()["adjusted_percent"].keys() == {"small", "other"}
    table = both.to_markdown()
    assert "| small: bits per byte | other: bits per byte |" in table
    assert "| all | 67 |" in table
    with pytest.raises(InputError, match="take one"):
        both.total()
    few = evaluate_compression(coder_gpt2, normalising, CORPORA, max_bytes=20, **options)
    assert few.total().bytes == 22 + 29
    with pytest.raises(InputError, match="different texts"):
        CompressionReport.compare({"small": report, "few": few})


def test_wrong_arguments(coder_llama: Any, exact: Any) -> None:
    with pytest.raises(InputError, match="rar"):
        evaluate_compression(coder_llama, exact, CORPORA, compressors=("rar",))
    with pytest.raises(InputError, match="max_bytes"):
        evaluate_compression(coder_llama, exact, CORPORA, max_bytes=0)
    with pytest.raises(CorpusError, match="no text"):
        evaluate_compression(coder_llama, exact, {"en": [" "]})


def test_models_with_an_encoder_are_refused(exact: Any) -> None:
    """By their kind, not by texts that are no pairs."""
    with pytest.raises(UnsupportedModelError, match="Measuring compression takes causal"):
        evaluate_compression(build_t5(), exact, CORPORA)


def test_the_measurement_gives_the_same(report: CompressionReport, coder_llama: Any, exact: Any) -> None:
    rows = [(language, text) for language, documents in CORPORA.items() for text in documents]
    measurement = load_compression_measurement()
    columns = {"data": [text for _, text in rows], "language": [language for language, _ in rows]}
    found = measurement.compute(**columns, model=coder_llama, tokenizer=exact, block_size=16, stride=8)
    assert found["bits_per_byte"] == report.bits_per_byte
    assert found["bytes"] == {"en": 38, "de": 29}
    assert found["total_bits_per_byte"] == report.total().bits_per_byte
    with pytest.raises(InputError, match="model="):
        load_compression_measurement().compute(data=["a"], language=["en"])
