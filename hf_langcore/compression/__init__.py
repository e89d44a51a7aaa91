"""Lossless compression with a language model, and bits per byte as a measure that vocabularies do not change."""

from __future__ import annotations

from hf_langcore.compression.archivers import ARCHIVERS, Archived
from hf_langcore.compression.codec import Sizes, compress, compress_file, decompress, decompress_file
from hf_langcore.compression.measurement import load_compression_measurement
from hf_langcore.compression.measuring import evaluate_compression, prove_round_trip
from hf_langcore.compression.report import CompressionReport, LanguageCompression, RoundTrip

__all__ = [
    "ARCHIVERS",
    "Archived",
    "CompressionReport",
    "LanguageCompression",
    "RoundTrip",
    "Sizes",
    "compress",
    "compress_file",
    "decompress",
    "decompress_file",
    "evaluate_compression",
    "load_compression_measurement",
    "prove_round_trip",
]
