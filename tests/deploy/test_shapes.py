import pytest

from ppliteseg_paddle.deploy.shapes import ShapeRange, shape_range
from ppliteseg_paddle.errors import ConfigError

GIVEN = [(1, 3, 256, 256), (1, 3, 512, 1024), (4, 3, 1024, 2048)]


@pytest.mark.parametrize(
    "shapes, shape",
    [
        (GIVEN, (-1, 3, -1, -1)),
        ([(1, 3, 64, 96)] * 3, (1, 3, 64, 96)),
        ([(1, 3, 64, 96), (1, 3, 64, 96), (4, 3, 64, 96)], (-1, 3, 64, 96)),
        ([(4, 3, 64, 96)] * 3, (-1, 3, 64, 96)),  # images come one by one, too
        ([(1, 3, 64, 64), (1, 3, 64, 96), (1, 3, 64, 128)], (1, 3, -1, -1)),
    ],
)
def test_a_graph_leaves_open_what_varies(shapes, shape):
    assert shape_range(shapes).open_shape == shape


def test_a_range_knows_what_it_contains_in_either_layout():
    found = shape_range(GIVEN)
    assert found.contains((4, 3, 1024, 2048)) and found.contains((1, 3, 333, 517))
    assert (
        not found.contains((5, 3, 512, 512))
        and not found.contains((1, 3, 255, 512))
        and not found.contains((1, 512, 512))
    )
    assert found.channels_last().contains((2, 333, 517, 3)) and not found.channels_last().contains((2, 3, 333, 517))


def test_it_survives_being_written_down():
    assert shape_range(shape_range(GIVEN).to_dict()) == shape_range(GIVEN) == ShapeRange(*GIVEN)
    assert shape_range(None) is None


@pytest.mark.parametrize(
    "shapes, words",
    [
        (GIVEN[:2], "give three shapes, MIN OPT MAX, as in 1,3,256,256 1,3,512,1024 4,3,1024,2048"),
        ("abc", "give three shapes"),
        (7, "give three shapes"),
        ({"min": [1, 3, 8, 8]}, "usual shape is None"),
        ([(1, 3, 256), *GIVEN[1:]], "the smallest shape is 1,3,256; give N,3,H,W"),
        ([*GIVEN[:2], (4, 1, 1024, 2048)], "the largest shape is 4,1,1024,2048; give N,3,H,W"),
        ([(0, 3, 256, 256), *GIVEN[1:]], "smallest shape is 0,3,256,256.*at least 1"),
        ([GIVEN[1], GIVEN[0], GIVEN[2]], "H goes 512, 256, 1024, but the usual shape must lie between"),
        ([GIVEN[0], GIVEN[2], GIVEN[1]], "N goes 1, 4, 1"),
    ],
)
def test_shapes_that_cannot_be_are_refused_with_what_is_wrong(shapes, words):
    with pytest.raises(ConfigError, match=words):
        shape_range(shapes)
