from __future__ import annotations

import pytest

from gss.data.folder import FolderPairs


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def test_sub_folders_are_searched_and_pairs_sorted(tmp_path):
    touch(tmp_path, "i/b/2.jpg", "i/b/1.PNG", "i/a.jpeg", "i/notes.txt", "i/.hidden.png")
    touch(tmp_path, "l/b/2.png", "l/b/1.png", "l/a.png", "l/unused.png")
    pairs = FolderPairs(tmp_path, "i", "l")()
    assert [pair.name for pair in pairs] == ["a", "b/1", "b/2"]
    assert [pair.labels.relative_to(tmp_path).as_posix() for pair in pairs] == [
        "l/a.png",
        "l/b/1.png",
        "l/b/2.png",
    ]


def test_endings_may_be_longer_than_a_suffix_and_folders_shared(tmp_path):
    touch(tmp_path, "1_photo.jpg", "1_mask.png", "2_photo.jpg", "2_mask.png")
    pairs = FolderPairs(tmp_path, ".", ".", image_endings=("_photo.jpg",), label_ending="_mask.png")()
    assert [(p.image.name, p.labels.name, p.name) for p in pairs] == [
        ("1_photo.jpg", "1_mask.png", "1"),
        ("2_photo.jpg", "2_mask.png", "2"),
    ]


def test_a_missing_root_says_layout_key_and_origin(tmp_path):
    source = FolderPairs(tmp_path / "nowhere", "images", "labels", origin="get it from the author")
    with pytest.raises(ValueError, match="does not exist") as caught:
        source()
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        f"'{tmp_path / 'nowhere'}'",
        "images/**/*(.jpg|.jpeg|.png)",
        "labels/**/*.png",
        "data.root",
        "author",
    ):
        assert part in message


def test_a_missing_split_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"the folder '.*images.test' does not exist"):
        FolderPairs(tmp_path, "images/test", "labels/test")()


def test_an_empty_split_is_an_error(tmp_path):
    touch(tmp_path, "images/readme.txt")
    with pytest.raises(ValueError, match=r"the split is empty, no image lies in '.*images'.*data\.root"):
        FolderPairs(tmp_path, "images", "labels")()


def test_images_without_labels_are_counted_and_the_first_is_named(tmp_path):
    touch(tmp_path, "i/1.jpg", "i/2.jpg", "i/3.jpg", "l/1.png")
    with pytest.raises(ValueError, match=r"2 of 3 images have no labels, first '.*2\.jpg'.*expected .*l.2\.png'"):
        FolderPairs(tmp_path, "i", "l")()


def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path):
    touch(tmp_path, "secret.png", "root/i/1.png", "root/l/1.png", "root/l/2.png")
    (tmp_path / "root/i/2.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ValueError, match=r"2\.png' leads to '.*secret\.png', outside data\.root"):
        FolderPairs(tmp_path / "root", "i", "l")()


def test_a_path_that_leads_out_of_the_root_is_refused(tmp_path):
    touch(tmp_path, "root/i/1.png", "elsewhere/1.png")
    with pytest.raises(ValueError, match=r"leads to '.*elsewhere.1\.png', outside data\.root"):
        FolderPairs(tmp_path / "root", "i", "../elsewhere")()


def test_a_root_that_is_itself_a_link_is_fine(tmp_path):
    touch(tmp_path, "real/i/1.png", "real/l/1.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert len(FolderPairs(tmp_path / "link", "i", "l")()) == 1
