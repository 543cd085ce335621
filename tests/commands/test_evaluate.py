from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from boundary_reference import boundary_f_scores
from gss.checkpoints import TrainedSegmenter
from gss.configuration import instantiate
from gss.evaluate import evaluate
from gss.train import train


@pytest.fixture
def run_evaluate(compose_run, tiny_checkpoint, tmp_path):
    """Give a function that evaluates the tiny checkpoint in this process and returns what metrics.json holds."""

    def run(*overrides, checkpoint=tiny_checkpoint):
        result = evaluate(compose_run(tmp_path, f"checkpoint={checkpoint}", *overrides, name="evaluate"))
        written = json.loads((tmp_path / "metrics.json").read_text())
        assert {**written, "objective": written["miou"]} == result
        return written

    return run


def counted(checkpoint, split, readout):
    """The same figures, from sets of pixels of the checkpoint's own predictions."""
    trained = TrainedSegmenter.load(checkpoint)
    data = instantiate(trained.config["data"]).dataset(split)
    samples = [data[index] for index in range(len(data))]
    labels = torch.stack([sample["labels"] for sample in samples])
    with torch.no_grad():
        if readout == "ceiling":
            predicted = trained.segmenter.autoencoder.reconstruct(labels).labels
        else:
            predicted = trained.segmenter(torch.stack([sample["image"] for sample in samples]), readout).labels
    guessed, true = predicted[labels != 255].numpy(), labels[labels != 255].numpy()
    per_class = {}
    for k, name in enumerate(trained.label_space.names):
        union = ((guessed == k) | (true == k)).sum()
        per_class[name] = ((guessed == k) & (true == k)).sum() / union if union else None
    recall = [(guessed[true == k] == k).mean() for k in np.unique(true)]
    present = [iou for iou in per_class.values() if iou is not None]
    overall = {"miou": np.mean(present), "macc": np.mean(recall), "aacc": (guessed == true).mean()}
    outlines = boundary_f_scores(predicted, labels, len(per_class), 3)
    return {**overall, "boundary_f3": np.nanmean(outlines), "per_class": per_class}


@pytest.mark.parametrize("readout", ["argmax", "expected", "pixel"])
def test_figures_equal_an_independent_count(run_evaluate, tiny_checkpoint, readout):
    metrics, expected = run_evaluate(f"readout={readout}"), counted(tiny_checkpoint, "val", readout)
    assert metrics["readout"] == readout
    overall = ("miou", "macc", "aacc", "boundary_f3")
    assert {key: metrics[key] for key in overall} == pytest.approx({key: expected[key] for key in overall})
    assert metrics["readouts"][readout]["boundary_f3"] == metrics["boundary_f3"]
    assert metrics["per_class"] == pytest.approx(expected["per_class"])
    assert metrics["ceiling"] == pytest.approx(counted(tiny_checkpoint, "val", "ceiling")["miou"])


def test_the_file_has_the_promised_keys_and_every_readout(run_evaluate):
    metrics = run_evaluate()
    assert {"miou", "macc", "aacc", "ceiling", "readout", "per_class"} <= metrics.keys()
    assert metrics["readout"] == "expected"
    assert metrics["readouts"].keys() == {"argmax", "expected", "pixel"}
    assert metrics["readouts"]["expected"]["miou"] == metrics["miou"]


def test_a_class_that_occurs_nowhere_is_null_and_the_file_is_strict_json(run_evaluate, tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    assert None in run_evaluate()["per_class"].values()
    json.loads((tmp_path / "metrics.json").read_text(), parse_constant=refuse)


def test_another_split_is_another_measurement(run_evaluate, tiny_checkpoint):
    metrics = run_evaluate("split=test")
    assert metrics["miou"] == pytest.approx(counted(tiny_checkpoint, "test", "expected")["miou"])
    assert metrics["miou"] != run_evaluate()["miou"]


def test_the_same_data_elsewhere_give_the_same_figures(run_evaluate, street_scenes, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(street_scenes, elsewhere)
    for path in (elsewhere / "leftImg8bit" / "val").rglob("*_000002_*"):
        path.unlink()  # one scene less, so that it must have been this folder
    changed = ["data=cityscapes", f"data.root={elsewhere}", "data.size=[32,64]"]
    assert run_evaluate(*changed)["miou"] != run_evaluate(f"root={street_scenes}")["miou"] == run_evaluate()["miou"]


def test_a_table_names_every_class(run_evaluate, capsys):
    metrics = run_evaluate()
    said = capsys.readouterr().out
    assert all(name in said for name in metrics["per_class"])
    assert f"{metrics['miou']:.3f}" in said


def test_the_pixel_twin_has_no_ceiling(run_evaluate, compose_tiny, tmp_path):
    kept = ("callbacks=default", "callbacks.panels=null", "max_steps=1", "head=pixel_bilinear")
    twin = train(compose_tiny(tmp_path / "twin", "stage=conditioning", *kept))
    metrics = run_evaluate(checkpoint=twin["checkpoint"])
    assert (metrics["ceiling"], metrics["readout"]) == (None, "pixel")
    assert metrics["miou"] == pytest.approx(twin["val/miou"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["checkpoint=none.ckpt"], r"no checkpoint=none\.ckpt"),
        (["readout=argmin"], r"readout='argmin' is not one of pixel, argmax, expected"),
        (["split=tset"], r"no split 'tset'.*train, val, test"),
        (
            ["data=folder", "data.root=.", "data.label_space.names=[road,car]"],
            r"knows the classes \['road', .*has \['road', 'car'\]",
        ),
        (["data=cityscapes", "data.root=nowhere"], r"nowhere' does not exist.*data\.root"),
    ],
)
def test_what_does_not_fit_is_refused(run_evaluate, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_evaluate(*overrides)
