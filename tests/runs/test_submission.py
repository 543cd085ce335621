"""Submissions, unpacked by zipfile and Pillow: names, ids and sizes as the benchmarks' servers take them."""

from __future__ import annotations

import fnmatch
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from drawn_layouts import TO_TRAIN, draw_acdc, draw_ade20k, draw_cityscapes
from gss.assembly.checkpoints import TrainedSegmenter
from gss.data.cityscapes import LABEL_IDS
from gss.predict import predict
from gss.runs.submission import FORMATS, write_submission
from gss.train import train


@pytest.fixture
def submit(compose_run, tiny_checkpoint, tmp_path):
    """Give a function that makes a submission in this process and returns the zip's path."""

    def run(*overrides, checkpoint=tiny_checkpoint):
        given = [f"checkpoint={checkpoint}", f"output={tmp_path / 'submission'}"]
        result = predict(compose_run(tmp_path / "run", *given, *overrides, name="predict"))
        return result["output"]

    return run


def unpacked(path):
    """Every file of a zip as an array, by name."""
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        assert len(names) == len(set(names))
        pictures = {name: Image.open(io.BytesIO(archive.read(name))) for name in names}
    assert {picture.mode for picture in pictures.values()} == {"L"}
    return {name: np.asarray(picture) for name, picture in pictures.items()}


def predicted(checkpoint, image):
    """Train ids (H, W) of one image by the checkpoint's own policy, whole and at about the trained area."""
    trained = TrainedSegmenter.load(checkpoint)
    image = torch.from_numpy(np.array(Image.open(image).convert("RGB"))).permute(2, 0, 1)[None] / 255

    def segment(shown):
        with torch.no_grad():
            yield "expected", trained.segmenter(shown, "expected").class_probs()

    return trained.inference().labels(segment, image)["expected"][0].numpy()


def test_cityscapes_gets_label_ids_under_city_sequence_and_frame(submit, tiny_checkpoint, tmp_path):
    draw_cityscapes(tmp_path / "cs", {"test": 3})
    found = unpacked(submit("data=cityscapes", f"data.root={tmp_path / 'cs'}", "submission=cityscapes"))
    folder = tmp_path / "cs" / "leftImg8bit" / "test" / "berlin"
    assert len(found) == 3
    for number in range(3):
        frame = f"berlin_{number:06d}_000019"
        (name,) = fnmatch.filter(found, f"{frame}*.png")  # how the official evaluation finds a prediction
        assert set(np.unique(found[name])) <= set(LABEL_IDS.values())
        expected = predicted(tiny_checkpoint, folder / f"{frame}_leftImg8bit.png")
        assert found[name].shape == expected.shape == (16, 32)
        assert (TO_TRAIN[found[name]] == expected).all()


def test_acdc_gets_train_ids_under_the_images_names(submit, tiny_checkpoint, tmp_path):
    draw_acdc(tmp_path / "acdc", {"test": 1})
    found = unpacked(submit("data=acdc", f"data.root={tmp_path / 'acdc'}", "submission=acdc"))
    assert sorted(found) == [
        f"labelTrainIds/{recording}_frame_000000_rgb_anon.png"
        for recording in ("GOPR0122", "GOPR0351", "GOPR0400", "GOPR0475")
    ]
    night = tmp_path / "acdc/rgb_anon/night/test/GOPR0351/GOPR0351_frame_000000_rgb_anon.png"
    assert (found[f"labelTrainIds/{night.name}"] == predicted(tiny_checkpoint, night)).all()


def test_ade20k_gets_ids_from_one_on_under_the_images_names(submit, compose_run, tiny_network, tmp_path):
    draw_ade20k(tmp_path / "ade", {"train": 2, "val": 1, "test": 2})
    data = ("data=ade20k", f"data.root={tmp_path / 'ade'}")
    given = (*tiny_network, *data, "data.size=[32,64]", "maskige=ff_random", f"prior={tmp_path / 'prior.safetensors'}")
    train(compose_run(tmp_path / "one", *given, "stage=prior"))
    kept = ("callbacks=default", "callbacks.panels=null")
    checkpoint = train(compose_run(tmp_path / "two", *given, *kept, "stage=conditioning"))["checkpoint"]
    found = unpacked(submit(*data, "submission=ade20k", checkpoint=checkpoint))
    assert sorted(found) == ["ADE_test_00000001.png", "ADE_test_00000002.png"]
    for name, ids in found.items():
        image = tmp_path / "ade/release_test/testing" / f"{name[:-4]}.jpg"
        assert (ids.astype(int) - 1 == predicted(checkpoint, image)).all()


@pytest.mark.parametrize("name", FORMATS)
def test_every_class_has_the_id_that_label_files_store(name, tmp_path):
    wanted = FORMATS[name]
    num_classes = {"cityscapes": 19, "acdc": 19, "ade20k": 150}[name]
    train_ids = np.arange(num_classes, dtype=np.uint8)[None]
    write_submission(wanted, [("all.png", train_ids)], 1, tmp_path / "all.zip")
    ids = unpacked(tmp_path / "all.zip")["all.png"]
    if name == "cityscapes":
        assert ids[0].tolist() == list(LABEL_IDS.values())
        assert (TO_TRAIN[ids] == train_ids).all()
    elif name == "ade20k":
        assert ids[0].tolist() == list(range(1, 151))
        assert (wanted.label_space.to_train_ids(ids, "all.png") == train_ids).all()
    else:
        assert (ids == train_ids).all()


def test_the_same_labels_give_the_same_bytes(submit, tmp_path):
    draw_cityscapes(tmp_path / "cs", {"test": 2})
    given = ("data=cityscapes", f"data.root={tmp_path / 'cs'}", "submission=cityscapes")
    first, second = (Path(submit(*given)).read_bytes() for _ in range(2))
    assert first == second


def test_windows_and_views_can_be_asked_for(submit, tmp_path):
    draw_cityscapes(tmp_path / "cs", {"test": 1})
    given = ("data=cityscapes", f"data.root={tmp_path / 'cs'}", "submission=cityscapes", "inference=window")
    more = ("inference.window=[16,16]", "inference.step=[8,8]", "inference.flip=true", "readout=pixel")
    (ids,) = unpacked(submit(*given, *more)).values()
    assert ids.shape == (16, 32)


def test_what_the_server_expects_is_said_where_it_is_not_that(submit, tmp_path, capsys):
    draw_cityscapes(tmp_path / "cs", {"test": 2})
    submit("data=cityscapes", f"data.root={tmp_path / 'cs'}", "submission=cityscapes")
    said = capsys.readouterr().out
    assert "submission: 2 label files, 0.0 MB: " in said
    assert "the server expects the 1525 images of its test split" in said


def test_a_broken_image_leaves_no_submission_and_keeps_the_one_before(submit, tmp_path):
    draw_cityscapes(tmp_path / "cs", {"test": 2})
    given = ("data=cityscapes", f"data.root={tmp_path / 'cs'}", "submission=cityscapes")
    before = Path(submit(*given)).read_bytes()
    broken = tmp_path / "cs/leftImg8bit/test/berlin/berlin_000001_000019_leftImg8bit.png"
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"cannot read image '.*berlin_000001_000019_leftImg8bit\.png'"):
        submit(*given)
    assert [path.name for path in (tmp_path / "submission").iterdir()] == ["cityscapes_test.zip"]
    assert (tmp_path / "submission/cityscapes_test.zip").read_bytes() == before


def test_a_file_too_few_is_no_submission(tmp_path):
    labels = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match=r"came out with 1 of 2 files, broken: None; is the disk full\?"):
        write_submission(FORMATS["acdc"], [("a.png", labels)], 2, tmp_path / "few.zip")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("submission=ade20k",), r"submission=ade20k takes the 150 classes of ade20k, but .* knows 19 others"),
        (("submission=kitti",), r"unknown submission='kitti': one of cityscapes, ade20k, acdc"),
        (("submission=acdc", "split=nowhere"), r"no split 'nowhere' in data set 'synthetic'"),
        (("submission=acdc", "input=x"), r"give either input=FOLDER, .* got input=x and submission=acdc"),
        ((), r"give either input=FOLDER, .* got input=None and submission=None"),
        (("submission=cityscapes", "inference.window=[8,8]"), r"inference\.step=\[512, 512\] leaves pixels between"),
        (("submission=acdc", "readout=argmin"), r"unknown readout='argmin': one of pixel, argmax, expected"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(submit, tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        submit(*overrides)
    assert not (tmp_path / "submission").exists()


def test_images_of_other_names_and_of_one_name_are_refused(submit, tmp_path):
    names = "['road','sidewalk','building','wall','fence','pole','traffic light','traffic sign','vegetation','terrain',"
    names += "'sky','person','rider','car','truck','bus','train','motorcycle','bicycle']"
    for folder in ("a", "b"):
        (tmp_path / "own" / "images" / "test" / folder).mkdir(parents=True)
        Image.new("RGB", (32, 16)).save(tmp_path / "own" / "images" / "test" / folder / "one.png")
        (tmp_path / "own" / "labels" / "test" / folder).mkdir(parents=True)
        Image.new("L", (32, 16)).save(tmp_path / "own" / "labels" / "test" / folder / "one.png")
    own = ("data=folder", f"data.root={tmp_path / 'own'}", f"data.label_space.names={names}")
    with pytest.raises(ValueError, match=r"one\.png' is not called CITY_SEQUENCE_FRAME_leftImg8bit\.png"):
        submit(*own, "submission=cityscapes")
    with pytest.raises(ValueError, match=r"a/one\.png' and '.*b/one\.png' would both be submitted as"):
        submit(*own, "submission=acdc")
