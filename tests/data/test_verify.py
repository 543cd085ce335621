from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gss.data.verify import verify_pair, verify_pairs


def test_sound_pairs_pass(write_split, label_space):
    pairs = write_split(count=5)()
    verify_pairs(pairs, label_space)
    assert len(pairs) == 5


def test_labels_of_another_size_are_refused_with_both_sizes(write_split, label_space):
    pairs = write_split()()
    Image.fromarray(np.zeros((24, 31), np.uint8)).save(pairs[2].labels)
    with pytest.raises(ValueError, match=r"2\.png' is 24x31 pixels .*image '.*2\.png' is 24x32"):
        verify_pairs(pairs, label_space)


def test_labels_match_the_upright_size_of_a_turned_image(tmp_path, write_split, label_space):
    pair = write_split(count=1, size=(24, 32))()[0]
    with Image.open(pair.image) as picture:
        turned = picture.transpose(Image.Transpose.ROTATE_90)
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(pair.image, exif=exif)
    assert verify_pair(pair, label_space) is None
    assert turned.size == (24, 32)  # width and height as stored: the other way round than the labels'


def test_undeclared_ids_are_named_with_their_file(write_split, label_space):
    pairs = write_split()()
    Image.fromarray(np.full((24, 32), 9, np.uint8)).save(pairs[1].labels)
    with pytest.raises(ValueError, match=r"1\.png' holds the ids 9, which are not in the class list"):
        verify_pairs(pairs, label_space)


def test_the_first_fault_in_the_listing_is_reported(write_split, label_space):
    pairs = write_split(count=8)()
    for pair in pairs[3:]:
        pair.image.write_bytes(pair.image.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"cannot read image '.*3\.png'"):
        verify_pairs(pairs, label_space)
