"""Validation on several data sets and by condition, in trainings of both stages."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from gss.assembly.artefact import PriorArtefact
from gss.cli.configuration import instantiate
from gss.labels import LabelSpace
from gss.runs.reconstruction import WorstReconstructions


class Loaders(Callback):
    """Keeps which loader each batch came from."""

    def __init__(self):
        self.seen = []

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.seen.append(dataloader_idx)


def counted(samples, predict):
    """mIoU of labels predicted for samples, from sets of pixels."""
    labels = np.stack([sample["labels"] for sample in samples])
    with torch.no_grad():
        predicted = np.stack([predict(sample) for sample in samples])
    guessed, true = predicted[labels != 255], labels[labels != 255]
    both = [((guessed == k) & (true == k)).sum() for k in range(19)]
    either = [((guessed == k) | (true == k)).sum() for k in range(19)]
    return np.mean([hit / union for hit, union in zip(both, either, strict=True) if union])


def test_training_reports_every_set_and_condition(run_tiny, elsewhere, weather, tmp_path, capsys):
    loaders, drawn = Loaders(), ("callbacks=default", "callbacks.panels.num_rows=9")
    run = run_tiny(tmp_path, "stage=conditioning", elsewhere, *drawn, callbacks=(loaders,))
    figures, segmenter = run.figures, run.module.segmenter.eval()
    assert loaders.seen == [0, 0, 0, 1, 1]
    data = instantiate(run.module.record["config"]["data"])
    own, other = (
        [one.dataset("val")[n] for n in range(size)] for one, size in ((data, 3), (data.elsewhere["other"], 2))
    )
    for prefix, samples in (("val", own), ("val/other", other)):
        for readout in ("argmax", "expected", "pixel"):
            expected = counted(samples, lambda sample, by=readout: segmenter(sample["image"][None], by).labels()[0])
            assert figures[f"{prefix}/{readout}/miou"] == pytest.approx(expected, abs=1e-6)
        for place, condition in enumerate(weather):
            expected = counted(
                samples[place::2], lambda sample: segmenter(sample["image"][None], "expected").labels()[0]
            )
            assert figures[f"{prefix}/{condition}/miou"] == pytest.approx(expected, abs=1e-6)
        mean = (figures[f"{prefix}/fog/miou"] + figures[f"{prefix}/night/miou"]) / 2
        assert figures[f"{prefix}/condition_mean"] == pytest.approx(mean, abs=1e-6)
        expected = counted(
            samples, lambda sample: segmenter.autoencoder.reconstruct(sample["labels"][None]).labels()[0]
        )
        assert figures[f"{prefix}/ceiling"] == pytest.approx(expected, abs=1e-6)
        assert {f"{prefix}/boundary_f3", f"{prefix}/iou/road", f"{prefix}/macc", f"{prefix}/aacc"} <= figures.keys()
    both = figures["val/miou"], figures["val/other/miou"]
    assert figures["val/harmonic_mean"] == pytest.approx(2 * both[0] * both[1] / sum(both), abs=1e-6)
    assert not [name for name in figures if "dataloader" in name or "ece" in name]
    said = capsys.readouterr().out
    assert "harmonic_mean" in said
    assert "condition_mean" in said
    assert (tmp_path / "checkpoints" / "best.ckpt").is_file()
    assert len(list((tmp_path / "panels").iterdir())) == 1


def test_other_sets_change_nothing_about_the_own_one(run_tiny, elsewhere, tmp_path):
    alone = run_tiny(tmp_path / "alone", "stage=conditioning", "callbacks=default", "callbacks.panels=null").figures
    among = run_tiny(
        tmp_path / "among", "stage=conditioning", elsewhere, "callbacks=default", "callbacks.panels=null"
    ).figures
    own = [name for name in alone if name.startswith("val/")]
    assert "val/token_accuracy" in own
    assert str([alone[name] for name in own]) == str([among[name] for name in own])  # as text, so that nan equals nan


def test_stage_one_reports_the_ceiling_of_every_set(run_tiny, elsewhere, weather, tmp_path, tiny_prior):
    before = PriorArtefact.load(tiny_prior).ceiling
    run = run_tiny(tmp_path, "stage=prior", elsewhere, f"prior={tmp_path / 'prior.safetensors'}")
    autoencoder, figures = run.module.autoencoder.eval(), run.figures
    data = instantiate(run.module.record["config"]["data"]).elsewhere["other"].dataset("val")

    def reconstruct(sample):
        return autoencoder.reconstruct(sample["labels"][None]).labels()[0]

    assert figures["val/ceiling"] == figures["val/miou"] == before
    assert figures["val/other/ceiling"] == pytest.approx(counted([data[0], data[1]], reconstruct), abs=1e-6)
    assert figures["val/other/night/miou"] == pytest.approx(counted([data[1]], reconstruct), abs=1e-6)
    assert 0 < figures["val/harmonic_mean"] < 1
    assert not math.isnan(figures["val/fog/miou"])


def test_codes_and_outlines_of_stage_one_are_of_the_own_set(run_tiny, elsewhere, tmp_path):
    alone, among = (
        run_tiny(tmp_path / name, "stage=prior", f"prior={tmp_path / name}.safetensors", *more).figures
        for name, more in (("alone", ()), ("among", (elsewhere,)))
    )
    own = ("boundary_f3", "third_class_rate", "codebook_usage", "codebook_perplexity")
    assert [alone[f"val/{name}"] for name in own] == [among[f"val/{name}"] for name in own]


def test_the_worst_reconstructions_are_of_the_own_set():
    labels = torch.zeros(1, 4, 4, dtype=torch.int64)
    batch = {"image": torch.zeros(1, 3, 4, 4), "labels": labels, "name": ["a"], "condition": [""]}
    worst = WorstReconstructions(LabelSpace.from_names(["road", "car"]))
    for number in range(2):
        worst.on_validation_batch_end(None, None, labels, {**batch, "name": [str(number)]}, 0, number)
    assert [one.name for one in worst.worst] == ["0"]


def test_a_name_that_the_log_keys_use_already_is_refused(run_tiny, elsewhere, tmp_path):
    with pytest.raises(ValueError, match=r"data\.elsewhere\.argmax: figures are logged under 'argmax' already"):
        run_tiny(tmp_path, "stage=conditioning", elsewhere.replace("{other:", "{argmax:"))
