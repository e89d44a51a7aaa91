"""The Space in a real browser: what a visitor clicks, reads and sees on a phone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest
from chrome import DESKTOP, PHONE, Browser
from explorer import Explorer
from PIL import Image

pytest.importorskip("gradio", reason="gradio is not installed (the extra 'space')")

APP = Path(__file__).parents[2] / "examples" / "space" / "app.py"
START_SECONDS = 300  # importing torch and gradio on a busy machine
NORM = "model.layers.0.input_layernorm.weight"
TABLE = """return [...document.querySelectorAll("#perplexity .virtual-body [role=row], #perplexity tbody:not(.sizing-body) tr")]
    .map(row => [...row.querySelectorAll("td, [role=gridcell]")].map(cell => cell.innerText.trim()))
    .filter(row => row.length)"""


@pytest.fixture(scope="module")
def space(browser: Browser, space_folders: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the app, which runs in a process of its own; asked for after the browser, so that it may skip."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {f"LANGCORE_SPACE_{name.upper()}": folder for name, folder in space_folders.items()}
    environment.update(HF_HUB_OFFLINE="1", HF_LANGCORE_CACHE=str(tmp_path_factory.mktemp("cache")))
    log = tmp_path_factory.mktemp("log") / "app.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(APP), "--port", str(port)],
            env={**os.environ, **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until_open(f"http://127.0.0.1:{port}/", process, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(20)


def wait_until_open(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    opener, deadline = build_opener(ProxyHandler({})), time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            opener.open(address, timeout=5).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"the app did not open {address}:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")


class Visitor:
    """Somebody who reads labels and clicks."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser, self.driver = browser, browser.driver
        browser.open(address)
        browser.wait().until(lambda driver: driver.find_elements("css selector", "#edit-region, #edit-dimension"))
        self.type("prompt", "The teacher reads")

    def choose(self, text: str) -> None:
        """Click a tab, a radio button or an entry of an open list by what stands on it."""
        places = f"//*[self::button[@role='tab'] or self::label or @role='option'][normalize-space()='{text}']"
        self._click(self.browser.wait().until(lambda driver: driver.find_elements("xpath", places))[0])

    def press(self, button: str) -> None:
        self._click(self.driver.find_element("id", button))

    def _click(self, element: object) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        self.browser.wait().until(lambda _: element.is_displayed() and element.is_enabled())
        element.click()

    def type(self, field: str, text: str) -> None:
        """Replace what stands in a field."""
        place = self._field(field)
        self._click(place)
        self.driver.execute_script("arguments[0].select()", place)
        place.send_keys(text, "\ue004")  # the tabulator key leaves the field

    def value(self, field: str) -> str:
        return str(self._field(field).get_property("value"))

    def _field(self, name: str) -> object:
        return self.driver.find_element("css selector", f"#{name} textarea, #{name} input")

    def message(self) -> str:
        """What a message says that comes up in a corner."""
        script = "return document.querySelector('[data-testid=toast-body]')?.innerText"
        return str(self.browser.wait().until(lambda driver: driver.execute_script(script)))

    def answer(self, start: str) -> tuple[str, str, dict[str, list[str]]]:
        """What stands there once the status begins with `start`: both texts, and the table by language."""
        self.browser.wait().until(lambda driver: driver.find_element("id", "status").text.startswith(start))
        assert "Every bit is restored" in self.driver.find_element("id", "status").text
        self.browser.wait().until(lambda driver: len(driver.execute_script(TABLE)) >= 3)
        table = {row[0]: row[1:] for row in self.driver.execute_script(TABLE)}
        return self.value("before"), self.value("after"), table


def test_a_region_is_edited_and_restored(browser: Browser, space: str, explorer: Explorer) -> None:
    browser.resize(DESKTOP)
    visitor = Visitor(browser, space)
    size = f"{explorer.core_mask.count():,} weights"
    visitor.press("edit-region")
    before, after, table = visitor.answer(size)
    assert before.startswith("The teacher reads")
    assert after != before
    assert set(table) == {"en", "de", "all"}
    assert all(float(cells[1]) > 1.5 * float(cells[0]) for cells in table.values())
    visitor.choose("everything else")
    visitor.choose("multiply")
    visitor.press("edit-region")
    rest = f"{explorer.core_mask.numel() - explorer.core_mask.count():,} weights"
    unchanged, same, table = visitor.answer(rest)
    assert unchanged == same == before, "multiplying by 1 changes nothing"
    assert all(cells == [cells[0], cells[0], "x 1.00"] for cells in table.values())
    assert browser.console_errors() == []
    outside = [address for address in browser.requested() if not address.startswith((space, "data:", "blob:"))]
    assert outside == [], "the page reaches for the network"


def test_one_dimension_times_ten_and_what_is_refused(browser: Browser, space: str) -> None:
    browser.resize(DESKTOP)
    visitor = Visitor(browser, space)
    visitor.choose("Edit one dimension")
    visitor.type("parameter", NORM)
    visitor.type("index", "480")
    visitor.press("edit-dimension")
    said = visitor.message()
    assert "has dimensions 0 to 47 along axis 0, got 480" in said
    assert visitor.value("after") == ""
    visitor.type("index", "3")
    visitor.type("factor", "10")
    visitor.press("edit-dimension")
    _, _, table = visitor.answer("1 weight edited")
    assert all(cells[1] != cells[0] for cells in table.values())


def test_a_found_dimension_fills_the_fields(browser: Browser, space: str, explorer: Explorer) -> None:
    browser.resize(DESKTOP)
    visitor = Visitor(browser, space)
    visitor.choose("Edit one dimension")
    strongest = explorer.core_mask.dimensions(limit=2)[1]
    visitor.type("index", "999")
    visitor._click(visitor._field("found"))
    options = browser.wait().until(lambda driver: driver.find_elements("css selector", "[role=option]"))
    visitor._click(next(one for one in options if f"{strongest.parameter} {strongest.index}:" in one.text))
    browser.wait().until(lambda _: visitor.value("index") == str(strongest.index))
    assert visitor.value("parameter") == strongest.parameter
    visitor.press("edit-dimension")
    visitor.answer(f"{strongest.size:,} weight")


def test_two_visitors_at_once(browser: Browser, space: str, explorer: Explorer) -> None:
    browser.resize(DESKTOP)
    first = Visitor(browser, space)
    windows = [browser.driver.current_window_handle]
    browser.driver.switch_to.new_window("tab")
    windows.append(browser.driver.current_window_handle)
    try:
        second = Visitor(browser, space)
        second.choose("everything else")
        second.press("edit-region")  # and without waiting for the answer
        browser.driver.switch_to.window(windows[0])
        first.press("edit-region")
        before, _, core = first.answer(f"{explorer.core_mask.count():,} weights")
        browser.driver.switch_to.window(windows[1])
        rest = explorer.core_mask.numel() - explorer.core_mask.count()
        also, _, others = second.answer(f"{rest:,} weights")
        assert before == also
        assert core["all"][0] == others["all"][0]
        assert core["all"][1] != others["all"][1]
        browser.driver.close()
    finally:
        browser.driver.switch_to.window(windows[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_on_a_phone(browser: Browser, space: str, explorer: Explorer, tmp_path: Path, scheme: str) -> None:
    browser.resize(PHONE)
    browser.color_scheme(scheme)
    visitor = Visitor(browser, space)
    visitor.press("edit-region")
    visitor.answer(f"{explorer.core_mask.count():,} weights")
    assert browser.overflow() == 0
    with Image.open(browser.screenshot(tmp_path / f"{scheme}.png", whole=True)) as seen:
        grey = seen.convert("L")
        assert seen.width == PHONE[0]
        corner = grey.getpixel((2, 2))
        assert corner > 200 if scheme == "light" else corner < 60
        darkest, lightest = grey.getextrema()
        assert lightest - darkest > 200, "text and ground are hard to tell apart"
    visitor.choose("Edit one dimension")
    browser.wait().until(lambda driver: driver.find_element("id", "edit-dimension").is_displayed())
    assert browser.overflow() == 0
    wide = [
        element.get_attribute("id")
        for element in browser.driver.find_elements("css selector", "#before, #after, #perplexity, #edit-dimension")
        if element.rect["x"] < 0 or element.rect["x"] + element.rect["width"] > PHONE[0]
    ]
    assert wide == []
