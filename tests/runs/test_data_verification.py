"""`python -m gss.data verify`: what it prints, writes and ends with."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from drawn_layouts import draw_image, save
from gss.runs.data_verification import verify


@pytest.fixture
def own_data(tmp_path):
    """Two classes in four images, and the words that name them."""
    random = np.random.default_rng(3)
    for split in ("train", "val"):
        for number in range(2):
            draw_image(tmp_path / "own" / "images" / split / f"{number}.png")
            save(
                tmp_path / "own" / "labels" / split / f"{number}.png", random.integers(0, 2, (16, 32)).astype(np.uint8)
            )
    return f"data.root={tmp_path / 'own'}", "data=folder", "data.label_space.names=[road,car]"


@pytest.fixture
def run_verify(compose_run, own_data, tmp_path):
    """Give a function that verifies the data in this process."""

    def run(*overrides):
        return verify(compose_run(tmp_path / "run", *own_data, *overrides, name="verify"))

    return run


def test_sound_data_are_counted_tabled_and_drawn(run_verify, tmp_path, capsys):
    result, said = run_verify(), capsys.readouterr().out
    assert result["exit_code"] == 0
    assert list(result["splits"]) == ["train", "val"]
    assert "test" in result["not_there"]  # declared, and not on the disk
    assert "train: 2 images, 2 label files" in said
    assert "height x width: 16x32 (2)" in said
    assert "no fault was found" in said
    assert json.loads((tmp_path / "run" / "verify.json").read_text()) == result
    with Image.open(tmp_path / "run" / "class_frequencies.png") as picture:
        assert picture.size[0] > 300
    found = result["splits"]["val"]["class_shares"]
    drawn = np.stack([np.asarray(Image.open(path)) for path in (tmp_path / "own" / "labels" / "val").iterdir()])
    assert found["car"] == pytest.approx((drawn == 1).mean())


def test_faults_are_said_with_their_remedy_and_code_1(run_verify, tmp_path, capsys):
    (tmp_path / "own" / "labels" / "train" / "1.png").unlink()
    save(tmp_path / "own" / "labels" / "val" / "0.png", np.full((16, 32), 7, np.uint8))
    result, said = run_verify(), capsys.readouterr().out
    assert (result["exit_code"], result["objective"]) == (1, 2)
    assert "fault: 1 images without labels in train" in said
    assert "fault: 1 label files with undeclared ids in val" in said
    assert "'data.label_space.ignore_ids=[7,255]'" in said  # the exact remedy


def test_one_split_is_looked_into_where_asked(run_verify):
    assert list(run_verify("split=val")["splits"]) == ["val"]
    for words, message in (("split=tset", "split=tset is not a split"), ("split=test", "images/test' does not exist")):
        with pytest.raises(ValueError, match=message):
            run_verify(words)


def test_data_must_be_named(compose_run, tmp_path):
    with pytest.raises(ValueError, match="say data=NAME"):
        verify(compose_run(tmp_path / "run", name="verify"))


@pytest.mark.slow
def test_the_shell_sees_the_code(start, own_data, tmp_path):
    words = ("verify", *own_data)
    assert start("data", *words).returncode == 0
    image = tmp_path / "own" / "images" / "val" / "0.png"
    image.write_bytes(image.read_bytes()[:-30])
    broken = start("data", *words)
    assert broken.returncode == 1
    assert "remedy: unpack or copy these files again" in broken.stdout
    for mistake, message in ((["prepare"], "'prepare' is not one of verify"), (["verify"], "say data=NAME")):
        ended = start("data", *mistake)
        assert ended.returncode == 2
        assert message in ended.stderr
    assert "gss-data VERB" in start("data", "--help").stdout
