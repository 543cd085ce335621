from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from gss.cli.configuration import instantiate
from gss.data.reading import read_labels
from gss.metrics.label_statistics import class_statistics, distances
from gss.runs.label_generator import LabelGenerator, SamplingSettings
from gss.sample import sample
from gss.train import train

CELL = 8  # pixels per token


@pytest.fixture(scope="module")
def token_prior(compose_tiny, tmp_path_factory):
    """A tiny stage-one artefact with a token model: grids of 4x8 tokens, maps of 32x64 pixels."""
    folder = tmp_path_factory.mktemp("token_prior")
    small = ("token_model=masked", "token_model.width=16", "token_model.depth=1", "token_model.max_steps=3")
    given = ("stage=prior", f"prior={folder / 'prior.safetensors'}", *small)
    return train(compose_tiny(folder, *given))["prior"]


@pytest.fixture
def run_sample(compose_run, token_prior, tmp_path):
    """Give a function that draws in this process and returns the folder and what sample.json holds."""

    def run(*overrides, prior=token_prior, output=tmp_path / "drawn"):
        given = [f"prior={prior}", f"output={output}", "steps=3", *overrides]
        result = sample(compose_run(tmp_path / "run", *given, name="sample"))
        written = json.loads((output / "sample.json").read_text())
        assert {**written, "objective": result["objective"]} == result
        return output, written

    return run


def pixels(path):
    return np.asarray(Image.open(path))


def test_drawn_maps_are_those_of_the_prior(run_sample, token_prior):
    output, _ = run_sample("num=5", "seed=3", "temperature=0.8")
    label_generator = LabelGenerator.load(token_prior)
    expected = label_generator.labels(
        label_generator.sample(5, label_generator.random_numbers(3), SamplingSettings(steps=3, temperature=0.8))
    )
    written = [pixels(path) for path in sorted((output / "samples").iterdir())]
    assert (np.stack(written) == expected.numpy()).all()
    assert expected.max() < 19
    colours = instantiate(label_generator.data).label_space.colours
    for labels, path in zip(written, sorted((output / "samples_colour").iterdir()), strict=True):
        assert (pixels(path) == np.array(colours)[labels]).all()


def test_a_seed_decides(run_sample, tmp_path):
    first, again, other = (run_sample("num=2", f"seed={seed}", output=tmp_path / name)[0] for seed, name in SEEDS)
    one, same, another = (pixels(folder / "samples.png") for folder in (first, again, other))
    assert (one == same).all()
    assert one.shape != another.shape or (one != another).any()


SEEDS = ((1, "first"), (1, "again"), (2, "other"))


def test_the_distances_are_those_of_the_maps_that_were_written(run_sample, token_prior):
    output, written = run_sample("num=4")
    datamodule = instantiate(LabelGenerator.load(token_prior).data)
    drawn = torch.from_numpy(np.stack([pixels(path) for path in sorted((output / "samples").iterdir())])).long()
    reference = class_statistics(torch.cat(list(datamodule.label_batches("val"))), 19)
    assert written["distances"]["drawn"] == pytest.approx(distances(class_statistics(drawn, 19), reference))
    real = torch.cat(list(datamodule.label_batches("train")))[[0, 2, 3, 5]]  # spread evenly over six
    assert written["distances"]["real"] == pytest.approx(distances(class_statistics(real, 19), reference))
    assert list(written["distances"]) == [
        "real",
        "real, through tokens",
        "drawn",
        "control: dealt among maps",
        "control: shuffled in each map",
    ]
    assert all(0 <= value <= 1 for row in written["distances"].values() for value in row.values())


def test_validation_maps_are_completed(run_sample, token_prior):
    output, written = run_sample("num=1", "completions=2", "draws=2", "region=[0.25,0.5,0.75,1.0]")
    data = instantiate(LabelGenerator.load(token_prior).data).dataset("val")
    hidden = np.zeros((32, 64), bool)
    hidden[8:24, 32:] = True
    right = []
    for index in (0, 2):  # spread evenly over three
        given = data[index]["labels"].numpy()
        for number in (1, 2):
            labels = pixels(output / "completions" / f"{data[index]['name']}_{number}.png")
            assert (labels == given)[~hidden].all()
            assert (labels[hidden] < 19).all()
            right.append((labels == given)[hidden & (given != 255)])
    assert written["completion"]["completed"] == pytest.approx(np.concatenate(right).mean())
    assert 0 <= written["completion"]["control"] <= 1


def test_tokens_outside_the_region_are_those_of_the_map_with_a_hole(token_prior, monkeypatch, draw_labels):
    label_generator, labels = LabelGenerator.load(token_prior), draw_labels(2, (32, 64), 19)
    erased, seen = label_generator.erased([0.3, 0.0, 0.6, 0.2]), []
    monkeypatch.setattr(
        LabelGenerator, "fill_in", lambda self, tokens, *more: seen.append(tokens) or self.tokens(labels)
    )
    completed = label_generator.complete(labels, erased, label_generator.random_numbers(0), SamplingSettings())
    grown = torch.zeros(4, 8, dtype=torch.bool)
    grown[1:3, :2] = True  # rows 1.2 to 2.4, columns 0 to 1.6: every cell that is touched
    assert erased.equal(grown)
    assert (seen[0] == label_generator.model.mask_token).equal(grown.expand(2, 4, 8))
    assert seen[0][:, ~grown].equal(label_generator.tokens(labels)[:, ~grown])
    hidden = grown.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    assert completed[:, hidden].equal(label_generator.labels(label_generator.tokens(labels))[:, hidden])


def test_nothing_of_what_is_erased_is_seen(token_prior, draw_labels):
    label_generator = LabelGenerator.load(token_prior)
    first = draw_labels(1, (32, 64), 19)
    erased = label_generator.erased([0.25, 0.25, 0.75, 0.75])
    second = torch.where(label_generator.pixels(erased), (first + 1) % 19, first)
    one, other = (
        label_generator.complete(labels, erased, label_generator.random_numbers(0), SamplingSettings(steps=3))
        for labels in (first, second)
    )
    assert one.equal(other)


@pytest.fixture
def label_folder(street_scenes, tmp_path):
    """Two label files of the data set's own ids, one in a subfolder, and a note that is none."""
    source, folder = street_scenes / "gtFine" / "val" / "drawnville", tmp_path / "given"
    (folder / "sub").mkdir(parents=True)
    for number, name in enumerate(("a", "sub/b")):
        file = source / f"drawnville_{number:06d}_000000_gtFine_labelIds.png"
        (folder / f"{name}.png").write_bytes(file.read_bytes())
    (folder / "notes.txt").write_text("not a label map")
    return folder


def test_own_label_maps_are_completed(run_sample, label_folder, token_prior):
    output, written = run_sample(f"input={label_folder}", "region=[0,0,0.5,0.5]", "draws=1")
    label_space = instantiate(LabelGenerator.load(token_prior).data).label_space
    for name in ("a", "sub/b"):
        given = read_labels(label_folder / f"{name}.png", label_space)
        shrunk = np.asarray(Image.fromarray(given).resize((64, 32), Image.Resampling.NEAREST))
        labels = pixels(output / "completions" / f"{name}_1.png")
        assert (labels == shrunk)[16:].mean() > 0.99  # two ways to take the nearest pixel
    assert "distances" not in written
    assert not (output / "samples").exists()


def test_one_map_alone_has_no_control(run_sample, label_folder):
    _, written = run_sample(f"input={label_folder / 'a.png'}")
    assert written["completion"]["control"] is None
    assert 0 <= written["completion"]["completed"] <= 1


def test_sheets_show_every_map(run_sample):
    output, _ = run_sample("num=5", "completions=3", "draws=2")
    for name in ("samples", "completions"):
        sheet = pixels(output / f"{name}.png")
        assert sheet.shape[2] == 3
        assert len(np.unique(sheet.reshape(-1, 3), axis=0)) > 10
    assert math.prod(pixels(output / "completions.png").shape) > 3 * 5 * 32 * 64  # rows of five maps


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num=0", "num=0 must be at least 1"),
        ("draws=0", "draws=0 must be at least 1"),
        ("completions=0", "completions=0 must be at least 1"),
        ("temperature=0.0", r"temperature=0\.0 must be above 0"),
        ("region=[0.5,0.5,0.5,0.9]", r"region=\[0\.5, 0\.5, 0\.5, 0\.9\] is not \[top,left,bottom,right\]"),
        ("region=[0,0,1]", r"region=\[0, 0, 1\] is not \[top"),
        ("region=[0,0,1.5,1]", r"region=\[0, 0, 1\.5, 1\] is not \[top"),
        ("input=nowhere", r"input=nowhere holds no label file \(\.png\)"),
        ("prior=nowhere", r"no stage-one artefact at prior=nowhere"),
        ("device=gpu", "device=gpu is not a device"),
    ],
)
def test_what_cannot_be_is_refused(run_sample, override, message):
    with pytest.raises(ValueError, match=message):
        run_sample(override)


def test_other_data_are_refused_with_both_values(run_sample, street_scenes):
    other = ("data=cityscapes", f"data.root={street_scenes}", "data.size=[64,64]")
    with pytest.raises(ValueError, match=r"maps of 32x64 pixels, but data\.size is \[64, 64\]: set data\.size"):
        run_sample(*other)
    with pytest.raises(
        ValueError, match=r"knows 19 classes and the data set has 2, .*class 0 is 'road' in .* and 'a' in"
    ):
        run_sample("data=folder", "data.root=.", "data.label_space.names=[a,b]", "data.size=[32,64]")


def test_an_artefact_without_a_token_model_says_how_to_get_one(run_sample, tiny_prior):
    with pytest.raises(ValueError, match=r"has no token model to sample from: run .*stage=prior token_model=masked"):
        run_sample(prior=tiny_prior)
