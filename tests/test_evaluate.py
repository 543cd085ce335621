from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from boundary_reference import boundary_f_scores
from gss.assembly.checkpoints import TrainedSegmenter
from gss.cli.configuration import instantiate
from gss.data.adverse import Adverse
from gss.data.reading import read_image, read_pair_labels
from gss.data.transforms import evaluation_transform
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


def counted(checkpoint, split, readout, samples=None):
    """The same figures, from sets of pixels of the checkpoint's own predictions."""
    trained = TrainedSegmenter.load(checkpoint)
    data = instantiate(trained.config["data"]).dataset(split)
    samples = samples or [data[index] for index in range(len(data))]
    labels = torch.stack([sample["labels"] for sample in samples])
    with torch.no_grad():
        if readout == "ceiling":
            predicted = trained.segmenter.autoencoder.reconstruct(labels).labels()
        else:
            predicted = trained.segmenter(torch.stack([sample["image"] for sample in samples]), readout).labels()
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


def test_drawn_conditions_are_put_on_the_checkpoints_own_data(run_evaluate):
    drawn = ["+data/adverse=drawn", "data.adverse.kinds=[noise]", "data.adverse.strengths=[3]"]
    conditions = run_evaluate(*drawn)["conditions"]
    assert list(conditions) == ["clean", "noise-3"]
    assert conditions["clean"]["miou"] == run_evaluate()["miou"] != conditions["noise-3"]["miou"]


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
        (["readout=argmin"], r"unknown readout='argmin': one of pixel, argmax, expected"),
        (["split=tset"], r"no split 'tset'.*train, val, test"),
        (
            ["data=folder", "data.root=.", "data.label_space.names=[road,car]"],
            r"the checkpoint knows 19 classes and data=folder has 2, .*class 1 is 'sidewalk' in .* and 'car' in",
        ),
        (["data=cityscapes", "data.root=nowhere"], r"nowhere' does not exist.*data\.root"),
    ],
)
def test_what_does_not_fit_is_refused(run_evaluate, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_evaluate(*overrides)


OWN = ("data=synthetic", "data.num_workers=0")


@pytest.fixture
def everywhere(run_evaluate, tiny_scenes, elsewhere, weather):
    """What is measured on the own data set and another, each with fog and night."""
    return run_evaluate(*OWN, *tiny_scenes, elsewhere)


def test_class_probs_are_judged_in_every_readout(run_evaluate, tiny_checkpoint):
    """Against plain loops over the checkpoint's own class_probs."""
    metrics, trained = run_evaluate(), TrainedSegmenter.load(tiny_checkpoint)
    data = instantiate(trained.config["data"]).dataset("val")
    labels = np.stack([data[index]["labels"] for index in range(3)])
    for readout in ("argmax", "expected", "pixel"):
        with torch.no_grad():
            probs = [trained.segmenter(data[index]["image"][None], readout).class_probs()[0] for index in range(3)]
        judged = torch.stack(probs).double().permute(0, 2, 3, 1).numpy()[labels != 255]
        true, found = labels[labels != 255], metrics["readouts"][readout]
        sure, right = judged.max(1), judged.argmax(1) == true
        of_truth = np.maximum(judged[np.arange(len(true)), true], 2.0**-23)
        assert found["nll"] == pytest.approx(-np.log(of_truth).mean(), rel=1e-5)
        assert found["brier"] == pytest.approx(((judged - np.eye(19)[true]) ** 2).sum(1).mean(), rel=1e-5)
        gaps = [abs(sure[bin].sum() - right[bin].sum()) for bin in (np.ceil(15 * sure) == m for m in range(1, 16))]
        assert found["ece"] == pytest.approx(np.sum(gaps) / len(true), rel=1e-3)
        pairs = sure[~right][:, None] - sure[right][None]
        assert found["auroc"] == pytest.approx(((pairs < 0) + 0.5 * (pairs == 0)).mean(), abs=1e-3)
        assert {"boundary_iou", "aupr"} <= found.keys()
    assert {key: metrics[key] for key in ("ece", "nll", "auroc")} == {
        key: metrics["readouts"]["expected"][key] for key in ("ece", "nll", "auroc")
    }


def test_without_conditions_or_other_sets_the_file_has_no_keys_for_them(run_evaluate):
    assert not {"conditions", "condition_mean", "datasets", "harmonic_mean"} & run_evaluate().keys()


def test_a_set_elsewhere_is_scored_as_by_itself(everywhere, run_evaluate, tiny_scenes, weather):
    other = everywhere["datasets"]["other"]
    alone = run_evaluate(*OWN, *tiny_scenes, "split=test")
    assert other == alone
    both = everywhere["miou"], other["miou"]
    assert everywhere["harmonic_mean"] == pytest.approx(2 * both[0] * both[1] / sum(both))


def test_conditions_are_scored_by_themselves_and_their_mean_is_not_the_pooled_figure(everywhere, run_evaluate, weather):
    assert everywhere["conditions"].keys() == set(weather)
    night = everywhere["datasets"]["other"]["conditions"]["night"]
    assert night.keys() == {"miou", "macc", "aacc", "per_class"}
    mean = np.mean([found["miou"] for found in everywhere["conditions"].values()])
    assert everywhere["condition_mean"] == pytest.approx(mean)
    assert everywhere["condition_mean"] != everywhere["miou"]
    assert everywhere["readouts"]["pixel"]["conditions"].keys() == set(weather)


def test_a_table_names_conditions_and_sets(everywhere, capsys, run_evaluate, tiny_scenes, elsewhere):
    capsys.readouterr()
    metrics = run_evaluate(*OWN, *tiny_scenes, elsewhere)
    said = [" ".join(line.strip(" │┃").replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    fog = metrics["conditions"]["fog"]
    assert f"synthetic, fog {fog['miou']:.3f} {fog['macc']:.3f} {fog['aacc']:.3f}" in said
    assert f"synthetic, mean of conditions {metrics['condition_mean']:.3f} - -" in said
    assert any(line.startswith(f"other, pooled {metrics['datasets']['other']['miou']:.3f}") for line in said)
    assert f"harmonic mean of data sets {metrics['harmonic_mean']:.3f} - -" in said


def test_a_set_elsewhere_of_other_classes_is_refused(run_evaluate, tiny_scenes, elsewhere):
    classes = "{_target_: gss.labels.LabelSpace.from_names, names: [road, car]}"
    changed = elsewhere.replace("{_target_: gss.data.cityscapes.cityscapes_labels}", classes)
    with pytest.raises(ValueError, match=r"data\.elsewhere\.other must be another data set of the same classes"):
        run_evaluate(*OWN, *tiny_scenes, changed)


@pytest.fixture
def own_folder(tiny_checkpoint, tmp_path):
    """Give the overrides of a folder with the three drawn scenes, and their pairs."""
    trained = TrainedSegmenter.load(tiny_checkpoint)
    pairs = instantiate(trained.config["data"]).pairs("val")
    for number, pair in enumerate(pairs):
        for folder, pixels in (
            ("images", read_image(pair.image)),
            ("labels", read_pair_labels(pair, trained.label_space)),
        ):
            (tmp_path / folder / "val").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / "val" / f"{number}.png")
    names = ",".join(trained.label_space.names)
    root = [f"data.root={tmp_path}", f"data.label_space.names=[{names}]", "data.size=[32,64]", "data.num_workers=0"]
    return root, [pair._replace(name=str(number)) for number, pair in enumerate(pairs)], trained.label_space


def test_a_folder_is_scored_in_drawn_conditions(run_evaluate, tiny_checkpoint, own_folder):
    """Each image degraded by hand at its own size, reduced and predicted."""
    root, pairs, label_space = own_folder
    few = ["data.adverse.kinds=[night,noise]", "data.adverse.strengths=[1,3]"]
    metrics = run_evaluate("data=folder_adverse", *root, *few)
    assert set(metrics["conditions"]) == {"clean", "night-1", "night-3", "noise-1", "noise-3"}
    for condition, found in metrics["conditions"].items():
        samples = []
        for pair in pairs:
            image = Adverse().degrade(read_image(pair.image), pair._replace(condition=condition))
            seen = evaluation_transform((32, 64))(image=image, mask=read_pair_labels(pair, label_space))
            image, labels = torch.from_numpy(seen["image"]).permute(2, 0, 1) / 255, torch.from_numpy(seen["mask"])
            samples.append({"image": image, "labels": labels.long()})
        assert found["miou"] == pytest.approx(counted(tiny_checkpoint, "val", "expected", samples)["miou"])
    assert metrics["conditions"]["clean"]["miou"] == pytest.approx(run_evaluate()["miou"])
    assert len({found["aacc"] for found in metrics["conditions"].values()}) == 5
