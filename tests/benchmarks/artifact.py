"""Size, speed and memory of the mask artifact; run by `run.py`.

    python tests/benchmarks/artifact.py write 0.01 FOLDER
    python tests/benchmarks/artifact.py read 0.01 FOLDER

writes or reads a mask of the shape of LLaMA-2-7B's decoder and prints the peak of the process in bytes, and seconds.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from paired import ratio
from process_peak import peak_bytes

from hf_langcore.masks import CoreMask, PackedBits
from hf_langcore.masks.coding import decode, decode_bools, encode_smallest
from hf_langcore.masks.storage import CONFIG_FILE, MASK_FILE

DENSITIES = (0.01, 0.03, 0.05)
_ROWS, _COLUMNS = 4096, 11008
_SEVEN = {
    **{f"self_attn.{name}_proj.weight": (4096, 4096) for name in "qkvo"},
    **dict.fromkeys(("mlp.gate_proj.weight", "mlp.up_proj.weight"), (11008, 4096)),
    "mlp.down_proj.weight": (4096, 11008),
    **dict.fromkeys(("input_layernorm.weight", "post_attention_layernorm.weight"), (4096,)),
}
_LAYERS = 32


class Sizes(NamedTuple):
    """Bytes of an artifact, and the least that any code needs for masks of these densities whose entries are evenly spread.

    Attributes:
        arrays: Bytes of the safetensors file.
        description: Bytes of the JSON file.
        entropy: Bytes of the bound.
    """

    arrays: int
    description: int
    entropy: float


def tables(*, repeats: int) -> list[str]:
    """All figures as Markdown."""
    return [_sizes_and_speed(repeats), _real(), _memory()]


class Seven(Mapping[str, PackedBits]):
    """A mask of LLaMA-2-7B's decoder layers, one tensor at a time: random bits, drawn once and rolled for each tensor."""

    def __init__(self, density: float) -> None:
        shapes = {f"model.layers.{layer}.{name}": shape for layer in range(_LAYERS) for name, shape in _SEVEN.items()}
        self._shapes = shapes
        self._drawn = PackedBits.from_bool(
            np.random.default_rng(0).random(_ROWS * _COLUMNS, np.float32) < density
        ).data
        self._shift = {name: 1009 * index for index, name in enumerate(shapes)}

    def __getitem__(self, name: str) -> PackedBits:
        shape = self._shapes[name]
        return PackedBits(np.roll(self._drawn, self._shift[name])[: math.prod(shape) // 8], shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def entropy_bytes(size: int, count: int) -> float:
    """Least bytes for `count` of `size` entries if they are evenly spread."""
    share = count / size
    if share in {0.0, 1.0}:
        return 0.0
    return -size * (share * math.log2(share) + (1 - share) * math.log2(1 - share)) / 8


def structured(density: float) -> np.ndarray:
    """A core as real ones are: rows and columns of different weight, one in a hundred fifteen times the others'."""
    generator = np.random.default_rng(0)
    weights = []
    for lines in (_ROWS, _COLUMNS):
        weight = np.exp(generator.normal(0, 0.5, lines)).astype(np.float32)
        weight[generator.choice(lines, lines // 100, replace=False)] *= 15
        weights.append(weight)
    scores = generator.standard_exponential((_ROWS, _COLUMNS), np.float32)
    scores /= weights[0][:, None]
    scores /= weights[1]
    chosen = int(density * scores.size)
    return np.asarray(scores <= np.partition(scores.reshape(-1), chosen)[chosen])


def sizes_of(core_mask: CoreMask) -> Sizes:
    """Write a mask into a temporary folder and measure its files."""
    with tempfile.TemporaryDirectory() as folder:
        core_mask.save_pretrained(folder)
        arrays, description = ((Path(folder) / name).stat().st_size for name in (MASK_FILE, CONFIG_FILE))
    bound = sum(entropy_bytes(math.prod(shape), core_mask.count(name)) for name, shape in core_mask.shapes().items())
    return Sizes(arrays, description, bound)


def _sizes_and_speed(repeats: int) -> str:
    head = (
        f"### One tensor of {_ROWS} x {_COLUMNS}\n\n"
        "| mask | file / bound | with JSON / bound | to booleans, GB/s | copying booleans, GB/s | copying / decoding, time "
        "| to packed bits, GB/s | encoding to save, ms |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    rows = []
    for density in DENSITIES:
        random = np.random.default_rng(0).random((_ROWS, _COLUMNS), np.float32) < density
        rows.append(_row(f"random {density:.0%}", random, repeats))
        rows.append(_row(f"hot rows and columns {density:.0%}", structured(density), repeats))
    return "\n".join([head, *rows])


def _row(name: str, values: np.ndarray, repeats: int) -> str:
    packed = PackedBits.from_bool(values)
    sizes = sizes_of(CoreMask({"model.layers.0.mlp.up_proj.weight": packed}))
    coded = encode_smallest(packed)
    speed = ratio(values.copy, lambda: decode_bools("w", coded), repeats=repeats)
    other = ratio(lambda: encode_smallest(packed), lambda: decode("w", coded), repeats=repeats, warmups=1)
    giga = values.size / 1e9
    row = (
        f"| {name} | {sizes.arrays / sizes.entropy:.3f} | {(sizes.arrays + sizes.description) / sizes.entropy:.3f} "
        f"| {giga / speed.theirs:.2f} | {giga / speed.ours:.2f} | {speed} | {giga / other.theirs:.2f} "
        f"| {other.ours * 1000:.0f} |"
    )
    print(row, file=sys.stderr)
    return row


def _real() -> str:
    head = (
        "### Core of the small real model\n\n| mask | file / bound | JSON, bytes | file, bytes | arrays in it / bound |\n"
        "| --- | ---: | ---: | ---: | ---: |"
    )
    if "LANGCORE_MODEL" not in os.environ or "LANGCORE_DATA" not in os.environ:
        return "The core of a real model was not measured: LANGCORE_MODEL and LANGCORE_DATA are not set."
    return "\n".join([head, *_real_rows()])


def _real_rows() -> Iterator[str]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from hf_langcore import compute_importance

    model = AutoModelForCausalLM.from_pretrained(os.environ["LANGCORE_MODEL"])
    tokenizer = AutoTokenizer.from_pretrained(os.environ["LANGCORE_MODEL"])
    files = sorted(Path(os.environ["LANGCORE_DATA"]).rglob("*.txt"))[:4]
    scores = compute_importance(model, tokenizer, {file.stem: str(file) for file in files}, max_tokens=4096)
    for density in DENSITIES:
        core_mask = CoreMask.from_scores(scores, fraction=density)
        sizes = sizes_of(core_mask)
        arrays = sum(encode_smallest(core_mask.packed(name)).nbytes for name in core_mask)
        yield (
            f"| taylor {density:.0%} | {sizes.arrays / sizes.entropy:.3f} | {sizes.description} | {sizes.arrays} "
            f"| {arrays / sizes.entropy:.3f} |"
        )


def _memory() -> str:
    head = (
        "### A mask of LLaMA-2-7B's decoder, 6.5 billion weights, random bits\n\n"
        "| density | file, MB | file / bound | peak of writing, MB | writing, s | peak of reading, MB | reading, s |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    )
    rows = []
    for density in DENSITIES:
        with tempfile.TemporaryDirectory() as folder:
            written, write_seconds, bound = _child("write", density, folder)
            read, read_seconds, _ = _child("read", density, folder)
            size = (Path(folder) / MASK_FILE).stat().st_size
        rows.append(
            f"| {density:.0%} | {size / 1e6:.0f} | {size / bound:.3f} | {written / 1e6:.0f} | {write_seconds:.0f} "
            f"| {read / 1e6:.0f} | {read_seconds:.0f} |"
        )
        print(rows[-1], file=sys.stderr)
    return "\n".join([head, *rows])


def _child(what: str, density: float, folder: str) -> tuple[float, float, float]:
    command = [sys.executable, str(Path(__file__)), what, str(density), folder]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(output[-3]), float(output[-2]), float(output[-1])


def _main() -> None:
    what, density, folder = sys.argv[1:]
    start = time.perf_counter()
    if what == "write":
        core_mask = CoreMask(Seven(float(density)))
        core_mask.save_pretrained(folder)
    else:
        core_mask = CoreMask.from_pretrained(folder)
    seconds = time.perf_counter() - start
    bound = sum(entropy_bytes(math.prod(shape), core_mask.count(name)) for name, shape in core_mask.shapes().items())
    print(peak_bytes(), seconds, bound)


if __name__ == "__main__":
    torch.set_num_threads(1)
    _main()
