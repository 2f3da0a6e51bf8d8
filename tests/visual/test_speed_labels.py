from itertools import combinations

import pytest

from ppliteseg_paddle.visual.plots import new_figure
from ppliteseg_paddle.visual.speed import draw, place_labels

# As the paper's Table 2 came out on two cores: pairs at nearly one place, with long names.
POINTS = [
    {"name": name, "fps": fps, "miou": miou, "paper_miou": True}
    for name, fps, miou in (
        ("PP-LiteSeg-T1", 5.55, 73.1),
        ("PaddleSeg's PP-LiteSeg-T1", 4.92, 73.1),
        ("PP-LiteSeg-B1", 3.53, 75.3),
        ("PaddleSeg's PP-LiteSeg-B1", 3.42, 75.3),
        ("PP-LiteSeg-T2", 2.49, 76.0),
        ("PaddleSeg's PP-LiteSeg-T2", 2.2, 76.0),
        ("PP-LiteSeg-B2", 1.48, 78.2),
        ("PaddleSeg's PP-LiteSeg-B2", 1.54, 78.2),
        ("STDC1-Seg50", 3.86, 72.2),
        ("STDC2-Seg50", 3.0, 74.2),
        ("STDC1-Seg75", 1.73, 74.5),
        ("STDC2-Seg75", 1.31, 77.0),
    )
]


def test_no_label_covers_another_or_leaves_its_panel():
    figure = new_figure((6.4, 5.6))
    axis = figure.subplots()
    axis.set_xlim(0, 7.2)
    axis.set_ylim(71.3, 79.1)
    figure.tight_layout()
    texts = place_labels(axis, POINTS)
    assert [text.get_text().splitlines()[0] for text in texts] == [point["name"] for point in POINTS]
    assert len(axis.texts) == len(POINTS)
    renderer, frame = figure.canvas.get_renderer(), axis.get_window_extent()
    boxes = [text.get_window_extent(renderer) for text in texts]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)


@pytest.mark.parametrize("count", [1, 4])
def test_any_number_of_panels_is_drawn(tmp_path, count):
    path = draw(str(tmp_path / "speed.png"), [(f"runtime {i}", POINTS) for i in range(count)], [], "Title")
    assert (tmp_path / "speed.png").read_bytes()[:4] == b"\x89PNG" and path.endswith("speed.png")
