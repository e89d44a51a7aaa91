"""The commands with encoder-decoder models, whose texts are pairs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.test_encoder_decoder import PAIRS, plain_losses


def test_commands(pair_model: Any, words: Any, tmp_path: Path, langcore: Any) -> None:
    pair_model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    rows = [json.dumps({"source": source, "target": target}) for source, target in PAIRS["de"]]
    (tmp_path / "data" / "de.jsonl").write_text("\n".join(rows), encoding="utf-8")
    data = ("--data", str(tmp_path / "data"), "-q")
    found = langcore("eval", str(tmp_path / "model"), *data, "--json")
    assert found.code == 0, found.err
    total, count = plain_losses(pair_model, words)
    assert json.loads(found.out)["conditions"]["model"]["de"]["nll"] == pytest.approx(total / count, rel=1e-4)
    core = langcore("find", str(tmp_path / "model"), *data, "--fraction", "0.1", "--output", str(tmp_path / "core"))
    assert core.code == 0, core.err
    edited = langcore("perturb", str(tmp_path / "model"), str(tmp_path / "core"), *data)
    assert edited.code == 0, edited.err


def test_echo(pair_model: Any, words: Any, tmp_path: Path, langcore: Any) -> None:
    pair_model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    (tmp_path / "data").mkdir()
    rows = [json.dumps({"source": source, "target": target}) for source, target in PAIRS["de"]]
    (tmp_path / "data" / "de.jsonl").write_text("\n".join(rows), encoding="utf-8")
    arguments = (
        "echo",
        str(tmp_path / "model"),
        "--data",
        str(tmp_path / "data"),
        "--max-new-tokens",
        "4",
        "--inputs",
        "3",
    )
    found = langcore(*arguments, "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["de"]["outputs"] == 3
    shown = langcore(*arguments)
    assert "repeat their inputs" in shown.out
    refused = langcore(*arguments, "--column", "input")
    assert (refused.code, "'input' field" in refused.err) == (1, True)
