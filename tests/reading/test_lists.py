"""Lists of images and labels, and of class names: one set of rules for every reader."""

import pytest

from ppliteseg_paddle.errors import DataError
from ppliteseg_paddle.reading.lists import NotTextError, Pair, read_list, read_names

# form -> content of a list of two pairs
FORMS = {
    "blanks": b"a.png b.png\nc.png d.png\n",
    "several blanks": b"a.png   b.png\n  c.png  d.png  \n",
    "tabs": b"a.png\tb.png\nc.png\td.png\n",
    "byte-order mark": b"\xef\xbb\xbfa.png b.png\nc.png d.png\n",
    "Windows line ends": b"a.png b.png\r\nc.png d.png\r\n",
    "no last line end": b"a.png b.png\nc.png d.png",
    "blank lines and comments": b"# image label\n\na.png b.png\n  \n#\nc.png d.png\n\n",
    "old Macintosh line ends": b"a.png b.png\rc.png d.png\r",
    "lists put together": b"\xef\xbb\xbfa.png b.png\n\xef\xbb\xbfc.png d.png\n",
    "UTF-16, as PowerShell writes it": "a.png b.png\r\nc.png d.png\r\n".encode("utf-16"),
    "all of it": b"\xef\xbb\xbf# from Windows\r\na.png\tb.png\r\n\r\nc.png\td.png",
}


@pytest.mark.parametrize("needs_label", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_list_gives_the_same_pairs(tmp_path, form, needs_label):
    (tmp_path / "l.txt").write_bytes(FORMS[form])
    pairs = read_list(str(tmp_path / "l.txt"), "R", needs_label=needs_label)
    assert [pair[:2] for pair in pairs] == [("R/a.png", "R/b.png"), ("R/c.png", "R/d.png")]


def test_lines_keep_their_numbers_and_names_are_relative_to_the_list_by_default(tmp_path):
    (tmp_path / "l.txt").write_text("# comment\n\na.png b.png\n/abs/c.png d.png\n")
    assert read_list(str(tmp_path / "l.txt")) == [
        Pair(str(tmp_path / "a.png"), str(tmp_path / "b.png"), 3),
        Pair("/abs/c.png", str(tmp_path / "d.png"), 4),
    ]


def test_names_hold_blanks_where_a_tab_or_another_separator_parts_them(tmp_path):
    (tmp_path / "tab.txt").write_text("my photo.jpg\tmy label.png\n")
    (tmp_path / "comma.txt").write_text("my photo.jpg, my label.png\n")
    expected = [("R/my photo.jpg", "R/my label.png", 1)]
    assert read_list(str(tmp_path / "tab.txt"), "R") == expected
    assert read_list(str(tmp_path / "tab.txt"), "R", separator="\t") == expected
    assert read_list(str(tmp_path / "comma.txt"), "R", separator=",") == expected


def test_where_labels_are_optional_an_existing_name_with_blanks_is_one_image(tmp_path):
    (tmp_path / "my photo.jpg").write_bytes(b"")
    (tmp_path / "l.txt").write_text("my photo.jpg\na.jpg\na.jpg b.png\n")
    pairs = read_list(str(tmp_path / "l.txt"), needs_label=False)
    assert [pair.image for pair in pairs] == [str(tmp_path / name) for name in ("my photo.jpg", "a.jpg", "a.jpg")]
    assert [pair.label for pair in pairs] == [None, None, str(tmp_path / "b.png")]


def test_a_name_may_begin_with_a_hash(tmp_path):
    (tmp_path / "l.txt").write_text("#1.png #1_label.png\n")
    assert read_list(str(tmp_path / "l.txt"), "R") == [("R/#1.png", "R/#1_label.png", 1)]


@pytest.mark.parametrize(
    "text, options, words",
    [
        ("a.png\n", {}, "l.txt:1: expected 'image label', found 1 field: 'a.png'"),
        ("a b.png c.png\n", {}, "found 3 fields: .*put a tab between image and label"),
        ("a b.png c.png\n", {"needs_label": False}, "expected 'image or image label', found 3 fields"),
        ("a b.png\n", {"separator": "\t"}, r"expected 'image\\tlabel', found 1 field: 'a b.png'. .*separator: \" \""),
        ("a\tb.png\n", {"separator": ","}, r"found 1 field: 'a\\tb.png'. .*write separator: \"\\t\" in"),
        ("a.png,b.png\n", {}, 'write separator: "," in the data set\'s block'),
        ("\n# only\n", {}, "l.txt is empty"),
        ("# x\nnone.png l.txt\n", {"must_exist": True}, "l.txt:2: .*none.png does not exist"),
    ],
)
def test_a_list_that_cannot_serve_is_reported_in_one_line(tmp_path, text, options, words):
    (tmp_path / "l.txt").write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        read_list(str(tmp_path / "l.txt"), **options)
    assert "\n" not in str(caught.value)


def test_backslashes_separate_folders_where_no_file_is_called_so(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a 1.png").write_bytes(b"")
    (tmp_path / "l.txt").write_text("images\\a 1.png\tlabels\\a 1.png\n")
    image, label, _ = read_list(str(tmp_path / "l.txt"))[0]
    assert (image, label) == (str(tmp_path / "images" / "a 1.png"), str(tmp_path / "labels" / "a 1.png"))
    (tmp_path / "odd\\name.png").write_bytes(b"")
    (tmp_path / "l.txt").write_text("odd\\name.png\n")
    assert read_list(str(tmp_path / "l.txt"), needs_label=False)[0].image == str(tmp_path / "odd\\name.png")


def test_where_no_configuration_names_a_separator_the_one_that_finds_an_image_is_taken(tmp_path):
    (tmp_path / "my photo.jpg").write_bytes(b"")
    for separator in "\t,;|":
        (tmp_path / "l.txt").write_text(f"my photo.jpg{separator}my label.png\n")
        assert read_list(str(tmp_path / "l.txt"), needs_label=False)[0].label == str(tmp_path / "my label.png")


def test_a_tab_written_in_single_quotes_of_yaml_is_a_tab(tmp_path):
    (tmp_path / "l.txt").write_text("my photo.jpg\tmy label.png\n")
    assert read_list(str(tmp_path / "l.txt"), "R", separator="\\t") == [("R/my photo.jpg", "R/my label.png", 1)]


def test_only_blanks_and_tabs_separate_so_that_names_may_hold_a_cjk_blank(tmp_path):
    (tmp_path / "l.txt").write_text("\u56fe\u3000\u7247.jpg \u56fe\u3000\u7247.png\n", encoding="utf-8")
    assert read_list(str(tmp_path / "l.txt"), "R") == [("R/\u56fe\u3000\u7247.jpg", "R/\u56fe\u3000\u7247.png", 1)]


@pytest.mark.parametrize("content", ["a.png b.png\n".encode("utf-16-le"), b"\x89PNG\0"])
def test_a_file_that_is_not_utf_8_text_is_refused_as_such(tmp_path, content):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(NotTextError, match="l.txt is not UTF-8 text"):
        read_list(str(tmp_path / "l.txt"))


def test_a_missing_list_is_reported_by_the_name_of_its_flag(tmp_path):
    with pytest.raises(DataError, match="calib_data .*none.txt cannot be read: No such file"):
        read_list(str(tmp_path / "none.txt"), what="calib_data")


def test_class_names_follow_the_same_rules(tmp_path):
    (tmp_path / "c.txt").write_bytes(b"\xef\xbb\xbf# ids 0, 1\r\nroad\r\n\r\ntraffic light\r\n")
    assert read_names(str(tmp_path / "c.txt")) == ["road", "traffic light"]
    (tmp_path / "c.txt").write_text("road\nroad\n")
    with pytest.raises(DataError, match="must name each class once"):
        read_names(str(tmp_path / "c.txt"))
