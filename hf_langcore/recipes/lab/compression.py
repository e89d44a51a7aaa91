"""How well the model compresses each language, proved by decompressing; and what that costs without the core."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hf_langcore.compression import ARCHIVERS, RoundTrip, evaluate_compression, prove_round_trip
from hf_langcore.editing import perturb
from hf_langcore.errors import InputError
from hf_langcore.masks import CoreMask
from hf_langcore.recipes.bench.workbench import Bench
from hf_langcore.report.parts import Cell, Section, Spread, Table

_TEXT = (
    (
        "A model that predicts well compresses well: the better it expects a token, the fewer bits an arithmetic coder needs for it. "
        "**Bits per byte** count the text in bytes, so that models with different vocabularies, and languages, can be put side by side; "
        "the **ratio** is bytes of text per byte of code. gzip -9, zstd -19 and xz -9e have each language as one file and learn "
        "from it as they go; the model has learnt before, from other text, and sees one document at a time."
    ),
    (
        "**Round trip** is no estimate: the test text of a language was compressed with the model, decompressed again, and compared byte "
        "for byte. Its code has a header and checksums, and its rows of tokens begin without context, so that it is a little longer "
        "than the ideal."
    ),
)


def compression(
    bench: Bench,
    *,
    max_bytes: int | None = None,
    region_bytes: int = 20_000,
    round_trip_bytes: int | None = None,
    context: int = 256,
    stride: int | None = None,
    chunk: int | None = None,
    streams: int = 80,
    random_seeds: Sequence[int] = (0, 1, 2),
) -> Section:
    """Measure bits per byte and ratio per language, prove them by a round trip, and remove the core and random regions.

    Args:
        bench: The workbench.
        max_bytes: Whole documents per language until there is so much text; all of it if None.
        region_bytes: The same where a region is removed.
        round_trip_bytes: Bytes per language that are really compressed and decompressed; all of the test text if None, none if 0.
        context: Positions that the model looks at.
        stride: Tokens that each further window of a long document scores; half a window if None.
        chunk: Most tokens of a row of the round trip; see `hf_langcore.compression.compress`.
        streams: Most rows side by side.
        random_seeds: Random regions of the core's size.

    Raises:
        InputError: `random_seeds` is empty, or `round_trip_bytes` negative.
    """
    if not random_seeds or (round_trip_bytes is not None and round_trip_bytes < 0):
        raise InputError(
            "random_seeds needs at least one seed and round_trip_bytes a number from 0 or None, got "
            f"{list(random_seeds)} and {round_trip_bytes!r}."
        )
    window = {"context": context, "stride": stride}
    bench.progress.expect(3 + len(random_seeds) + (0 if round_trip_bytes == 0 else len(bench.languages)))
    whole = _measured(bench, "model", window, max_bytes, archived=True)
    trips = _round_trips(bench, round_trip_bytes, {"context": context, "chunk": chunk, "streams": streams})
    core_mask = bench.core()
    regions = {"model": _measured(bench, "model", window, region_bytes)}
    regions["core"] = _measured(bench, "core removed", window, region_bytes, region=core_mask)
    for seed in random_seeds:
        region = core_mask.random_like(seed=seed)
        regions[f"random {seed}"] = _measured(bench, f"random {seed} removed", window, region_bytes, region=region)
    parts = [_ratio_table(whole), _region_table(regions, bench.settings.fraction)]
    return Section(
        name="compression",
        title="Compression: bits per byte, and the text back again",
        text=(*_TEXT, _adjusted(whole)),
        parts=(*parts, *([_trip_table(trips)] if trips else [])),
        facts={
            **bench.facts(),
            **window,
            "chunk": chunk,
            "streams": streams,
            "max_bytes": max_bytes,
            "region_bytes": region_bytes,
            "round_trip_bytes": round_trip_bytes,
            "random_seeds": list(random_seeds),
            "core_mask": core_mask.digest(),
            "bytes": whole["total"]["model"]["bytes"],
        },
    )


def _measured(
    bench: Bench,
    condition: str,
    window: Mapping[str, Any],
    max_bytes: int | None,
    *,
    region: CoreMask | None = None,
    archived: bool = False,
) -> dict[str, Any]:
    """What `evaluate_compression` says, kept, under the name "model"."""

    def make() -> Any:
        return evaluate_compression(
            bench.model,
            bench.tokenizer,
            dict(bench.texts.test),
            block_size=window["context"],
            stride=window["stride"],
            max_bytes=max_bytes,
            batch_size=bench.settings.batch_size,
            compressors=ARCHIVERS if archived else (),
            on_nonfinite="inf",
            progress=False,
        ).to_dict()

    def removed() -> Any:
        if region is None:
            return make()
        with perturb(bench.model, region, how="zero"):
            return make()

    digest = None if region is None else region.digest()
    settings = {**window, "condition": condition, "max_bytes": max_bytes, "region": digest, "archived": archived}
    found: dict[str, Any] = bench.kept("compression", settings, removed)
    return found


def _round_trips(bench: Bench, limit: int | None, options: dict[str, Any]) -> dict[str, RoundTrip]:
    """Language -> its test text, compressed and decompressed; each is kept as soon as it is done."""
    found: dict[str, RoundTrip] = {}
    for language in bench.languages if limit != 0 else ():
        data = "".join(f"{document}\n" for document in bench.texts.test[language]).encode("utf-8", "surrogatepass")[
            :limit
        ]
        settings = {**options, "language": language, "sha256": hashlib.sha256(data).hexdigest()}

        def make(data: bytes = data) -> Any:
            return asdict(prove_round_trip(bench.model, bench.tokenizer, data, **options))

        found[language] = RoundTrip(**bench.kept("round-trip", settings, make))
    return found


def _ratio_table(whole: Mapping[str, Any]) -> Table:
    rows = [
        _ratio_row(language, score, {name: sizes["whole"] for name, sizes in whole["archived"][language].items()})
        for language, score in whole["conditions"]["model"].items()
    ]
    sums = {name: sum(found[name]["whole"] for found in whole["archived"].values()) for name in ARCHIVERS}
    rows.append(_ratio_row("all", whole["total"]["model"], sums))
    return Table(
        name="ratio",
        title="Bits per byte and ratio",
        columns=("language", "bytes", "bits per byte", "ratio", *(f"ratio of {name}" for name in ARCHIVERS)),
        rows=tuple(rows),
        note="Ratio: bytes of text / bytes of code, larger is better. Model: ideal code length, each document on its own. "
        "gzip, zstd and xz: all documents of a language in one file.",
        last_is_total=True,
    )


def _ratio_row(language: str, score: Mapping[str, Any], archived: Mapping[str, int]) -> tuple[Cell, ...]:
    size = int(score["bytes"])
    return (
        language,
        size,
        float(score["bits_per_byte"]),
        float(score["ratio"]),
        *(size / archived[name] for name in ARCHIVERS),
    )


def _region_table(regions: Mapping[str, Mapping[str, Any]], fraction: float) -> Table:
    rows = [(language, *_changes(regions, language)) for language in regions["model"]["conditions"]["model"]]
    return Table(
        name="regions",
        title=f"Bits per byte with {100 * fraction:g} % of the weights set to zero",
        columns=("language", "nothing removed", "core removed", "random removed"),
        rows=(*rows, ("all", *_changes(regions, None))),
        note="Random: regions of the core's size in each tensor, mean and range over seeds. A text without any model has 8 bits per "
        "byte: where the figure is above that, the model expects the wrong.",
        last_is_total=True,
    )


def _changes(regions: Mapping[str, Mapping[str, Any]], language: str | None) -> tuple[Cell, ...]:
    values = {
        name: float((one["total"] if language is None else one["conditions"])["model"]["bits_per_byte"])
        if language is None
        else float(one["conditions"]["model"][language]["bits_per_byte"])
        for name, one in regions.items()
    }
    random = [value for name, value in values.items() if name.startswith("random")]
    return values["model"], values["core"], Spread(math.fsum(random) / len(random), min(random), max(random))


def _trip_table(trips: Mapping[str, RoundTrip]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (language, one.original, one.compressed, one.original / one.compressed, _yes(one.identical), one.seconds)
        for language, one in trips.items()
    ]
    original, compressed = (sum(getattr(one, name) for one in trips.values()) for name in ("original", "compressed"))
    same = all(one.identical for one in trips.values())
    rows.append(
        ("all", original, compressed, original / compressed, _yes(same), sum(one.seconds for one in trips.values()))
    )
    return Table(
        name="round-trip",
        title="Compressed, decompressed and compared",
        columns=("language", "bytes", "compressed", "ratio", "identical", "seconds"),
        rows=tuple(rows),
        note="Bytes of the compressed data with header and checksums; wall time of both ways.",
        last_is_total=True,
    )


def _yes(value: bool) -> str:  # noqa: FBT001 the only argument
    return "yes" if value else "NO"


def _adjusted(whole: Mapping[str, Any]) -> str:
    total, weights = whole["total"]["model"], whole["model_bytes"]["model"]
    size, code = int(total["bytes"]), float(total["bits"]) / 8
    return (
        f"Who is sent compressed text needs the model as well, once. With its {weights:,} bytes of weights added, the {size:,} bytes of "
        f"text here become {code + weights:,.0f}, that is {100 * (code + weights) / size:.1f} % instead of {100 * code / size:.1f} %: a model "
        "pays as a compressor only for far more text than it is large."
    )
