"""Chromium without a window, for the report's tests and its benchmark; it asks no network for anything of its own."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--enable-unsafe-swiftshader",  # WebGL by software
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def missing() -> str:
    """What a machine lacks to start it; empty if nothing."""
    names = ("chromium", "chromedriver")
    lacks = [name for name in names if shutil.which(name) is None]
    try:
        import selenium  # noqa: F401
    except ImportError:
        lacks.append("the package selenium")
    return f"no {' and no '.join(lacks)}" if lacks else ""


@contextmanager
def chromium(width: int = 1280, height: int = 900, theme: str = "light") -> Iterator["Chrome"]:
    """With an empty profile. theme: which the reader prefers. width, height: of the page, in CSS pixels."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for option in (*OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        driver = Chrome(options, Service(shutil.which("chromedriver")))
        try:
            look(driver, width, height, theme)
            yield driver
        finally:
            driver.quit()


def look(driver: "Chrome", width: int, height: int = 900, theme: str = "light") -> None:
    """Change how wide the page is, and which theme the reader prefers."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    preferred = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", preferred)


def brush(driver: "Chrome", axis: int, start: float, end: float) -> None:
    """Drag along an axis of the parallel coordinates. start, end: shares of its height, from above."""
    from selenium.webdriver import ActionChains

    find = "return document.querySelectorAll('.parcoords .axis-brush')[arguments[0]].getBoundingClientRect().toJSON()"
    centre = "document.querySelector('[data-figure=parallel]').scrollIntoView({block: 'center'})"
    driver.execute_script(centre)
    box = driver.execute_script(find, axis)
    x, y = box["x"] + box["width"] / 2, box["y"]
    actions = ActionChains(driver, duration=50)
    pointer: Any = actions.w3c_actions.pointer_action
    pointer.move_to_location(int(x), int(y + start * box["height"]))
    pointer.pointer_down()
    for share in (0.25, 0.5, 0.75, 1.0):
        pointer.move_to_location(int(x), int(y + (start + share * (end - start)) * box["height"]))
    pointer.pointer_up()
    actions.perform()
