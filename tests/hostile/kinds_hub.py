"""What lies beside a mask on the Hub: results, references, cards, and what a search finds; and reports on disk."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from artifact import Damaged, Files, Kind, content_of, json_of
from byte_damage import flip, splice, truncate
from json_damage import JSON_DAMAGES, NAMES, VALUES, dump
from kinds_masks import BYTES, written
from signing import any_change, resealed, signed_change

from hf_langcore import PerplexityReport, load_eval_results
from hf_langcore.evaluation.language_score import LanguageScore
from hf_langcore.hub.card import mask_card
from hf_langcore.hub.eval_record import EvalRecord
from hf_langcore.hub.front_matter import split_card
from hf_langcore.hub.model_index import mirrored
from hf_langcore.hub.records import RESULTS_FILE, EvalResults
from hf_langcore.hub.references import REFERENCE_FILE, read_reference, write_reference
from hf_langcore.hub.results import read_card
from hf_langcore.hub.search import _listing
from hf_langcore.masks import CoreMask, Provenance
from hf_langcore.masks.origin import HubOrigin

CARD, REPORT = "README.md", "report.json"
BASE = EvalRecord(
    model="me/model", model_revision="a" * 40, condition="base", language="en", tokens=100, nll=1.5, bytes=400, perturbed=False,
    text_sha256="d" * 64, dataset="me/texts", dataset_split="test", block_size=512, stride=256, start_token="bos",  # noqa: S106 no password
    dtype="float32",
    seed=3, versions={"torch": "2.13"}, date="2026-11-21T18:00:00Z",
)  # fmt: skip
ZEROED = replace(
    BASE, condition="top 3 %", nll=math.inf, perturbed=True, how="zero", core_mask="b" * 64, core_mask_repo="me/mask"
)
RECORDS = EvalResults([BASE, replace(BASE, language="de", nll=2.0), ZEROED, replace(ZEROED, language="de", nll=9.0)])


def results() -> Kind:
    """`eval/results.json`."""
    files = written(RECORDS.save)

    def contradictory(rng: random.Random, values: Any) -> None:
        records = values["records"]
        record = rng.choice(records)
        how = rng.randrange(7)
        if how == 0:
            records.append(dict(record))
        elif how == 1:
            record["nll"] = (record["nll"] if record["nll"] != "inf" else 5.0) + rng.choice((0.01, 1, -0.2))
        elif how == 2:
            record["perplexity"] = rng.choice((1.0, 0, -3, 1e300, "inf ", None, True, "Infinity", [1], 10**400))
        elif how == 3:
            record["tokens"] = rng.choice((0, -5, 1.5, 2**70, True, "100", None, 10**20, 99))
        elif how == 4:
            record["bytes"] = rng.choice((0, -5, 1.5, 2**70, True, "100", 399))
        elif how == 5:
            record["perturbed"], record["how"] = rng.choice(
                ((False, "zero"), (None, "zero"), ("yes", None), (1, "zero"))
            )
        else:
            key = rng.choice(
                (
                    "model",
                    "model_revision",
                    "core_mask",
                    "core_mask_repo",
                    "dataset",
                    "date",
                    "seed",
                    "versions",
                )
            )
            record[key] = rng.choice((*NAMES, 5, ["a"], {"a": {}}, "2026-99-99T00:00:00Z", "hf_" + "a" * 30))

    def sign(files: Files) -> Files:
        return resealed(files, RESULTS_FILE)

    damages = {
        **BYTES, **JSON_DAMAGES,
        "signed: contradictory record": signed_change(RESULTS_FILE, contradictory, sign),
        "signed: any change": any_change(RESULTS_FILE, sign),
    }  # fmt: skip
    return Kind("results", (files,), load_eval_results, damages)


def references() -> Kind:
    """`core_mask_ref.json`."""
    mask = CoreMask(
        {"w": torch.arange(9) > 5},
        provenance=Provenance(method="taylor", base_model="me/model", base_revision="a" * 40),
    )
    mask._origin = HubOrigin("me/mask", "c" * 40)
    files = written(lambda folder: write_reference(folder, mask))

    def wrong(rng: random.Random, values: Any) -> None:
        key = rng.choice(("repo_id", "revision", "digest", "base_model", "base_revision", "format", "extra"))
        values[key] = rng.choice(
            (
                *(name for name in NAMES if name not in {"CON", "__metadata__", "__class__"}),
                5,
                True,
                [],
                "a b",
                "A" * 40,
                "c" * 39,
                "me/../mask",
                "/me/mask",
                "me/mask/x",
                "me/mask\n",
            )
        )

    def sign(files: Files) -> Files:
        return resealed(files, REFERENCE_FILE)

    damages = {
        **BYTES, **JSON_DAMAGES, "signed: wrong field": signed_change(REFERENCE_FILE, wrong, sign),
        "signed: any change": any_change(REFERENCE_FILE, sign),
    }  # fmt: skip
    return Kind("reference", (files,), read_reference, damages)


def reports() -> Kind:
    """What `PerplexityReport.to_json` wrote."""

    def make() -> Files:
        scores = {"en": LanguageScore(1.5, 100, 400), "zh": LanguageScore(2.5, 90, 300)}
        worse = {"en": LanguageScore(math.inf, 100, 400), "zh": LanguageScore(800.0, 90, 300)}
        settings = {
            "model": "me/model",
            "revision": "a" * 40,
            "dtype": "float32",
            "block_size": 512,
            "text_sha256": "d" * 64,
            "edits": [],
        }
        own = {"base": settings, "top 3 %": {**settings, "edits": ["zero 30 weights"]}}
        report = PerplexityReport({"base": scores, "top 3 %": worse}, settings=settings, condition_settings=own)
        return written(lambda folder: report.to_json(folder / REPORT))

    def load(folder: Path) -> Any:
        report = PerplexityReport.from_json(folder / REPORT)
        return report.conditions, report.settings, {name: report.settings_of(name) for name in report.conditions}

    def impossible(rng: random.Random, values: Any) -> None:
        condition = rng.choice(list(values["conditions"]))
        score = rng.choice(list(values["conditions"][condition].values()))
        key = rng.choice(("nll", "perplexity", "tokens", "bytes"))
        score[key] = rng.choice((-1, 0.5, True, None, "nan", "-inf", "1.5", [1.5], 10**400, -0.5, {"a": 1}, "inf "))

    def sign(files: Files) -> Files:
        return resealed(files, REPORT)

    damages = {
        **BYTES, **JSON_DAMAGES,
        "signed: impossible figure": signed_change(REPORT, impossible, sign), "signed: any change": any_change(REPORT, sign),
    }  # fmt: skip
    return Kind("report", (make(),), load, damages)


CARDS = (
    (
        "---\nlicense: mit\nlanguage:\n- en\n- no\ntags:\n- mine\nmodel-index:\n- name: old\n  results:\n  - task:\n      type: x\n"
        "    dataset:\n      type: a\n      name: b\n    metrics:\n    - type: acc\n      value: 0.5\n# a comment\nbase_model: me/model\n---\n\n"
        "# My model\n\nWords, and `code`.\n"
    ),
    "# No metadata\n\ntext\n",
    "---\r\nlicense: mit\r\ntags: [a, b]\r\n---\r\ntext\r\n",
)
YAML = (
    "!!int ''", "!!float ''", "!!bool maybe", "!!timestamp never", "!!binary '&'", "!!python/object/apply:os.system ['touch canary']",
    "!!python/name:os.system", "!!set {a, b}", "!!omap [a: 1]", "!!null x", "!!str {a: 1}", "!unknown 1", "2001-99-99", "2001-02-30T25:00:00Z",
    ".nan", "-.inf", "1e999", "0x" + "f" * 5000, "9" * 5000, "190:20:30", "&a [*a]", "&a {k: *a}", "*missing", "? [a]\n: b", "{a: 1, a: 2}",
    "[" * 2000, "{a: " * 2000, "[" * 300 + "]" * 300, "'" + "x" * 300_000 + "'", "|\n  text\n  ---\n  text", "%TAG ! x", "\t- tab", "@at", "`tick",
    "\x00", "\x07", "\ud800", "\u2028", "\ufeff", "=", "<<", "{<<: 5}", "{<<: [a]}", "!!pairs [a]", "!!merge x", "!!value x", "1_000", "0o8", "0b2",
)  # fmt: skip
_LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


def cards() -> Kind:
    """README.md of somebody else, into which our part is merged."""

    def load(folder: Path) -> Any:
        """The card with our metadata, without them: what others wrote."""
        content = (folder / CARD).read_bytes()
        head: Any = SimpleNamespace(repo_id="me/mask", read=lambda _name, limit: content[:limit])
        card = read_card(head)
        whole = mask_card(_MASK, repo_id="me/mask", results=RECORDS, previous=card)
        again = mirrored(card, RECORDS, repo_id="me/mask")
        assert "perplexity, top 3 %, de" in whole
        assert "perplexity, top 3 %, de" in again
        return _theirs(again)

    def reference(folder: Path) -> Any:
        return _theirs((folder / CARD).read_bytes().decode())

    def place(change: Callable[[random.Random, list[str]], object]) -> Callable[[random.Random, Files], Files]:
        def damage(rng: random.Random, files: Files) -> Files:
            lines = content_of(files, CARD).decode().splitlines(keepends=True)
            change(rng, lines)
            return {**files, CARD: "".join(lines).encode("utf-8", "surrogatepass")}

        return damage

    def evil_value(rng: random.Random, lines: list[str]) -> None:
        lines.insert(
            min(1, len(lines)),
            f"{rng.choice(('evil', 'tags', 'language', 'license', 'model-index', 'core_mask'))}: {rng.choice(YAML)}\n",
        )

    def doubled(rng: random.Random, lines: list[str]) -> None:
        lines.insert(1, rng.choice(("license: other\n", "tags: x\n", "model-index: []\n", "language: zz\n")))

    def bombs(rng: random.Random, lines: list[str]) -> None:
        bomb = rng.choice((
            _LAUGHS, "\n" * 200_000, "- " * 5000 + "\n", "a: " * 3000 + "\n", "# " + "x" * 2_000_000 + "\n", "a:\n" * 20_000,
            "? " * 3000 + "\n", " " * 500_000 + "\n", "[" * 100_000 + "\n", "k: {" + "a, " * 20_000 + "}\n", "---" * 100_000 + "\n",
            "\r" * 200_000, "&x " * 3000 + "\n", "b: &b {a: 1}\n" + "c:\n  <<: *b\n" * 3000,
        ))  # fmt: skip
        lines.insert(min(1, len(lines)), bomb)

    def index(rng: random.Random, lines: list[str]) -> None:
        value = rng.choice(("5", "[5]", "[{name: a}]", "[{results: []}]", "[{name: a, results: [5]}]", "{}", "[[]]", "[{name: 1, results: {}}]",
                            "[{name: a, results: [{metrics: 5}]}]", "[{name: a, results: [{metrics: [5, {args: 5}]}]}]"))  # fmt: skip
        kept = [line for line in lines if "model-index" not in line and not line.startswith((" ", "- name"))]
        lines[:] = [*kept[:1], f"model-index: {value}\n", *kept[1:]]

    damages: dict[str, Any] = {
        "bytes": flip, "truncation": truncate, "ranges": splice,
        "values of YAML": place(evil_value), "keys that stand twice": place(doubled), "bombs of YAML": place(bombs),
        "wrong model-index": place(index),
    }  # fmt: skip
    return Kind("card", tuple({CARD: card.encode()} for card in CARDS), load, damages, reference)


_MASK = CoreMask(
    {"w": torch.arange(9) > 5}, provenance=Provenance(method="taylor", base_model="me/model", base_revision="a" * 40)
)


def _theirs(card: str) -> Any:
    """The metadata that are not ours as PyYAML composes them, and the text, of a card."""
    metadata, text = split_card(card)
    return {key: repr(value) for key, value in metadata.items() if key != "model-index"}, text.strip()


def listings() -> Kind:
    """What the Hub answers to a search: every field of a card's metadata only where it has the form that it should have."""
    facts = {"base_revision": "a" * 40, "method": "taylor", "fraction": 0.03, "digest": "d" * 64}
    card = {
        "core_mask": facts,
        "language": ["en", "zh"],
        "license": "mit",
        "tags": ["core-mask"],
        "base_model": "me/model",
    }

    def load(folder: Path) -> Any:
        values = json_of({"card.json": (folder / "card.json").read_bytes()}, "card.json")
        info = SimpleNamespace(
            id="me/mask", sha="c" * 40, card_data=SimpleNamespace(to_dict=lambda: values), downloads=3, likes=1, last_modified=None,
            private=False, gated="auto",
        )  # fmt: skip
        found = _listing(info, "me/model")
        forms = (found.method, found.base_revision, found.digest, found.license)
        assert all(one is None or (isinstance(one, str) and len(one) < 1000 and one.isprintable()) for one in forms), (
            "text"
        )
        assert found.fraction is None or (isinstance(found.fraction, float) and 0 <= found.fraction <= 1), "fraction"
        assert len(found.languages) < 10_000, "languages"
        assert all(isinstance(one, str) and len(one) < 1000 and one.isprintable() for one in found.languages), (
            "languages"
        )
        return "a listing"

    def replaced(rng: random.Random, files: Files) -> Damaged:
        values = json_of(files, "card.json")
        holder = rng.choice((values, values["core_mask"]))
        value = rng.choice((*VALUES, *NAMES, 10**400, ["x" * 100_000], [{}], [None], {"en": 1}, list(range(20_000))))
        holder[rng.choice(list(holder))] = value
        return Damaged({**files, "card.json": dump(values)}, may_differ=True)

    return Kind("search listing", ({"card.json": dump(card)},), load, {"wrong values": replaced})
