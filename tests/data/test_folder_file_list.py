from __future__ import annotations

import pytest

from gss.data.folder import FolderPairs, read_file_list


@pytest.fixture
def root(tmp_path):
    """Give a folder with images a.jpg, b/c.PNG and "d e.jpg", and their labels."""
    for name in (
        "images/a.jpg",
        "images/b/c.PNG",
        "images/d e.jpg",
        "labels/a.png",
        "labels/b/c.png",
        "labels/d e.png",
    ):
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_bytes(b"")
    (tmp_path / "secret.jpg").write_bytes(b"")
    (tmp_path / "root" / "images" / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    return tmp_path / "root"


def listed(root, text, **settings):
    """List by a file list of that text."""
    (root / "splits").mkdir(exist_ok=True)
    (root / "splits" / "val.txt").write_text(text)
    return FolderPairs(root, "images", settings.pop("labels", "labels"), file_list="splits/val.txt", **settings)()


def test_a_list_chooses_and_orders_images(root):
    pairs = listed(root, "b/c.PNG\n\na.jpg\n")
    assert [(pair.name, pair.labels.relative_to(root).as_posix()) for pair in pairs] == [
        ("b/c", "labels/b/c.png"),
        ("a", "labels/a.png"),
    ]


def test_a_second_column_names_the_label_file(root):
    (root / "labels" / "other.tif").write_bytes(b"")
    pairs = listed(root, "a.jpg other.tif\nd e.jpg\tb/c.png\nd e.jpg\t\n")
    assert [pair.labels.relative_to(root).as_posix() for pair in pairs] == [
        "labels/other.tif",
        "labels/b/c.png",
        "labels/d e.png",
    ]
    assert [pair.name for pair in pairs] == ["a", "d e", "d e"]


def test_a_list_may_leave_its_folder_but_not_the_data_set_and_names_stay_inside(root):
    (root / "more").mkdir()
    (root / "more" / "f.jpg").write_bytes(b"")
    pairs = listed(root, "../more/f.jpg a.png\nb/../a.jpg\n")
    assert [(pair.image, pair.name) for pair in pairs] == [
        (root / "more" / "f.jpg", "more/f"),
        (root / "images" / "a.jpg", "a"),
    ]


def test_a_root_that_is_itself_a_link_is_fine(root):
    link = root.parent / "link"
    link.symlink_to(root)
    assert [pair.name for pair in listed(link, "a.jpg\n")] == ["a"]


def test_withheld_labels_need_no_file(root):
    assert [pair.labels for pair in listed(root, "a.jpg\n", labels=None)] == [None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/etc/hostname", r"line 2 of '.*splits/val\.txt' names '/etc/hostname', but paths are relative to '.*images'"),
        (
            "../../secret.jpg",
            r"line 2 of .*val\.txt' names '\.\./\.\./secret\.jpg', which leads to '.*/secret\.jpg', outside",
        ),
        ("../../../../../../../../etc/passwd", r"line 2 .*names '.*etc/passwd', which leads to '/etc/passwd', outside"),
        ("link.jpg", r"line 2 of .* names 'link\.jpg', which leads to '.*/secret\.jpg', outside data\.root '.*root'"),
        ("lost.jpg", r"line 2 of .* names 'lost\.jpg', but there is no file '.*images/lost\.jpg'; add it, or remove"),
        ("a.jpg lost.png", r"line 2 of .* names 'lost\.png', but there is no file '.*labels/lost\.png'"),
        ("a.jpg ../../secret.jpg", r"line 2 of .* names '.*secret\.jpg', which leads to .*outside data\.root"),
        ("d e f.jpg", r"line 2 of .* names 'd', but there is no file"),
        ("a.jpg a.png a.png", r"line 2 of .* has 3 columns, but .*; part them by a tab"),
        ("x" * 5000, r"line 2 of .* names 'x+', but there is no file"),
    ],
)
def test_a_line_that_leads_nowhere_or_outside_is_named(root, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        listed(root, f"b/c.PNG\n{line}\n")
    assert "\n" not in str(caught.value)


def test_a_link_to_itself_is_a_missing_file(root):
    (root / "images" / "loop.jpg").symlink_to(root / "images" / "loop.jpg")
    with pytest.raises(ValueError, match=r"line 1 of .* names 'loop\.jpg', but there is no file"):
        listed(root, "loop.jpg\n")


def test_labels_where_none_are_read_are_a_column_too_many(root):
    with pytest.raises(ValueError, match=r"line 1 of .* has 2 columns"):
        listed(root, "a.jpg a.png\n", labels=None)


def test_an_image_of_the_list_without_labels_is_named(root):
    (root / "labels" / "a.png").unlink()
    with pytest.raises(ValueError, match=r"1 of 1 images have no labels, first '.*a\.jpg'"):
        listed(root, "a.jpg\n")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\n \n", r"the file list '.*list\.txt' names no image"),
        (b"\xff\xd8\xff\xe0", r"cannot read the file list '.*list\.txt' \(.*\); mend its path, or give a text file"),
        (b"a.jpg\0b", r"names no image"),
        (None, r"cannot read the file list '.*list\.txt' \(.*No such file"),
    ],
)
def test_what_is_no_list_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_file_list(tmp_path / "list.txt"))


def test_a_list_written_on_windows_reads_the_same(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\nb.jpg c.png\r\n")
    assert [columns for _, columns in read_file_list(tmp_path / "list.txt")] == [["a.jpg"], ["b.jpg", "c.png"]]
