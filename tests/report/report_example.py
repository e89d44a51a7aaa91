"""A report with every kind of part, as large as a real one, out of invented figures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Points, Section, Spread, Table, Texts

_CODES = "ar bg cs da de el en es et fi fr he hi hu id it ja ko lt lv nl pl pt ro ru sv th tr vi zh"
LANGUAGES = tuple(_CODES.split())
ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
HOSTILE = "<script>window.broken=1</script><img src=x onerror=window.broken=1>"
ARABIC = "تقع جامعة فودان في مدينة شنغهاي، وهي واحدة من أقدم الجامعات في الصين."
CHINESE = "复旦大学位于中国上海市，是一所历史悠久的综合性研究型大学。"  # noqa: RUF001


def table() -> Table:
    """Perplexities over five orders of magnitude; one is infinite, one is missing."""
    draws = np.random.default_rng(0)
    rows: list[tuple[object, ...]] = []
    for number, language in enumerate(LANGUAGES):
        base = 8 + 20 * draws.random()
        top = math.inf if number == 3 else base * 10 ** (1 + 3 * draws.random())
        rows.append((language, base, top, base * 1.02, Spread(base * 1.2, base * 1.1, base * 1.3)))
    rows[5] = (*rows[5][:3], None, rows[5][4])
    rows.append(("geometric mean", 15.2, 8123.0, 15.5, Spread(18.2, 17.0, 19.4)))
    columns = ("language", "unedited", "top 3 %", "bottom 3 %", "random 3 %, five seeds")
    return Table(
        "perplexity", "Perplexity by language", columns, tuple(rows), "Held-out text.", columns[1:], last_is_total=True
    )  # type: ignore[arg-type]


def dose() -> Curves:
    """A line for each language, some of them infinite at the last factors."""
    draws = np.random.default_rng(1)
    x = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)
    lines: dict[str, tuple[float | None, ...]] = {}
    for number, language in enumerate(LANGUAGES):
        base, slope = 8 + 20 * draws.random(), 1 + 2 * draws.random()
        values: list[float | None] = [base * math.exp(slope * abs(math.log2(max(f, 0.05)))) for f in x]
        if number % 5 == 0:
            values[-1] = math.inf
        if number == 1:
            values[3] = None
        lines[language] = tuple(values)
    return Curves(
        "factors",
        "Perplexity against the factor",
        "factor on the norm weight",
        "perplexity",
        x,
        lines,
        "symlog",
        "log",
        level=15.2,
    )


def recovery() -> Curves:
    """Frozen and free core with bands over seeds."""
    x = (0.0, 2000.0, 5000.0, 10000.0, 20000.0, 50000.0)
    frozen, free = (5e4, 9e3, 4e3, 900.0, 300.0, 120.0), (5e4, 900.0, 200.0, 60.0, 30.0, 19.0)
    bands = {"free": (tuple(v * 0.8 for v in free), tuple(v * 1.3 for v in free))}
    return Curves(
        "recovery",
        "Recovery of the destroyed core",
        "training samples",
        "perplexity",
        x,
        {"frozen": frozen, "free": free},
        "symlog",
        "log",
        "Bands: three seeds.",
        bands,
        12.0,
    )


def tree(count: int) -> tuple[tuple[float, ...], ...]:
    """Neighbours joined into one chain."""
    steps, last = [], 0.0
    for number in range(1, count):
        one = 0 if number == 1 else count + number - 2
        last += 0.1
        steps.append((float(one), float(number), last, number + 1.0))
    return tuple(steps)


def jaccard(names: Sequence[str] = LANGUAGES) -> Matrix:
    """How far regions overlap, with a tree."""
    count = len(names)
    values = tuple(
        tuple(1.0 if row == column else round(0.3 + 0.5 / (1 + abs(row - column)), 3) for column in range(count))
        for row in range(count)
    )
    return Matrix("jaccard", "Overlap of the regions", tuple(names), tuple(names), values, "Jaccard", tree=tree(count))


def removal() -> Matrix:
    """Figures of both signs, some missing."""
    rows = tuple(
        tuple(
            None if row == column == 2 else 3.0 if row == column else round(0.1 * (row - column), 2)
            for column in range(8)
        )
        for row in range(6)
    )
    return Matrix(
        "removal",
        "Removing a region",
        LANGUAGES[:6],
        LANGUAGES[:8],
        rows,
        "nats per token",
        "Diagonal.",
        is_signed=True,
    )


def heat_map(name: str, shape: tuple[int, int], *, cells: int = 48, seed: int = 0, busy: int = 7) -> HeatMap:
    """A matrix whose region lies in a few columns and one row."""
    draws = np.random.default_rng(seed)
    density = 0.01 * draws.random((cells, cells))
    density[:, busy % cells] = 0.5 + 0.4 * draws.random(cells)
    density[:, (3 * busy) % cells] += 0.2
    density[(5 * busy) % cells, :] += 0.25
    density = np.clip(density, 0, 1)
    window = tuple(
        tuple(int(bit) for bit in row) for row in (draws.random(density[:48, :48].shape) < density[:48, :48])
    )
    rows = tuple(map(tuple, density.tolist()))
    return HeatMap(
        name, shape, rows, tuple(density.mean(1).tolist()), tuple(density.mean(0).tolist()), (24, 96, window)
    )


def heat_maps(layers: int = 6, *, cells: int = 48) -> HeatMaps:
    """All matrices of a small Llama."""
    shapes = {"gate_proj": (512, 192), "up_proj": (512, 192), "down_proj": (192, 512)}
    maps = tuple(
        heat_map(
            f"model.layers.{layer}.{'mlp' if role in shapes else 'self_attn'}.{role}.weight",
            shapes.get(role, (192, 192)),
            cells=cells,
            seed=10 * layer + number,
            busy=7 + number,
        )
        for layer in range(layers)
        for number, role in enumerate(ROLES)
    )
    return HeatMaps("maps", "The core in every matrix", maps, "Top 3 % of each matrix.")


def points() -> Points:
    """Relations of six languages: by language at first, by relation afterwards."""
    draws = np.random.default_rng(2)
    relations = ("nsubj", "obj", "obl", "amod", "advmod")
    rows = []
    for panel, apart in (("before", 0), ("after", 1)):
        centres = 10 * draws.normal(size=(6, 2))
        for number, language in enumerate(LANGUAGES[:6]):
            for place, relation in enumerate(relations):
                x, y = centres[place if apart else number] + 0.3 * draws.normal(size=2)
                rows.append((float(x), float(y), language, relation, panel))
    return Points("vectors", "Vectors of relations", *zip(*rows, strict=True), note="t-SNE.")  # type: ignore[arg-type]


def said() -> Texts:
    """Texts of three scripts, and a hostile one."""
    texts = {
        "unedited": "in Shanghai, and it is one of the oldest universities in China. " * 3,
        "factor 4": "the the the the the " + "verylongword" * 20,
        "factor 10": ARABIC,
        "top 3 % set to 0": CHINESE,
        f"hostile {HOSTILE}": f"</blockquote>{HOSTILE} https://example.com/ \x00\x1b[31m \u202e",
    }
    figures = {"unedited": "perplexity 12.1", "factor 10": "perplexity inf"}
    return Texts("said", "What the model says", f"Fudan University is located {HOSTILE}", texts, figures)


def report() -> list[Section]:
    """Five sections that hold every kind of part."""
    facts = {
        "model": "llama-30-languages",
        "seed": 0,
        "tokens": {"en": 12000, "zh": 9000},
        "worst": math.inf,
        "none": None,
    }
    about = "**Regions** are set to zero with `perturb`; what is shown holds for this model only."
    return [
        Section("table", "Top, bottom and random regions", (about,), (table(),), facts, 754.0),
        Section("core", "Where the core lies", (about,), (heat_maps(), removal()), facts, 12.0),
        Section("languages", "Regions of single languages", (about,), (jaccard(),), facts, 9000.0),
        Section("dose", "One dimension at factors from 0 to 10", (about, about), (dose(), said()), facts, 3.2),
        Section("recovery", f"Recovery {HOSTILE}", (f"{HOSTILE} `<b>`",), (recovery(), points()), {HOSTILE: HOSTILE}),
    ]
