"""Headless Chromium with Debian's driver: a window of any size, light or dark, its screenshots and what it complained about."""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # selenium is loaded where a browser is started: without it, these tests are collected and skipped
    from selenium.webdriver import Chrome
    from selenium.webdriver.support.ui import WebDriverWait

PHONE = (390, 844)
DESKTOP = (1280, 900)
PHONES_UNTIL = 600  # pixels of width
WAIT_SECONDS = 90.0  # how long a page may take; a loaded machine is slow, a right page never waits for it

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # the sandbox does not work for root, and CI often is root
    "--disable-dev-shm-usage",  # containers give /dev/shm 64 MB
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--no-default-browser-check",
    # Nothing may leave the machine: neither the browser's own services nor a page's fonts and scripts.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-sync",
    "--disable-features=Translate,OptimizationHints,MediaRouter,CertificateTransparencyComponentUpdater",
    "--metrics-recording-only",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
)


def programs() -> tuple[str, str]:
    """The paths of the browser and of its driver.

    `CHROME_BIN` and `CHROMEDRIVER_PATH` name others than the ones that are found by name.

    Raises:
        FileNotFoundError: One of them is not here; the message says which.
    """
    return (
        _program("CHROME_BIN", "chromium", "chromium-browser", "google-chrome"),
        _program("CHROMEDRIVER_PATH", "chromedriver"),
    )


def _program(variable: str, *names: str) -> str:
    given = os.environ.get(variable)
    for name in (given,) if given else names:
        if path := shutil.which(name):
            return path
    wanted = f"{variable}={given}" if given else names[0]
    raise FileNotFoundError(f"{wanted} is not installed (Debian: apt-get install chromium chromium-driver)")


class Browser:
    """One browser window.

    Attributes:
        driver: Selenium's driver, for everything that has no method here.
    """

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, address: str | Path) -> None:
        """Loads a page: an address, or a file. What earlier pages complained about is forgotten."""
        self.console_errors()
        self.driver.get(address.resolve().as_uri() if isinstance(address, Path) else address)

    def resize(self, size: tuple[int, int]) -> None:
        """Makes the page's area `size` = (width, height) in CSS pixels, such as `PHONE` and `DESKTOP`.

        The window itself cannot be narrower than 500 pixels; the emulated screen can. Narrow ones behave as a phone: a
        page without a viewport tag is laid out 980 pixels wide and shrunk.
        """
        width, height = size
        screen = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
        screen.update(deviceScaleFactor=1, mobile=width < PHONES_UNTIL)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def color_scheme(self, scheme: Literal["light", "dark"]) -> None:
        """What `prefers-color-scheme` answers from now on."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Writes what is seen as a PNG; `whole` takes the page down to its end."""
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": whole, **self._clip(whole)}
        )
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _clip(self, whole: bool) -> dict[str, object]:
        if not whole:
            return {}
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def console_errors(self) -> list[str]:
        """Errors since the last call: scripts that failed, and files that could not be loaded."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def requested(self) -> list[str]:
        """Addresses that the page has loaded from, itself included."""
        script = "return performance.getEntriesByType('resource').map(entry => entry.name)"
        return [self.driver.current_url, *self.driver.execute_script(script)]

    def overflow(self) -> int:
        """How many pixels the page is wider than the screen; 0 where nobody has to scroll sideways."""
        script = "return Math.max(document.documentElement.scrollWidth, document.body.scrollWidth) - screen.width"
        return int(self.driver.execute_script(script))

    def wait(self, seconds: float = WAIT_SECONDS) -> WebDriverWait[Chrome]:
        """Selenium's wait, asking twenty times a second, also while a script replaces what is asked about."""
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(
            self.driver, seconds, poll_frequency=0.05, ignored_exceptions=[StaleElementReferenceException]
        )


@contextmanager
def started(binary: str, driver: str) -> Iterator[Browser]:
    """A browser with a profile of its own, closed and forgotten at the end."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        options = ChromeOptions()
        options.binary_location = binary
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        # With the driver's path given, selenium does not look for (and download) one; port 0 is any free one.
        chrome = Chrome(options=options, service=ChromeService(executable_path=driver))
        try:
            chrome.set_page_load_timeout(WAIT_SECONDS)
            browser = Browser(chrome)
            browser.resize(DESKTOP)
            browser.color_scheme("light")
            yield browser
        finally:
            chrome.quit()
