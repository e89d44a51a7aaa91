"""The page: everything is in it, once, as words where it is words; it loads nothing and runs nobody else's script."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
import report_example

from hf_langcore.report.anchors import anchors
from hf_langcore.report.page import render
from hf_langcore.report.parts import Curves, HeatMap, HeatMaps, Matrix, Points, Section, Spread, Table, Texts

EMPTY = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "circle", "path", "use", "rect"}
LONG = "verylongname" * 17


class Page(HTMLParser):
    """Elements in order, with their attributes, their parents' names and the words right in them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.words: list[list[str]] = []
        self._open: list[int] = []
        self.feed(text)
        self.close()
        assert not self._open, f"left open: {[self.elements[one][0] for one in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        parents = tuple(self.elements[one][0] for one in self._open)
        self.elements.append((tag, {name: value or "" for name, value in attrs}, parents))
        self.words.append([])
        if tag not in EMPTY:
            self._open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in EMPTY:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.elements[self._open[-1]][0] == tag, f"</{tag}> closes {self.elements[self._open[-1]]}"
            self._open.pop()

    def handle_data(self, data: str) -> None:
        for one in self._open:
            self.words[one].append(data)

    def all(self, tag: str, **attributes: str) -> list[int]:
        return [
            number
            for number, (name, given, _) in enumerate(self.elements)
            if name == tag
            and all(value in given.get(key.rstrip("_"), "").split() for key, value in attributes.items())
        ]

    def text(self, number: int) -> str:
        return " ".join("".join(self.words[number]).split())


def _page(*parts: Any, **head: Any) -> Page:
    return Page(render([Section("one", "One", (), parts)], title="T", about={}, **head))


@pytest.fixture(scope="module")
def source() -> str:
    return render(
        report_example.report(), title="Core regions", about={"model": report_example.HOSTILE, "nothing": None}
    )


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_every_section_and_part_is_there_once(page: Page) -> None:
    """By its id, with its title as a heading; all ids are unique, and every link leads somewhere."""
    ids = [given["id"] for _, given, _ in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
    headings = {
        page.elements[number][1].get("id"): page.text(number) for tag in ("h2", "h3") for number in page.all(tag)
    }
    for anchor, section, parts in anchors(report_example.report()):
        assert anchor in ids
        assert headings[f"title:{anchor}"] == section.title
        for name, part in parts:
            assert name in ids
            assert headings[f"title:{name}"] == part.title
    links = [given["href"] for tag, given, _ in page.elements if tag in {"a", "use"}]
    assert len(links) > 30
    assert {link[1:] for link in links} <= set(ids)
    labels = [given["aria-labelledby"] for _, given, _ in page.elements if "aria-labelledby" in given]
    assert set(labels) <= set(ids)


def test_headings_follow_one_another(page: Page) -> None:
    levels = [int(tag[1]) for tag, _, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_nothing_is_loaded_and_no_other_script_may_run(source: str, page: Page) -> None:
    """Also not by what a model wrote: the policy allows one script, by its digest."""
    for tag, given, _ in page.elements:
        assert tag not in {"iframe", "object", "embed", "base", "form"}
        assert tag != "script" or given in ({}, {"type": "application/json", "class": "heat-data"})
        assert not given.get("src")
        assert all(not name.startswith("on") for name in given)
        assert given.get("href", "#").startswith(("#", "data:,"))
    assert [given for tag, given, _ in page.elements if tag in {"img", "link"}] == [{"rel": "icon", "href": "data:,"}]
    policy = next(given["content"] for tag, given, _ in page.elements if given.get("http-equiv"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-")
    style = page.text(page.all("style")[0])
    assert "url(" not in style
    assert "@import" not in style
    assert len(re.findall("https?://", source)) == source.count("https://example.com/") == 1, "words of a model"


def test_what_others_wrote_is_text(source: str, page: Page) -> None:
    """Titles, prompts, names, generations and facts."""
    assert source.count("<script") == 2
    assert "<img" not in source
    hostile = report_example.HOSTILE
    assert any(hostile in page.text(number) for number in page.all("blockquote"))
    assert any(hostile in page.text(number) for number in page.all("h4"))
    assert sum(hostile in page.text(number) for number in page.all("dd")) == 2
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f]", source)
    assert "\ufffd\ufffd[31m" in source


def test_tables_have_captions_heads_and_figures(page: Page) -> None:
    table = page.all("table")[0]
    assert page.text(page.all("caption")[0]) == "Perplexity by language"
    assert [page.text(number) for number in page.all("th", scope="col")[:3]] == ["language", "unedited", "top 3 %"]
    text = page.text(table)
    assert "inf" in text
    assert "geometric mean" in text
    assert re.search(r"18\.20 \(17\.00 to 19\.40\)", text)
    assert len(page.all("tr", class_="total")) == 1
    assert [page.elements[number][1]["role"] for number in page.all("div", class_="scroll")] == ["region"] * 6
    assert {page.elements[number][1]["tabindex"] for number in page.all("div", class_="scroll")} == {"0"}


def test_bars_lie_on_one_logarithmic_axis() -> None:
    table = Table(
        "t", "T", ("l", "a", "b", "c"), (("x", 1.0, 10.0, 5.0), ("y", math.inf, 100.0, None)), log_bars=("a", "b")
    )
    page = _page(table)
    shares = [
        float(re.findall(r"[\d.]+", page.elements[one][1]["style"])[0]) for one in page.all("span", class_="bar")
    ]
    assert len(shares) == 4
    assert shares[2] == 100.0
    assert shares[1] - shares[0] == pytest.approx(shares[3] - shares[1], abs=0.11)
    assert len(page.all("span", class_="infinite")) == 1


def test_figures_have_words_for_those_who_cannot_see(page: Page) -> None:
    """And their lines a legend, and their figures a table."""
    drawings = page.all("div", class_="drawing")
    assert len(drawings) == 3
    assert page.elements[drawings[0]][1]["role"] == "img"
    assert "30 lines (ar, bg" in page.elements[drawings[0]][1]["aria-label"]
    names = [
        page.elements[number][1]["data-line"]
        for number in page.all("button")
        if "data-line" in page.elements[number][1]
    ]
    ids = {given.get("id") for _, given, _ in page.elements}
    assert len(names) == 38
    assert set(names) <= ids
    captions = [page.text(number) for number in page.all("figcaption", class_="legend-words")]
    assert "Dashed line: 15.20. Hollow marks at the edge: infinite." in captions
    assert "Dashed line: 12.00. Bands: interval, or range over seeds." in captions


def test_points_stand_in_panels(page: Page) -> None:
    """One drawing, described in words; a group is set off in all panels at once, by the end of its id."""
    panels = page.all("div", class_="panels")
    assert len(panels) == 1
    assert "In 'after' the nearest point has the same group for 0%" in page.elements[panels[0]][1]["aria-label"]
    assert [page.text(number) for number in page.all("p", class_="panel")] == ["before", "after"]
    ids = [given["id"] for _, given, _ in page.elements if given.get("id", "").endswith(":line-5")]
    assert [one for one in ids if one.startswith("recovery-vectors:")] == [
        "recovery-vectors:line-5",
        "recovery-vectors:1:line-5",
    ]
    titles = [page.text(number) for number in page.all("ul", class_="legend")]
    assert titles[-1] == "ar bg cs da de el"
    assert not _page(Points("p", "P", (1.0,), (1.0,), ("a",))).all("p", class_="panel")


def test_generated_text_is_called_so(page: Page) -> None:
    label = page.all("p", class_="generated-label")
    assert len(label) == 1
    assert page.text(label[0]).startswith("Generated text: written by the model")
    spans = page.all("span", class_="generated")
    assert {page.elements[number][1]["dir"] for number in spans} == {"auto"}
    assert report_example.ARABIC in [page.text(number) for number in spans]
    assert page.text(page.all("p", class_="card-figure")[1]) == "perplexity inf"


def test_a_grid_in_the_order_of_its_tree() -> None:
    values = ((1.0, 0.1, 0.9), (0.1, 1.0, 0.2), (0.9, 0.2, 1.0))
    tree = ((0.0, 2.0, 0.1, 2.0), (3.0, 1.0, 0.9, 3.0))
    page = _page(Matrix("m", "M", ("a", "b", "c"), ("a", "b", "c"), values, "Jaccard", tree=tree))
    assert [page.text(number) for number in page.all("th", scope="row")] == ["a", "c", "b"]
    cells = [
        (page.elements[n][1].get("class"), page.text(n)) for n in page.all("td") if page.elements[n][1].get("title")
    ]
    assert cells[:3] == [("q20", "1.00"), ("q18", ".90"), ("q0", ".10")]
    assert len([one for one in page.elements if one[0] == "path" and "svg" in one[2] and "td" in one[2]]) == 2
    unfit = render(
        [Section("s", "S", (), (Matrix("m", "M", ("a",), ("b",), ((1.0,),), tree=((0.0,),)),))], title="T", about={}
    )
    assert "does not fit its rows" in unfit


def test_heat_maps_carry_their_data(page: Page) -> None:
    """One button for each matrix, and JSON that ends no script."""
    data = json.loads(page.text(page.all("script", class_="heat-data")[0]))
    tiles = page.all("button", class_="tile")
    assert len(tiles) == len(data["maps"]) == 42
    assert page.elements[tiles[6]][1]["aria-label"].startswith(
        "model.layers.0.mlp.down_proj.weight, 192 rows, 512 columns"
    )
    assert page.elements[page.all("div", class_="tiles")[0]][1]["style"] == "--columns:7"
    hostile = _page(HeatMaps("h", "H", (HeatMap("</script><b>", (2, 2), ((0.5,),), (0.5,), (0.5,)),)))
    assert json.loads(hostile.text(hostile.all("script", class_="heat-data")[0]))["maps"][0]["full"] == "</script><b>"
    assert not hostile.all("b")


def test_facts_and_words(page: Page) -> None:
    """Sizes, texts and seeds of each section; paragraphs with code and bold."""
    facts = {page.text(number): page.text(number + 1) for number in page.all("dt")}
    assert facts["tokens"] == "en: 12000; zh: 9000"
    assert facts["worst"] == "inf"
    assert "none" not in facts
    assert "nothing" not in facts
    assert "took 2 h 30 min" in "".join(page.text(number) for number in page.all("summary"))
    assert "perturb" in [page.text(number) for number in page.all("code")]
    assert "Regions" in [page.text(number) for number in page.all("strong")]
    assert not page.all("i", class_="b")


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (Table("t", "", (), ()),),
        (Table("t", "T", ("a", "b"), (("x",), ("y", 1.0, 2.0, 3.0))),),
        (
            Table(
                "t",
                "T",
                ("a", "b"),
                ((LONG, Spread(math.nan, -math.inf, math.inf)), (None, True)),
                LONG,
                ("b", "nowhere"),
            ),
        ),
        (Curves("c", LONG, LONG, LONG, (), {}), Curves("c", "C", "", "", (1.0,), {LONG: (None,)})),
        (
            Curves(
                "c", "C", "x", "y", (1.0, 2.0), {"a": (1.0,), "": (math.nan, math.inf)}, "log", "log", level=math.nan
            ),
        ),
        (Matrix("m", "M", (), (), ()), Matrix("m", "M", (LONG,), (LONG,), ((None,),))),
        (report_example.jaccard([f"language{number}" for number in range(100)]),),
        (
            Points("p", "P", (), (), ()),
            Points("p", LONG, (1.0, math.nan), (math.inf, 1.0), (LONG, ""), (LONG,), (LONG,)),
        ),
        (HeatMaps("h", "H", ()), HeatMaps("h", "H", (HeatMap("", (0, 0), (), (), ()),))),
        (Texts("t", "T", "", {}), Texts("t", "T", LONG, {LONG: LONG, "": ""}, {"nobody": "1"})),
        (Texts("t", "T", "\ud800", {"\udfff": "\ufffe"}),),
    ],
    ids=lambda parts: "-".join(part.kind for part in parts) or "none",
)
def test_nothing_breaks_the_page(parts: tuple[Any, ...]) -> None:
    """Empty, missing, infinite, long: the page is whole, and every part is in it."""
    page = _page(*parts)
    assert len([one for one in page.elements if one[0] == "section" and "part" in one[1]["class"].split()]) == len(
        parts
    )


def test_a_report_of_nothing() -> None:
    assert "no sections" in render([], title="", about={})


def test_size(source: str) -> None:
    """A page with all matrices of a small model stays small."""
    assert len(source.encode()) < 500_000


def test_titles_that_are_equal_keep_apart() -> None:
    """Two sections of one name, and parts whose figures have the same ids inside."""
    section = Section("a", "A", (), (report_example.recovery(), report_example.recovery()))
    page = Page(render([section, replace(section, seconds=1.0)], title="T", about={}))
    ids = [given["id"] for _, given, _ in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
