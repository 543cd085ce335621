"""Validation at the images' own size, against loops that show, answer and count by themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from gss.assembly.artefact import PriorArtefact
from gss.assembly.checkpoints import TrainedSegmenter
from gss.cli.configuration import instantiate
from gss.evaluate import evaluate

CONDITIONING = (
    "stage=conditioning",
    "callbacks=default",
    "data.native=true",
    "callbacks.panels.num_rows=1",
    "max_steps=1",
)
WINDOWS = ("inference=window", "inference.window=[32,64]", "inference.step=[24,40]", "inference.window_batch=2")


@pytest.fixture(scope="module")
def whole(run_tiny, tmp_path_factory):
    """One step on crops of 32x64, validated on whole scenes of 64x128."""
    return run_tiny(tmp_path_factory.mktemp("whole"), *CONDITIONING)


@pytest.fixture(scope="module")
def windows(run_tiny, tmp_path_factory):
    """The same, validated in windows of the size of the crops."""
    return run_tiny(tmp_path_factory.mktemp("windows"), *CONDITIONING, *WINDOWS)


def scenes(run):
    """The restored segmenter and the images and labels of validation as they lie on disk."""
    trained = TrainedSegmenter.load(run.folder / "checkpoints/last.ckpt")
    data = instantiate(trained.config["data"]).dataset("val", native=True)
    samples = [data[index] for index in range(len(data))]
    assert {tuple(sample["image"].shape) for sample in samples} == {(3, 64, 128)}
    return trained.segmenter, samples


def enlarged(class_probs):
    return interpolate(class_probs, size=(64, 128), mode="bilinear", align_corners=False)


def shown_whole(image):
    return interpolate(image[None], size=(32, 64), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def in_windows(class_probs_of, picture):
    """The plain average over windows of 32x64 that begin at rows 0, 24, 32 and columns 0, 40, 64."""
    total, seen = 0, np.zeros((64, 128))
    for top in (0, 24, 32):
        for left in (0, 40, 64):
            said = class_probs_of(picture[..., top : top + 32, left : left + 64])[0].double().numpy()
            whole = np.zeros((19, 64, 128))
            whole[:, top : top + 32, left : left + 64] = said
            total, seen[top : top + 32, left : left + 64] = total + whole, seen[top : top + 32, left : left + 64] + 1
    return torch.from_numpy(total / seen)[None]


def mean_iou(predicted, labels):
    guessed, true = (np.stack(maps)[np.stack(labels) != 255] for maps in (predicted, labels))
    classes = np.union1d(guessed, true)
    return np.mean([((guessed == k) & (true == k)).sum() / ((guessed == k) | (true == k)).sum() for k in classes])


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
@torch.no_grad()
def test_whole_images_are_answered_at_their_own_size(whole, readout):
    segmenter, samples = scenes(whole)
    predicted = [
        enlarged(segmenter(shown_whole(sample["image"]), readout).class_probs())[0].argmax(0).numpy()
        for sample in samples
    ]
    labels = [sample["labels"].numpy() for sample in samples]
    assert whole.figures[f"val/{readout}/miou"] == pytest.approx(mean_iou(predicted, labels), abs=2e-4)


@torch.no_grad()
def test_the_ceiling_is_of_labels_at_the_size_that_the_network_sees(whole, tiny_prior):
    segmenter, samples = scenes(whole)
    small = [sample["labels"][None, 1::2, 1::2] for sample in samples]
    predicted = [
        enlarged(segmenter.autoencoder.reconstruct(labels).class_probs())[0].argmax(0).numpy() for labels in small
    ]
    ceiling = mean_iou(predicted, [sample["labels"].numpy() for sample in samples])
    assert whole.figures["val/ceiling"] == pytest.approx(ceiling, abs=2e-4)
    assert PriorArtefact.load(tiny_prior).ceiling != whole.figures["val/ceiling"]


@pytest.mark.parametrize("readout", ["pixel", "argmax", "expected"])
@torch.no_grad()
def test_windows_are_averaged_in_class_probs(windows, readout):
    segmenter, samples = scenes(windows)
    predicted = [
        in_windows(lambda shown: segmenter(shown, readout).class_probs(), sample["image"][None])[0].argmax(0).numpy()
        for sample in samples
    ]
    labels = [sample["labels"].numpy() for sample in samples]
    assert windows.figures[f"val/{readout}/miou"] == pytest.approx(mean_iou(predicted, labels), abs=2e-4)


@torch.no_grad()
def test_the_ceiling_goes_through_the_same_windows(windows):
    segmenter, samples = scenes(windows)
    predicted = [
        in_windows(lambda shown: segmenter.autoencoder.reconstruct(shown).class_probs(), sample["labels"][None])
        for sample in samples
    ]
    ceiling = mean_iou([found[0].argmax(0).numpy() for found in predicted], [s["labels"].numpy() for s in samples])
    assert windows.figures["val/ceiling"] == pytest.approx(ceiling, abs=2e-4)


def test_tokens_are_compared_where_the_network_sees_whole_images(whole, windows):
    assert 0 <= whole.figures["val/token_accuracy"] <= 1
    assert "val/token_accuracy" not in windows.figures


def test_panels_are_drawn_of_what_the_network_sees(whole, windows):
    for run in (whole, windows):
        assert (run.folder / "panels" / "step_000001.png").is_file()


def measured(compose_run, folder, run, *overrides):
    checkpoint = f"checkpoint={run.folder / 'checkpoints/last.ckpt'}"
    return evaluate(compose_run(folder, checkpoint, *overrides, name="evaluate"))


def test_evaluation_shows_images_as_training_did_or_as_it_is_told(compose_run, tmp_path, whole, windows):
    own = measured(compose_run, tmp_path / "own", windows)
    assert own["miou"] == pytest.approx(windows.figures["val/miou"])
    assert own["ceiling"] == pytest.approx(windows.figures["val/ceiling"])
    told = measured(compose_run, tmp_path / "told", whole, *WINDOWS)
    assert told["ceiling"] == pytest.approx(own["ceiling"])
    changed = measured(compose_run, tmp_path / "changed", windows, "inference.name=whole", "inference.scale=trained")
    assert changed["ceiling"] == pytest.approx(whole.figures["val/ceiling"])
    several = measured(compose_run, tmp_path / "several", whole, "inference.flip=true", "inference.scales=[0.5,1.0]")
    assert 0 <= several["miou"] <= 1


def test_a_setting_that_does_not_exist_is_named_before_anything_is_measured(compose_run, tmp_path, whole):
    with pytest.raises(ValueError, match=r"unknown inference\.blend='soft': one of uniform, hann, gaussian"):
        measured(compose_run, tmp_path, whole, "inference.blend=soft")


def test_a_checkpoint_from_before_there_was_a_choice_sees_whole_images(tmp_path, whole):
    checkpoint = torch.load(whole.folder / "checkpoints/last.ckpt", weights_only=True)
    del checkpoint["gss"]["config"]["inference"]
    torch.save(checkpoint, tmp_path / "old.ckpt")
    inference = TrainedSegmenter.load(tmp_path / "old.ckpt").inference()
    assert (inference.name, inference.scale, inference.trained, inference.stride) == ("whole", "trained", (32, 64), 8)
    assert inference.sees_whole


def test_stage_one_is_measured_at_the_size_of_its_data(run_tiny, tmp_path):
    priors = [f"prior={tmp_path / name}.safetensors" for name in ("native", "sized")]
    native = run_tiny(tmp_path / "native", "stage=prior", priors[0], "data.native=true")
    sized = run_tiny(tmp_path / "sized", "stage=prior", priors[1])
    assert native.figures["val/ceiling"] == sized.figures["val/ceiling"]
