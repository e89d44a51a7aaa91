"""Probes: what the hidden states of encoders and decoders say about words and their relations, per layer and language.

Nothing here needs an optional package to be imported; reading treebanks and training probes need those of the extra
"probing" (`pip install "hf_langcore[probing]"`).
"""

from __future__ import annotations

from hf_langcore.probing.alignment import AlignmentSettings, align_relations
from hf_langcore.probing.alignment_report import AlignmentReport
from hf_langcore.probing.layers import labelled, probe_layers, transfer_matrix
from hf_langcore.probing.linear import LinearProbe, fit_linear_probe
from hf_langcore.probing.probe_report import ProbeReport, TransferReport
from hf_langcore.probing.representations import (
    Labelled,
    WordVectors,
    labelled_relations,
    labelled_words,
    word_vectors,
)
from hf_langcore.probing.runs import ProbePlan, probe_labelled, transfer_labelled
from hf_langcore.probing.scores import ProbeScore
from hf_langcore.probing.stacks import is_encoder
from hf_langcore.probing.tagging import tag_few_shot, tag_labelled, tag_zero_shot
from hf_langcore.probing.tagging_report import TaggingReport
from hf_langcore.probing.treebanks import Sentence, load_treebanks, read_treebank

__all__ = [
    "AlignmentReport",
    "AlignmentSettings",
    "Labelled",
    "LinearProbe",
    "ProbePlan",
    "ProbeReport",
    "ProbeScore",
    "Sentence",
    "TaggingReport",
    "TransferReport",
    "WordVectors",
    "align_relations",
    "fit_linear_probe",
    "is_encoder",
    "labelled",
    "labelled_relations",
    "labelled_words",
    "load_treebanks",
    "probe_labelled",
    "probe_layers",
    "read_treebank",
    "tag_few_shot",
    "tag_labelled",
    "tag_zero_shot",
    "transfer_labelled",
    "transfer_matrix",
    "word_vectors",
]
