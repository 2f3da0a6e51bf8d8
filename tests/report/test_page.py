"""The page of training runs: its numbers, that it loads nothing, and that no file can put anything into it."""

import base64
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from browser import browser, needs_browser
from run_folder import make_run, write_measured

from ppliteseg_paddle.report.charts import POINTS, Curve, chart, thinned
from ppliteseg_paddle.report.page import picture, render
from ppliteseg_paddle.report.runs import read_runs


class Page(HTMLParser):
    """The tables, tags and attributes of a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.attributes, self.texts, self._cell = [], [], [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        self._cell = tag in ("td", "th") or (self._cell and tag == "span")
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data):
        self.texts.append(data)
        if self._cell:
            self.tables[-1][-1][-1] += data

    def table(self, *header):
        """The rows of the table whose header begins so."""
        return next(rows[1:] for rows in self.tables if rows[0][: len(header)] == list(header))


def page_of(*folders):
    text = render(read_runs([str(folder) for folder in folders]))
    return text, Page(text)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    one = make_run(root / "one", config={"batch_size": 4, "optimizer": {"lr": 0.01}})
    other = make_run(
        root / "two",
        scale=0.5,
        measured=False,
        config={"batch_size": 8, "optimizer": {"lr": 0.01}},
        seed=2,
        finished=False,
    )
    return page_of(one, other)


LAID_OUT = """
const heights = [...document.querySelectorAll("svg text")].map((text) => text.getBoundingClientRect().height);
const table = [...document.querySelectorAll("table")].find((found) => found.querySelector(".bar"));
return [document.documentElement.scrollWidth, Math.min(...heights), table.getBoundingClientRect().right];
"""


@needs_browser
@pytest.mark.slow
def test_on_a_phone_charts_can_be_read_and_the_classes_of_two_runs_fit(two, tmp_path):
    (tmp_path / "report.html").write_text(two[0], "utf-8")
    with browser(tmp_path) as driver:
        metrics = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get((tmp_path / "report.html").as_uri())
        width, smallest, right = driver.execute_script(LAID_OUT)
        assert width == 390 and smallest >= 10 and right <= 390
        assert not [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def test_each_run_is_summed_up_in_a_row(two):
    assert two[1].table("run", "best mIoU, %") == [
        ["one", "50.00", "20", "30.00", "20", "0.6667", "30", "4 min 05 s"],
        ["two (not finished)", "25.00", "20", "15.00", "20", "0.6667", "30", "4 min 05 s"],
    ]
    assert two[1].table("run", "images/s") == [
        ["one", "8", "0.500", "10.0", "4.0"],
        ["two", "8", "0.500", "10.0", "4.0"],
    ]


def test_classes_come_from_val_or_from_the_best_evaluation(two):
    assert two[1].table("class") == [["road", "50.0", "25.0"], ["car", "57.1", "0.0"]]


def test_the_confusion_matrix_has_shares_of_each_labels_pixels(two):
    (matrix,) = [rows for rows in two[1].tables if rows[0] == ["", "road", "car"]]
    assert matrix[1:] == [["road", "75.0", "25.0"], ["car", "33.3", "66.7"]]
    largest = two[1].table("label", "predicted as")
    assert largest == [["car", "road", "33.3", "2"], ["road", "car", "25.0", "1"]]
    command = re.search(r"ppliteseg val --config \S+/two/config.yml --model_path \S+ --save_dir \S+/two/val", two[0])
    assert "/two/best_model/model.pdparams" in command.group()


def test_confidence_is_compared_with_accuracy(two):
    header = ("run", "expected calibration error, %")
    # |0.25 - 0.5| of six pixels, |1 - 0.875| of two
    assert two[1].table(*header) == [["one", "21.88", "59.4", "43.8"]]
    (svg,) = re.findall(r'<svg[^>]*aria-label="reliability diagram".*?</svg>', two[0], re.DOTALL)
    (points,) = [points for points in lines_of(svg, "#3d85c6") if len(points) == 2]
    (diagonal,) = [points for points in lines_of(svg, "var(--muted)") if len(points) == 2]
    origin, scale = diagonal[0], diagonal[1] - diagonal[0]
    np.testing.assert_allclose((points - origin) / scale, [[0.5, 0.25], [0.875, 1.0]], atol=1e-4)


@pytest.mark.parametrize("content", ["[]", '{"bins": 3}', '{"bins": [3, null, {"pixels": "<b>"}]}', "{"])
def test_confidences_that_are_none_are_not_shown(tmp_path, content):
    folder = make_run(tmp_path / "one")
    (folder / "val" / "reliability.json").write_text(content)
    assert "<h2>Confidence" not in page_of(folder)[0]


def test_what_differs_is_told(two):
    keys = {row[0]: row[1:] for rows in two[1].tables if rows[0] == ["", "one", "two"] for row in rows[1:]}
    assert keys["batch_size"] == ["4", "8"] and "optimizer.lr" not in keys
    assert keys["seed"] == ["1", "2"] and keys["paddle"] == ["3.2.2", "3.2.2"]
    assert re.findall(r'<tr class="differs"><td>(\w+)</td>', two[0]) == ["seed", "batch_size"]


def test_images_are_those_of_val_where_they_exist(two):
    headings = re.findall(r"<figcaption>(.*?)</figcaption><img", two[0])
    assert headings == ["worst images", "best images", "first: iteration 10", "best: iteration 20"]
    grays = []
    for content in re.findall(r'src="data:image/webp;base64,([^"]+)"', two[0]):
        pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
        grays.append(round(float(pixels.mean())))
    assert grays == pytest.approx([30, 40, 10, 20], abs=2)
    assert two[1].table("image", "mIoU, %") == [["b.png", "12.5", "50.0"], ["a.png", "75.0", "87.5"]]


def loads_nothing(text, page):
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    places = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert all(value.startswith(("data:image/", "#")) for value in places), places
    assert re.findall(r"url\((?!#)", text) == [] and "@import" not in text
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in text


def test_the_page_loads_nothing(two):
    loads_nothing(*two)
    assert "prefers-color-scheme: dark" in two[0] and "@media print" in two[0]


def test_no_text_of_a_file_becomes_a_part_of_the_page(tmp_path):
    evil = "</title></style><script>alert(1)</script><img src=x onerror=alert(1)>\"'$a$b{{7*7}}"
    folder = make_run(
        tmp_path / "<b>run",
        classes=(evil, evil + "2"),
        config={evil: evil},
        device=evil,
        versions={evil: evil},
        seed={"a": evil},
    )
    folder.joinpath("val", "images.json").write_text(
        f'{{"images": [{{"image": "{"<script>"}", "mIoU": 0.5}}], "class_names": []}}'
    )
    text, page = page_of(folder)
    loads_nothing(text, page)
    assert "b" not in page.tags and page.tags.count("img") == 2 and page.tags.count("title") == 1
    assert page.table("class")[0][0] == evil and any(evil in part for part in page.texts)


def test_a_file_that_is_no_picture_is_omitted(tmp_path):
    folder = make_run(tmp_path / "one")
    (folder / "val" / "worst_images.png").write_bytes(b"<svg onload=alert(1)>")
    assert "worst images</figcaption>" not in page_of(folder)[0]
    assert picture(str(tmp_path / "absent.png")) is None


def test_many_classes_are_a_picture_of_the_matrix(tmp_path):
    folder = make_run(tmp_path / "one", measured=False)
    counts = np.diag(np.full(40, 3))
    counts[5, 7] = 1
    write_measured(folder / "val", [f"class {i}" for i in range(40)], counts.tolist())
    (content,) = re.findall(r'class="pixels"[^>]*base64,([^"]+)"', page_of(folder)[0])
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (40, 40, 3) and tuple(pixels[0, 1]) == (255, 255, 255)
    assert tuple(pixels[0, 0]) == (176, 90, 31) and tuple(pixels[5, 7]) == (235, 214, 199)  # all, and a quarter


def test_a_run_that_has_just_begun_has_a_page(tmp_path):
    folder = make_run(tmp_path / "one", measured=False, train=[], eval=[], class_names=[], finished=False)
    text, page = page_of(folder)
    assert page.table("run", "best mIoU, %") == [["one (not finished)", "–", "–", "–", "–", "–", "0", "4 min 05 s"]]
    assert "svg" not in page.tags and "<h2>IoU by class" not in text


# --------------------------------------------------------------------------------------------
# Charts
# --------------------------------------------------------------------------------------------
def lines_of(svg, color):
    """The points of each path of a color."""
    drawing = ElementTree.fromstring(svg.replace("xlink:", ""))  # noqa: S314 - drawn here
    paths = drawing.iter("{http://www.w3.org/2000/svg}path")
    found = [path.get("d") for path in paths if f"stroke: {color}" in path.get("style", "") and "L" in path.get("d")]
    return [np.array(re.findall(r"[ML] (\S+) (\S+)", d), float) for d in found]


def test_a_chart_places_values_where_they_belong():
    svg = chart([Curve([0, 10, 30], [0.0, 0.5, 0.25], "#3d85c6")], "mIoU", percent=True)
    (points,) = lines_of(svg, "#3d85c6")
    across, down = points[:, 0] - points[0, 0], points[0, 1] - points[:, 1]
    assert across[2] == pytest.approx(3 * across[1], rel=1e-4) and down[1] == pytest.approx(2 * down[2], rel=1e-4)
    assert "var(--line)" in svg and "#0102" not in svg and 'aria-label="mIoU"' in svg
    assert [float(text) for text in re.findall(r">(\d+)</text>", svg)][:4] == [0, 5, 10, 15]


def test_losses_of_which_one_towers_are_logarithmic():
    svg = chart([Curve([1, 2, 3], [1000.0, 1.0, 0.1], "#3d85c6")], "loss")
    (points,) = lines_of(svg, "#3d85c6")
    steps = np.diff(points[:, 1])
    assert steps[0] == pytest.approx(3 * steps[1], rel=1e-3)


def test_long_curves_keep_their_ends_and_a_thousand_points():
    x, y = thinned(Curve(list(range(50_000)), [float(i) for i in range(50_000)], "#000"))
    assert len(x) == POINTS and (x[0], x[-1], y[-1]) == (0, 49_999, 49_999.0)
    assert chart([Curve([], [], "#000")], "loss") == ""
