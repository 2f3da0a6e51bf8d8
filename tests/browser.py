"""A real browser without a window, for tests of pages."""

import contextlib
import shutil

import pytest

BROWSERS, DRIVERS = ("chromium", "chromium-browser", "google-chrome"), ("chromedriver",)
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--window-size=1280,800", "--force-device-scale-factor=1"),
)


def _found(names):
    return next((path for path in map(shutil.which, names) if path), None)


needs_browser = pytest.mark.skipif(not (_found(BROWSERS) and _found(DRIVERS)), reason="Chromium is not installed")


@contextlib.contextmanager
def browser(folder, *flags, dark=False):
    """Chromium with a new profile in `folder`; downloads lie in it, too. Its log has what pages complain of."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = _found(BROWSERS)
    for flag in (*FLAGS, f"--user-data-dir={folder}/profile", *flags, *(("--force-dark-mode",) if dark else ())):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(_found(DRIVERS)))
    try:
        driver.set_page_load_timeout(120)
        yield driver
    finally:
        driver.quit()


def fake_camera(path, frames):
    """Flags for a camera that shows the frames, (H, W, 3) uint8 BGR, again and again."""
    import cv2

    path.write_bytes(b"".join(cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames))  # Motion JPEG
    return (
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        f"--use-file-for-fake-video-capture={path}",
    )
