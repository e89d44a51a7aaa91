"""A report in a real browser: everything is seen, in both themes, on a phone and by keyboard, and nothing is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from chrome import DESKTOP, PHONE, Browser
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "report"))
import report_example

from hf_langcore.report.anchors import anchors
from hf_langcore.report.page import render
from hf_langcore.report.palette import THEMES

SIZES = """return [...document.querySelectorAll(arguments[0])].map((one) => {
  const box = one.getBoundingClientRect(); return [box.width, box.height, one.checkVisibility()]; })"""
PIXELS = """const canvas = arguments[0]; const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set(); for (let n = 0; n < data.length; n += 4) seen.add(data[n] << 16 | data[n + 1] << 8 | data[n + 2]);
  return seen.size"""
AT = """const canvas = arguments[0], pixel = canvas.getContext("2d").getImageData(arguments[1], arguments[2], 1, 1).data;
  return [...pixel].slice(0, 3)"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    path.write_text(render(report_example.report(), title="Core regions", about={"model": "m"}), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _desktop(browser: Browser, page: Path) -> Any:
    """Each test begins with the page in a light desktop window, and nobody's choice of colours."""
    browser.resize(DESKTOP)
    browser.color_scheme("light")
    browser.open(page)
    browser.driver.execute_script("localStorage.clear()")
    browser.open(page)
    yield
    browser.driver.execute_script("localStorage.clear()")
    assert browser.console_errors() == []
    assert browser.requested() == [page.as_uri()]


def _one(browser: Browser, selector: str) -> Any:
    return browser.driver.find_element("css selector", selector)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[place : place + 2], 16) for place in (1, 3, 5))


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_every_figure_and_table_is_seen(browser: Browser, page: Path, size: tuple[int, int]) -> None:
    """With a size, drawn, and without scrolling sideways; nothing that a model wrote has run."""
    browser.resize(size)
    browser.open(page)
    for anchor, _, parts in anchors(report_example.report()):
        for name in (anchor, *(each for each, _ in parts)):
            (box,) = browser.driver.execute_script(SIZES, f"[id='{name}']")
            assert box[0] > 300
            assert box[1] > 100
            assert box[2]
    for selector, count, least in (
        (".drawing svg", 4, 200),
        (".table .scroll table", 1, 300),
        (".grid", 2, 100),
        (".tile canvas", 42, 60),
        (".card", 5, 80),
        (".tree svg", 1, 50),
    ):
        boxes = browser.driver.execute_script(SIZES, selector)
        assert len(boxes) == count, selector
        assert all(box[0] > 40 and box[1] >= least and box[2] for box in boxes), (selector, boxes)
    for canvas in browser.driver.find_elements("css selector", ".tile canvas")[::13]:
        assert browser.driver.execute_script(PIXELS, canvas) > 20
    assert browser.overflow() == 0
    assert browser.driver.execute_script("return window.broken === undefined")


def test_light_and_dark(browser: Browser, page: Path, tmp_path: Path) -> None:
    """As the system asks, or as the button says; also what is drawn: canvases, figures, cells."""
    for scheme, look in THEMES.items():
        browser.color_scheme(scheme)  # type: ignore[arg-type]
        browser.wait().until(
            lambda _, scheme=scheme: _one(browser, "#theme").text == {"light": "Dark", "dark": "Light"}[scheme]
        )
        with Image.open(browser.screenshot(tmp_path / f"{scheme}.png")) as seen:
            assert seen.convert("RGB").getpixel((640, 5)) == _rgb(look.background)
        style = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
        line = browser.driver.execute_script(style, "[id='dose-factors:line-0'] path", "stroke")
        assert line == f"rgb{_rgb(look.series[0])}"
        cell = browser.driver.execute_script(style, ".grid td.q20", "backgroundColor")
        assert cell == f"rgb{_rgb(look.steps[-1])}"
        canvas = _one(browser, ".tile canvas")
        column = int((7.5 / 48) * (120 - 17 - 2))
        assert max(map(abs, _away(browser.driver.execute_script(AT, canvas, column, 60), look.steps[17]))) < 70
    light, dark = (
        Image.open(tmp_path / f"{scheme}.png").convert("L").resize((1, 1)).getpixel((0, 0)) for scheme in THEMES
    )
    assert light > 200
    assert dark < 60


def _away(pixel: list[int], colour: str) -> list[int]:
    return [one - other for one, other in zip(pixel, _rgb(colour), strict=True)]


def test_the_button_wins_over_the_system_and_is_remembered(browser: Browser, page: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    assert browser.driver.execute_script(ground) == f"rgb{_rgb(THEMES['light'].background)}"
    _one(browser, "#theme").click()
    for _ in range(2):
        assert browser.driver.execute_script(ground) == f"rgb{_rgb(THEMES['dark'].background)}"
        assert _one(browser, "#theme").get_attribute("aria-pressed") == "true"
        browser.open(page)
    browser.color_scheme("dark")
    _one(browser, "#theme").click()
    assert browser.driver.execute_script(ground) == f"rgb{_rgb(THEMES['light'].background)}"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_a_matrix_is_enlarged_by_click(browser: Browser, page: Path, size: tuple[int, int], tmp_path: Path) -> None:
    """With profiles and the window of single weights; closed by its button or by a click beside it."""
    browser.resize(size)
    browser.open(page)
    tile, dialog = browser.driver.find_elements("css selector", ".tile")[8], _one(browser, "#zoom")
    assert not dialog.is_displayed()
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", tile)
    tile.click()
    assert dialog.is_displayed()
    assert _one(browser, "[id='zoom:title']").text == "model.layers.1.self_attn.k_proj.weight"
    for selector, least in ((".large", 20), (".detail", 2)):
        canvas = _one(browser, f"#zoom {selector}")
        assert canvas.size["width"] > 250
        assert abs(canvas.size["height"] - canvas.size["width"]) <= 1
        assert browser.driver.execute_script(PIXELS, canvas) >= least
    assert "rows 24 to 71, columns 96 to 143" in _one(browser, ".zoom-detail figcaption").text
    assert dialog.size["width"] <= size[0]
    assert browser.overflow() == 0
    _one(browser, "#zoom .close").click()
    assert not dialog.is_displayed()
    tile.click()
    assert dialog.is_displayed()
    browser.driver.execute_script("arguments[0].click()", dialog)  # what a click on the backdrop is
    assert not dialog.is_displayed()


def test_a_matrix_is_enlarged_by_keyboard(browser: Browser) -> None:
    """Enter opens, arrows turn pages, Escape closes, and the focus is back where it was."""
    from selenium.webdriver.common.keys import Keys

    tile, dialog = browser.driver.find_elements("css selector", ".tile")[0], _one(browser, "#zoom")
    tile.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    active = browser.driver.switch_to.active_element
    assert active.get_attribute("class") == "close"
    assert not _one(browser, ".before").is_enabled()
    active.send_keys(Keys.ARROW_RIGHT)
    assert _one(browser, "[id='zoom:title']").text == "model.layers.0.self_attn.k_proj.weight"
    assert _one(browser, ".before").is_enabled()
    active.send_keys(Keys.ARROW_LEFT)
    active.send_keys(Keys.ARROW_LEFT)
    assert _one(browser, "[id='zoom:title']").text == "model.layers.0.self_attn.q_proj.weight"
    active.send_keys(Keys.ESCAPE)
    assert not dialog.is_displayed()
    assert browser.driver.switch_to.active_element.get_attribute("data-map") == "0"


def test_pointing_at_a_cell_says_its_share(browser: Browser) -> None:
    """Rows and columns of the matrix, not of the picture."""
    from selenium.webdriver import ActionChains

    tile = browser.driver.find_elements("css selector", ".tile")[6]
    browser.driver.execute_script("arguments[0].click()", tile)
    canvas = _one(browser, "#zoom .large")
    size = canvas.size["width"]
    side, top = size * (1120 - 160 - 2) / 1120, size * 162 / 1120
    x, y = side * 13.5 / 48, top + side * 20.5 / 48
    ActionChains(browser.driver).move_to_element_with_offset(canvas, x - size / 2, y - size / 2).perform()
    text = _one(browser, ".zoom-where").text
    assert text.startswith("Rows 80 to 83, columns 138 to 148: ")
    density = report_example.heat_maps().maps[6].density[20][13]
    assert float(text.split(": ")[1].split()[0]) == pytest.approx(100 * density, rel=0.02)


def test_a_line_is_set_off_by_its_name(browser: Browser) -> None:
    """Chosen by click or key, the others step back; chosen again, they are back."""
    from selenium.webdriver.common.keys import Keys

    faded = "return document.querySelectorAll('[id=\"dose-factors\"] .drawing .off').length"
    name = _one(browser, "[data-line='dose-factors:line-4']")
    name.send_keys(Keys.SPACE)
    assert name.get_attribute("aria-pressed") == "true"
    assert browser.driver.execute_script(faded) == 35, "29 lines, and the edges of six of them"
    name.send_keys(Keys.SPACE)
    assert browser.driver.execute_script(faded) == 0


def test_wide_tables_scroll_in_their_own_box(browser: Browser, page: Path) -> None:
    """By keyboard, too: the box takes the focus."""
    browser.resize(PHONE)
    browser.open(page)
    boxes = browser.driver.execute_script(
        "return [...document.querySelectorAll('.scroll')].filter((one) => one.checkVisibility()).map((one) => "
        "[one.clientWidth, one.scrollWidth, one.tabIndex, one.getAttribute('role')])"
    )
    assert [box[2:] for box in boxes] == [[0, "region"]] * 3
    assert all(box[0] <= 390 for box in boxes)
    assert boxes[0][1] > boxes[0][0]
    assert boxes[2][1] > boxes[2][0]


def test_printed_it_is_light_and_whole(browser: Browser, page: Path) -> None:
    """Also from a dark screen: words and grounds are those of paper."""
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.driver.execute_script("document.documentElement.dataset.theme = 'dark'")
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    try:
        ground = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == f"rgb{_rgb(THEMES['light'].background)}"
        assert not _one(browser, "nav").is_displayed()
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
