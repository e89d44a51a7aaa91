"""The browser is real: it runs scripts, has the size and colours that were asked for, and reaches nothing outside."""

from __future__ import annotations

from pathlib import Path

import pytest
from chrome import DESKTOP, PHONE, Browser, programs
from PIL import Image

PAGE = """<!doctype html><meta charset=utf-8><meta name=viewport content="width=device-width">
<style>body {margin: 0; background: #fff} @media (prefers-color-scheme: dark) {body {background: #102030}}
#wide {width: 700px; height: 2000px}</style>
<p id=said></p><div id=wide></div><script>document.getElementById("said").textContent = 6 * 7</script>"""

SIZE = "return [document.documentElement.clientWidth, screen.height]"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page ü.html"
    path.write_text(PAGE, encoding="utf-8")
    return path


def test_runs_scripts_in_a_window_of_the_size_asked_for(browser: Browser, page: Path) -> None:
    browser.resize(PHONE)
    browser.open(page)
    assert browser.driver.find_element("id", "said").text == "42"
    assert browser.driver.execute_script(SIZE) == [390, 844]
    assert browser.overflow() == 700 - 390
    browser.resize(DESKTOP)
    assert browser.driver.execute_script(SIZE) == [1280, 900]
    assert browser.overflow() == 0
    assert browser.console_errors() == []


def test_a_page_that_phones_shrink_is_too_wide(browser: Browser, page: Path) -> None:
    page.write_text("<!doctype html><p>no viewport tag", encoding="utf-8")
    browser.resize(PHONE)
    browser.open(page)
    assert browser.overflow() == 980 - 390


def test_light_and_dark_are_seen(browser: Browser, page: Path, tmp_path: Path) -> None:
    browser.resize(PHONE)
    browser.open(page)
    for scheme, colour in (("dark", (16, 32, 48)), ("light", (255, 255, 255))):
        browser.color_scheme(scheme)
        with Image.open(browser.screenshot(tmp_path / f"{scheme}.png")) as seen:
            assert seen.size == PHONE
            assert seen.convert("RGB").getpixel((300, 300)) == colour
    with Image.open(browser.screenshot(tmp_path / "whole.png", whole=True)) as seen:
        assert seen.height > 2000


def test_complaints_and_requests_are_told(browser: Browser, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text + '<img src="https://example.com/a.png"><script>throw Error("broken")</script>', encoding="utf-8"
    )
    browser.open(page)
    errors = " ".join(browser.console_errors())
    assert "broken" in errors
    assert "ERR_NAME_NOT_RESOLVED" in errors, "the page reached the network"
    assert browser.console_errors() == []
    assert "https://example.com/a.png" in browser.requested()


def test_programs_that_are_not_here_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME_BIN", raising=False)
    with pytest.raises(FileNotFoundError, match=r"chromium is not installed.*apt-get"):
        programs()
    browser = tmp_path / "mine"
    browser.touch(mode=0o755)
    monkeypatch.setenv("CHROME_BIN", str(browser))
    monkeypatch.setenv("CHROMEDRIVER_PATH", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"CHROMEDRIVER_PATH=.*none is not installed"):
        programs()
    monkeypatch.setenv("CHROMEDRIVER_PATH", str(browser))
    assert programs() == (str(browser), str(browser))
