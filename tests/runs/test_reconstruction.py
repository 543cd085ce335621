from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from boundary_reference import boundary_f_scores
from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.assembly.checkpoints import TrainedSegmenter
from gss.cli.configuration import instantiate
from gss.evaluate import evaluate
from gss.train import train


@pytest.fixture(scope="module")
def run_reconstruction(compose_run, tmp_path_factory):
    """Give a function that measures a stage one in this process: its folder and what metrics.json holds."""

    def run(*overrides):
        folder = tmp_path_factory.mktemp("reconstruction")
        result = evaluate(compose_run(folder, "mode=reconstruction", *overrides, name="evaluate"))
        written = json.loads((folder / "metrics.json").read_text())
        assert {**written, "objective": written["ceiling"]} == result
        return folder, written

    return run


@pytest.fixture(scope="module")
def measured(run_reconstruction, tiny_prior):
    """The tiny artefact on its own validation labels."""
    return run_reconstruction(f"prior={tiny_prior}")


@pytest.fixture(scope="module")
def truth(tiny_prior):
    """Validation samples, and tokens and labels of the artefact's own reconstruction, all at once."""
    artefact = PriorArtefact.load(tiny_prior)
    data = instantiate(artefact.description["data_settings"]).dataset("val")
    samples = [data[index] for index in range(len(data))]
    labels, autoencoder = torch.stack([sample["labels"] for sample in samples]), load_autoencoder(artefact)
    return samples, labels, autoencoder.encode(labels), autoencoder.reconstruct(labels).labels(), autoencoder


def iou_by_class(predicted, labels, num_classes=19):
    """From sets of pixels; None for a class that is nowhere."""
    guessed, true = predicted[labels != 255].numpy(), labels[labels != 255].numpy()
    unions = [((guessed == k) | (true == k)).sum() for k in range(num_classes)]
    return [((guessed == k) & (true == k)).sum() / unions[k] if unions[k] else None for k in range(num_classes)]


def mean_of(values):
    return np.mean([value for value in values if value is not None])


def test_scores_are_those_of_pixel_sets(measured, truth):
    (_, metrics), (_, labels, _, predicted, _) = measured, truth
    per_class = iou_by_class(predicted, labels)
    assert list(metrics["per_class"].values()) == pytest.approx(per_class)
    assert metrics["ceiling"] == pytest.approx(mean_of(per_class))
    labelled = labels != 255
    recall = [(predicted[labels == k] == k).double().mean().item() for k in labels[labelled].unique()]
    assert metrics["macc"] == pytest.approx(np.mean(recall))
    assert metrics["aacc"] == pytest.approx((predicted == labels)[labelled].double().mean().item())
    assert metrics["mode"] == "reconstruction"


def test_the_ceiling_is_the_one_that_the_artefact_carries(measured, tiny_prior):
    artefact = PriorArtefact.load(tiny_prior)
    assert measured[1]["ceiling"] == pytest.approx(artefact.ceiling, abs=1e-6)
    assert measured[1]["boundary_f3"] == pytest.approx(artefact.boundary_f3, abs=1e-6)


def test_boundaries_are_those_of_all_pairs_of_pixels(measured, truth):
    (_, metrics), (_, labels, _, predicted, _) = measured, truth
    expected = boundary_f_scores(predicted, labels, num_classes=19, tolerance=3)
    assert metrics["boundary_f3"] == pytest.approx(np.nanmean(expected))
    known = [None if np.isnan(value) else value for value in expected]
    assert list(metrics["boundary_f3_per_class"].values()) == pytest.approx(known)
    assert list(metrics["boundary_f3_per_class"]) == list(metrics["per_class"])


def test_third_classes_are_those_of_a_loop_over_pixels(measured, truth):
    (_, metrics), (_, labels, _, predicted, _) = measured, truth
    band = third = 0
    for picture, y, x in np.ndindex(*labels.shape):
        square = labels[picture, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
        classes = set(square.flatten().tolist()) - {255}
        if labels[picture, y, x] != 255 and len(classes) > 1:
            band, third = band + 1, third + (int(predicted[picture, y, x]) not in classes)
    assert metrics["third_class_rate"] == pytest.approx(third / band)


def test_codes_are_counted_where_there_are_labels(measured, truth):
    (_, metrics), (_, labels, tokens, _, autoencoder) = measured, truth
    cells = (labels != 255).unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).any(4).any(2)  # stride 8
    _, counts = np.unique(tokens[cells].numpy(), return_counts=True)
    share = counts / counts.sum()
    assert metrics["vocab_size"] == autoencoder.tokenizer.vocab_size
    assert metrics["codebook_usage"] == pytest.approx(len(counts) / metrics["vocab_size"])
    assert metrics["codebook_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_closest_pair_is_that_of_all_colours_and_black(measured, tiny_prior):
    colours = PriorArtefact.load(tiny_prior).state["transform.colours"].numpy() * 255
    colours = np.vstack([colours, np.zeros(3)])
    apart = np.sqrt(((colours[:, None] - colours[None]) ** 2).sum(-1)) + 1e9 * np.eye(len(colours))
    names, pair = [*measured[1]["per_class"], "ignored"], measured[1]["closest_pair"]
    assert pair["distance"] == pytest.approx(apart.min(), abs=1e-3)
    assert apart[tuple(names.index(name) for name in pair["names"])] == pytest.approx(apart.min(), abs=1e-3)


def picture(folder, name):
    return np.asarray(Image.open(folder / f"{name}.png").convert("RGB"))


def test_the_palette_shows_every_colour(measured, tiny_prior):
    pixels = picture(measured[0], "palette")
    colours = (PriorArtefact.load(tiny_prior).state["transform.colours"] * 255).round().int().tolist()
    for colour in [*colours, [0, 0, 0]]:
        assert (pixels == colour).all(-1).sum() >= 140 * 80  # a swatch


def places(pixels, wanted):
    """(top, left) of every place where a picture stands in another pixel for pixel."""
    height, width = wanted.shape[:2]
    starts = np.argwhere((pixels == wanted[0, 0]).all(-1)).tolist()
    return [(y, x) for y, x in starts if np.array_equal(pixels[y : y + height, x : x + width], wanted)]


def enlarged(image, factor):
    """An image (3, H, W) float in [0, 1] as pixels, each of them a square."""
    return (image.permute(1, 2, 0) * 255).round().int().numpy().repeat(factor, 0).repeat(factor, 1)


def test_the_codebook_begins_with_what_is_used_most(measured, truth):
    pixels, (_, labels, tokens, _, autoencoder) = picture(measured[0], "codebook"), truth
    cells = (labels != 255).unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).any(4).any(2)  # stride 8
    counts = torch.bincount(tokens[cells], minlength=autoencoder.tokenizer.vocab_size)
    order = counts.argsort(descending=True, stable=True)
    tiles = [autoencoder.decode(order[rank].expand(1, 1, 1)).maskige()[0] for rank in (0, 1, 2, -1)]
    found = [places(pixels, enlarged(tile, 4))[0] for tile in tiles]
    assert found == sorted(found)
    assert len(set(found)) == 4


def test_the_worst_label_map_comes_first(measured, truth):
    samples, labels, _, predicted, _ = truth
    own = [mean_of(iou_by_class(*pair)) for pair in zip(predicted, labels, strict=True)]
    pixels = picture(measured[0], "worst_reconstructions")
    found = [place for index in np.argsort(own) for place in places(pixels, enlarged(samples[index]["image"], 4))]
    assert len(found) == len(set(own)) == 3
    assert found == sorted(found)


def test_what_was_measured_is_said(run_reconstruction, tiny_prior, capsys):
    folder, metrics = run_reconstruction(f"prior={tiny_prior}", "split=test")
    said = capsys.readouterr().out
    assert all(name in said for name in metrics["per_class"])
    used = round(metrics["codebook_usage"] * metrics["vocab_size"])
    for figure in ("ceiling", "boundary_f3"):
        assert f"{figure} {metrics[figure]:.3f}" in said
    assert f"{used} of {metrics['vocab_size']} codes occur, perplexity {metrics['codebook_perplexity']:.1f}" in said
    assert f"phantom class: {metrics['third_class_rate']:.2%}" in said
    assert f"{' and '.join(metrics['closest_pair']['names'])}, {metrics['closest_pair']['distance']:.1f} apart" in said
    assert all(f"{folder / name}.png" in said for name in ("palette", "codebook", "worst_reconstructions"))


def test_a_checkpoint_holds_its_stage_one(run_reconstruction, measured, tiny_checkpoint):
    assert run_reconstruction(f"checkpoint={tiny_checkpoint}")[1] == measured[1]


def test_other_data_of_the_same_classes_are_measured_at_their_size(run_reconstruction, tiny_prior, street_scenes):
    overrides = ["data=cityscapes", f"data.root={street_scenes}", "data.size=[63,120]", "data.num_workers=0"]
    _, metrics = run_reconstruction(f"prior={tiny_prior}", *overrides)
    data = instantiate(PriorArtefact.load(tiny_prior).description["data_settings"])
    data.size = (63, 120)  # no multiple of the stride
    labels = torch.cat(list(data.label_batches("val")))
    predicted = load_autoencoder(PriorArtefact.load(tiny_prior)).reconstruct(labels).labels()
    assert metrics["ceiling"] == pytest.approx(mean_of(iou_by_class(predicted, labels)))


def test_a_learned_tokenizer_is_measured_as_it_was_trained(run_reconstruction, compose_tiny, tmp_path):
    vqvae = ("tokenizer=vqvae", "tokenizer.vocab_size=16", "tokenizer.hidden=8", "tokenizer.num_blocks=1")
    prior = f"prior={tmp_path / 'prior.safetensors'}"
    trained = train(compose_tiny(tmp_path, "stage=prior", *vqvae, prior))
    assert run_reconstruction(prior)[1]["ceiling"] == pytest.approx(trained["val/ceiling"], abs=1e-6)


def test_an_older_artefact_wants_to_be_told_its_data(run_reconstruction, tiny_prior, tmp_path, street_scenes):
    artefact = PriorArtefact.load(tiny_prior)
    del artefact.description["data_settings"]
    artefact.save(tmp_path / "older.safetensors")
    with pytest.raises(ValueError, match=r"older\.safetensors does not say .* give data=NAME"):
        run_reconstruction(f"prior={tmp_path / 'older.safetensors'}")


def test_a_pixel_twin_has_no_stage_one(run_reconstruction, tiny_checkpoint, monkeypatch):
    twin = TrainedSegmenter.load(tiny_checkpoint)
    twin.segmenter.autoencoder = None
    monkeypatch.setattr(TrainedSegmenter, "load", lambda path: twin)
    with pytest.raises(ValueError, match="is of a pixel twin, which has no tokenizer: give prior=PATH"):
        run_reconstruction(f"checkpoint={tiny_checkpoint}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["mode=generation"], r"unknown mode='generation': one of segmentation, reconstruction"),
        ([], r"run `python -m gss\.train stage=prior` .* first, then give prior=PATH"),
        (["tokenizer=vqvae", "maskige=ff"], r"run `python -m gss\.train stage=prior` .* first, then give prior=PATH"),
        (["prior=a", "tokenizer=vqvae"], r"then give prior=PATH without them"),
        (["prior=a", "checkpoint=b"], r"alone, got prior and checkpoint"),
        (["prior=a", "readout=argmax"], r"alone, got prior and readout"),
        (["mode=segmentation"], r"give checkpoint=PATH of stage=conditioning"),
        (["mode=segmentation", "readout=argmax"], r"give checkpoint=PATH of stage=conditioning"),
        (["mode=segmentation", "prior=a", "checkpoint=b"], r"prior was given, but mode=segmentation takes all of it"),
        (["prior=none.safetensors"], r"no stage-one artefact at prior=none\.safetensors"),
        (["checkpoint=none.ckpt"], r"no checkpoint=none\.ckpt"),
    ],
)
def test_words_that_do_not_go_together_are_refused(run_reconstruction, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_reconstruction(*overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["split=tset"], r"no split 'tset'.*train, val, test"),
        (
            ["data=folder", "data.root=.", "data.label_space.names=[road,car]"],
            r"prior=.* knows 19 classes and data=folder has 2, .*class 1 is 'sidewalk' in .* and 'car' in",
        ),
    ],
)
def test_data_that_do_not_fit_are_refused(run_reconstruction, tiny_prior, overrides, message):
    with pytest.raises(ValueError, match=message):
        run_reconstruction(f"prior={tiny_prior}", *overrides)
