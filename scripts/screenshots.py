#!/usr/bin/env python3
"""Take the pictures of pages that the documentation shows, by Chromium without a window (see tests/browser.py):

    python scripts/screenshots.py serve           # docs/images/serve.jpg: camvid-t on a generated scene
    python scripts/screenshots.py report DIR ...  # docs/images/report.jpg: numbers and curves of training runs

Only generated scenes may be shown, no photographs of data sets: `ppliteseg data synth` makes them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
IMAGES = ROOT / "docs" / "images"
SIZE, WIDTH = (1280, 960), 1180  # of the window, of the pictures
SCENE = 9  # the seed of the scene that serve shows


def serve() -> None:
    """The page of `serve` with the mask of a generated scene."""
    from browser import browser
    from served import serving, wait_until

    from ppliteseg_paddle import Predictor
    from ppliteseg_paddle.synth.writer import generate

    with tempfile.TemporaryDirectory() as folder, serving(Predictor("camvid-t"), name="camvid-t") as server:
        generate(f"{folder}/scenes", train=1, val=0, size=(960, 720), seed=SCENE, num_workers=1)
        scene = next(Path(folder).glob("scenes/images/*"))
        with browser(Path(folder), "--window-size=1280,900") as driver:
            driver.get(f"http://127.0.0.1:{server.port}/")
            for _ in range(3):  # the first times are those of a cold start
                driver.find_element("id", "file").send_keys(str(scene))
                wait_until(lambda: driver.find_element("id", "name").text == scene.name)
                time.sleep(2)
            save(decoded(driver), "serve.jpg")


def report(folders: Sequence[str]) -> None:
    """The page of `report --runs`: its beginning in light, confidence in dark."""
    from browser import browser

    from ppliteseg_paddle.report.page import write_page
    from ppliteseg_paddle.report.runs import read_runs

    halves = []
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        write_page(str(page), read_runs(folders))
        for scheme, heading in (("light", "Summary"), ("dark", "Confidence")):
            with browser(Path(folder) / scheme, "--window-size=1000,1000", "--hide-scrollbars") as driver:
                features = [{"name": "prefers-color-scheme", "value": scheme}]
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
                driver.get(page.as_uri())
                driver.execute_script(
                    "[...document.querySelectorAll('h2')].find(h => h.textContent === arguments[0]).scrollIntoView()",
                    heading,
                )
                halves.append(decoded(driver))
    save(np.hstack(halves), "report.jpg")


def decoded(driver) -> np.ndarray:
    """What the window shows. Shape: (H, W, 3) uint8, BGR."""
    return cv2.imdecode(np.frombuffer(driver.get_screenshot_as_png(), np.uint8), cv2.IMREAD_COLOR)


def save(picture: np.ndarray, name: str) -> None:
    """Write a picture, at most `WIDTH` wide, into the documentation."""
    height, width = picture.shape[:2]
    size = (WIDTH, round(height * WIDTH / width))
    cv2.imwrite(str(IMAGES / name), cv2.resize(picture, size, interpolation=cv2.INTER_AREA), [1, 80])
    print(f"{IMAGES / name}: {size[0]}x{size[1]}, {(IMAGES / name).stat().st_size / 1000:.0f} kB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", choices=["serve", "report"])
    parser.add_argument("runs", nargs="*", metavar="DIR", help="with report: folders of training runs")
    args = parser.parse_args()
    if args.page == "report" and not args.runs:
        parser.error("report needs folders of training runs")
    serve() if args.page == "serve" else report(args.runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
