"""The page, as text, and in a real browser from the upload to the overlay."""

import base64
import hashlib
import re

import cv2
import numpy as np
import pytest
from browser import browser, fake_camera, needs_browser
from exported import LABELS, photograph, small_folder
from served import serving, wait_until

from ppliteseg_paddle import Predictor


@pytest.fixture(scope="module")
def client():
    with serving(Predictor(small_folder())) as running:
        yield running


def test_the_page_is_one_document_that_loads_nothing_and_its_policy_allows_just_that(client):
    answer = client.get("/")
    page, policy = answer.body.decode(), answer.headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for tag in ("style", "script"):
        [text] = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == "'none'" and rules["connect-src"] == "'self'"
    assert set(re.findall(r"https?://[\w.]+", page)) == {"http://www.w3.org"}  # the name of SVG, which nobody loads
    assert not re.search(r"""\b(?:src|href)=["'](?!data:)|\bon\w+=["']|\bstyle=["']|@import|url\(""", page)


PIXELS = """
const canvas = document.getElementById(arguments[0]);
return canvas.hidden ? null : [canvas.width, canvas.height,
  [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data]];
"""


class Page:
    """The page in a browser."""

    def __init__(self, driver, address):
        self.driver = driver
        driver.get(address)
        wait_until(lambda: "classes" in self.text("model"))

    def element(self, name):
        return self.driver.find_element("id", name)

    def text(self, name):
        return self.element(name).text

    def pixels(self, name):
        """(H, W, 4) RGBA of a canvas; None while it is not shown."""
        found = self.driver.execute_script(PIXELS, name)
        return None if found is None else np.array(found[2], np.uint8).reshape(found[1], found[0], 4)

    def choose(self, path):
        self.element("file").send_keys(str(path))

    def shares(self):
        """{class: text of its share} of the legend, in its order."""
        rows = self.driver.find_elements("css selector", "#legend button")
        return {tuple(row.text.split("\n"))[0]: row.text.split("\n")[1] for row in rows}

    def set_opacity(self, percent):
        self.driver.execute_script(
            "const slider = document.getElementById('opacity'); slider.value = arguments[0]; "
            "slider.dispatchEvent(new Event('input'));",
            percent,
        )

    def complaints(self):
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]


def expected_pixels(mask, hidden=()):
    """What the canvas of a mask holds."""
    drawn = np.dstack([np.array(LABELS.palette, np.uint8)[mask], np.full(mask.shape, 255, np.uint8)])
    drawn[np.isin(mask, list(hidden))] = 0
    return drawn


@needs_browser
@pytest.mark.slow
def test_an_uploaded_image_gets_its_overlay_its_legend_and_its_files(client, tmp_path):
    image = photograph(64, 96)
    cv2.imwrite(str(tmp_path / "street.png"), image)
    mask = client.service.predictor.predict(image)
    with browser(tmp_path) as driver:
        page = Page(driver, f"http://127.0.0.1:{client.port}/")
        page.choose(tmp_path / "street.png")
        wait_until(lambda: page.pixels("mask") is not None)
        np.testing.assert_array_equal(page.pixels("mask"), expected_pixels(mask))
        np.testing.assert_array_equal(page.pixels("picture")[..., 2::-1], image)
        assert (page.text("name"), page.text("size")) == ("street.png", "96 × 64")
        assert float(page.text("latency")) > 0 and float(page.text("rate")) > 0

        counts = np.bincount(mask.ravel(), minlength=LABELS.num_classes)
        ids = [number for number in np.argsort(-counts, kind="stable") if counts[number]]
        names = [LABELS.classes[number].replace("_", " ") for number in ids]
        shares = page.shares()
        assert list(shares) == names
        found = [float(share.rstrip(" %")) for share in shares.values()]
        np.testing.assert_allclose(found, 100 * counts[ids] / mask.size, atol=0.0501)

        page.set_opacity(25)
        assert page.element("mask").value_of_css_property("opacity") == "0.25" and page.text("opacity-value") == "25 %"
        driver.find_element("css selector", f"#legend [data-id='{ids[0]}']").click()
        np.testing.assert_array_equal(page.pixels("mask"), expected_pixels(mask, hidden=[ids[0]]))
        page.element("show-all").click()
        np.testing.assert_array_equal(page.pixels("mask"), expected_pixels(mask))

        for button, name, query in (("save-png", "street-mask.png", "png"), ("save-rle", "street.json", "rle")):
            page.element(button).click()
            wait_until((tmp_path / name).exists)
            sent = client.post_form(
                {"file": ("street.png", (tmp_path / "street.png").read_bytes())}, f"?format={query}"
            )
            assert (tmp_path / name).read_bytes() == sent.body
        assert page.complaints() == []

        (tmp_path / "notes.png").write_text("no image")
        page.choose(tmp_path / "notes.png")
        wait_until(lambda: page.text("error"))
        assert page.text("error").startswith("image notes.png cannot be decoded")
        assert page.pixels("mask") is None and page.element("empty").is_displayed()


BOXES = """
return arguments[0].map((name) => {
  const box = document.getElementById(name).getBoundingClientRect();
  return [box.left, box.top, box.width, box.height];
});
"""


@needs_browser
@pytest.mark.slow
def test_on_a_phone_an_upright_photograph_fills_the_width_and_nothing_is_cut_off(client, tmp_path):
    cv2.imwrite(str(tmp_path / "upright.png"), np.rot90(photograph(96, 128)))
    with browser(tmp_path) as driver:
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        page = Page(driver, f"http://127.0.0.1:{client.port}/")
        page.choose(tmp_path / "upright.png")
        wait_until(lambda: page.pixels("mask") is not None)
        buttons = ["save-png", "save-overlay", "save-rle", "close"]
        (left, top, width, height), *boxes = driver.execute_script(BOXES, ["stage", *buttons])
        assert width > 350 and height == pytest.approx(width * 128 / 96, abs=3)
        assert all(left <= box[0] and box[0] + box[2] <= left + width + 1 for box in boxes)
        assert len({box[1] for box in boxes[:3]}) == 1 and boxes[3][2] == pytest.approx(width, abs=1)
        assert driver.execute_script("return document.documentElement.scrollWidth") == 390
        page.element("close").click()
        assert driver.execute_script(BOXES, ["stage"])[0][3] == pytest.approx(0.75 * width, abs=2)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("source", ["camera", "video"])
def test_the_frames_of_a_camera_and_of_a_video_get_their_masks(client, tmp_path, source):
    frames = [np.roll(photograph(240, 320), 8 * number, axis=1) for number in range(20)]
    flags = fake_camera(tmp_path / "camera.mjpeg", frames) if source == "camera" else ()
    with browser(tmp_path, *flags) as driver:
        page = Page(driver, f"http://127.0.0.1:{client.port}/")
        before = client.service.metrics.images
        if source == "camera":
            page.element("camera").click()
        else:
            page.choose(write_webm(tmp_path / "drive.webm", frames))
        wait_until(lambda: client.service.metrics.images >= before + 5)
        wait_until(lambda: page.text("rate") not in ("", "–"))
        assert page.text("rate-unit") == "frames a second" and page.text("size") == "320 × 240"
        page.element("pause").click()
        assert page.text("pause") == "Resume"
        wait_until(lambda: is_still(page))
        frame, mask = page.pixels("picture"), page.pixels("mask")
        expected = client.service.predictor.predict(np.ascontiguousarray(frame[..., 2::-1]))
        # The frame went through JPEG: classes change where two are nearly alike.
        assert (mask == expected_pixels(expected)).all(axis=2).mean() > 0.8
        assert len(page.shares()) > 2 and page.complaints() == []
        page.element("close").click()
        assert page.element("empty").is_displayed() and page.pixels("mask") is None
        count = client.service.metrics.images
        driver.execute_async_script("setTimeout(arguments[0], 500)")
        assert client.service.metrics.images <= count + 1  # the one that was on its way


def is_still(page):
    """Whether the picture does not change in half a second."""
    before = page.pixels("picture")
    page.driver.execute_async_script("setTimeout(arguments[0], 500)")
    return np.array_equal(before, page.pixels("picture"))


def write_webm(path, frames):
    """VP8, which every browser plays."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"VP80"), 10, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


DRAWN = """
const [planes, height, width, hidden] = arguments;
const mask = {data: Uint8Array.from(planes), height, width, planes: planes.length / height / width, multi: true};
const canvas = document.createElement("canvas");
paintMask(canvas, mask, colors, new Set(hidden));
return [[...canvas.getContext("2d").getImageData(0, 0, width, height).data], areasOf(mask, colors.length)];
"""


@needs_browser
@pytest.mark.slow
def test_a_pixel_of_several_classes_gets_the_mean_of_their_colors(client, tmp_path, rng):
    planes = rng.integers(0, 2, (6, 8, LABELS.num_classes), dtype=np.uint8)
    planes[0] = 0
    with browser(tmp_path) as driver:
        Page(driver, f"http://127.0.0.1:{client.port}/")
        pixels, areas = driver.execute_script(DRAWN, planes.ravel().tolist(), 6, 8, [0])
    found = np.array(pixels, np.uint8).reshape(6, 8, 4)
    seen = planes.copy()
    seen[..., 0] = 0
    counts = seen.sum(axis=2)
    mean = seen @ np.array(LABELS.palette, np.float64) / np.maximum(counts, 1)[..., np.newaxis]
    np.testing.assert_allclose(found[..., :3].astype(float), mean, atol=1)
    np.testing.assert_array_equal(found[..., 3], np.where(counts > 0, 255, 0))
    assert areas == planes.sum(axis=(0, 1)).tolist()
