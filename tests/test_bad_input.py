"""What users get wrong about classes, colours and vocabularies: one sentence with both values, or exact handling."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import build_tokenizer, load_autoencoder
from gss.train import train

SIZE = (32, 64)


@pytest.fixture
def own_labels(tmp_path):
    """Give a function that writes images with constant labels per split, and gives the overrides to use them."""

    def written(**ids):
        for split, file_id in ids.items():
            for kind, shape, value in (("images", (*SIZE, 3), 128), ("labels", SIZE, file_id)):
                folder = tmp_path / "own" / kind / split
                folder.mkdir(parents=True)
                for number in range(2):
                    Image.fromarray(np.full(shape, value, np.uint8)).save(folder / f"{number}.png")
        names = "data.label_space.names=[road,car]"
        return "data=folder", f"data.root={tmp_path / 'own'}", names, "data.size=[32,64]"

    return written


@pytest.fixture
def run(compose_run, tiny_network, tmp_path):
    """Give a function that runs a stage on such data, and gives its figures."""

    def ran(*overrides):
        prior = f"prior={tmp_path / 'prior.safetensors'}"
        return train(compose_run(tmp_path / "run", *tiny_network, prior, *overrides))

    return ran


def test_a_dictionary_of_labels_that_say_nothing_is_refused(run, own_labels):
    with pytest.raises(ValueError, match=r"no patch of 8x8 pixels is fully labelled: .*data\.label_space"):
        run("stage=prior", *own_labels(train=255, val=0))


@pytest.mark.parametrize("tokenizer", ["vqvae", "vqvae_fsq", "vqvae_lfq"])
def test_a_learned_tokenizer_trains_on_ignored_batches_without_breaking(run, own_labels, tokenizer):
    figures = run("stage=prior", f"tokenizer={tokenizer}", *own_labels(train=255, val=0))
    assert 0 <= figures["val/ceiling"] <= 1
    assert all(weight.isfinite().all() for weight in PriorArtefact.load(figures["prior"]).state.values())


def test_validation_without_a_labelled_pixel_has_no_ceiling(run, own_labels):
    with pytest.raises(ValueError, match=r"no validation pixel is labelled, .*no ceiling: .*data\.label_space"):
        run("stage=prior", *own_labels(train=0, val=255))


def test_stage_two_on_ignored_batches_changes_nothing_but_by_decay(run, own_labels):
    data = own_labels(train=255, val=0)
    figures = run("stage=prior", "tokenizer=vqvae", *data)
    kept = ("callbacks=default", "callbacks.panels=null", "tokenizer=vqvae", "stage.ignore_policy=masked")
    trained = run("stage=conditioning", *data, *kept)
    assert math.isfinite(trained["val/miou"])
    assert trained["val/ceiling"] == figures["val/ceiling"]
    state = torch.load(trained["checkpoint"], weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


def resized(path, name, tensor):
    """The artefact of a file with one of its tensors exchanged."""
    artefact = PriorArtefact.load(path)
    return PriorArtefact(artefact.description, artefact.ceiling, {**artefact.state, name: tensor})


def test_an_artefact_with_colours_for_other_classes_is_refused(tiny_prior):
    with pytest.raises(ValueError, match=r"transform\.colours.*\[18, 3\].*\[19, 3\]"):
        load_autoencoder(resized(tiny_prior, "transform.colours", torch.rand(18, 3)))


def test_an_artefact_with_more_patches_than_its_vocabulary_is_refused(tiny_prior):
    artefact = resized(tiny_prior, "tokenizer.log_frequency", torch.zeros(33))
    with pytest.raises(ValueError, match=r"the dictionary has 33 patches, but tokenizer\.vocab_size is 32"):
        load_autoencoder(artefact)


@pytest.mark.parametrize("quantizer", ["ema", "fsq", "lfq"])
def test_an_artefact_with_weights_of_another_vocabulary_is_refused_with_both_sizes(tiny_prior, quantizer):
    artefact, settings = PriorArtefact.load(tiny_prior), {"name": "vqvae", "quantizer": quantizer, "hidden": 8}
    weights = build_tokenizer(**settings, vocab_size=64).state_dict()
    colours = {name: tensor for name, tensor in artefact.state.items() if name.startswith("transform.")}
    state = colours | {f"tokenizer.{name}": tensor for name, tensor in weights.items()}
    description = {**artefact.description, "tokenizer": {**settings, "vocab_size": 256}}
    with pytest.raises(ValueError, match=r"does not fit the configuration .*\b64\b.*\b256\b"):
        load_autoencoder(PriorArtefact(description, 0.5, state))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("tokenizer.vocab_size=64", r"tokenizer\.vocab_size is 32 in the artefact but 64 in the configuration"),
        ("maskige=ff_random", r"maskige\.palette is 'max_distance' in the artefact but 'random'"),
        ("tokenizer.stride=4", r"tokenizer\.stride is 8 in the artefact but 4"),
    ],
)
def test_stage_two_names_both_values_of_what_does_not_fit(compose_tiny, tiny_prior, tmp_path, override, said):
    with pytest.raises(ValueError, match=said):
        train(compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", override))


@pytest.mark.parametrize(
    ("colours", "said"),
    [
        ("[[9,9,9],[9,9,9]]", r"maskige\.palette gives classes 0 and 1 the same colour \(9, 9, 9\)"),
        ("[[0,0,0],[9,9,9]]", r"maskige\.palette gives class 0 the colour \(0, 0, 0\) of ignored pixels"),
        ("[[9,9,9]]", r"2 classes need as many display colours, got 1; mend data\.label_space\.colours"),
        ("[[9,9],[1,2,3]]", r"a colour needs 3 numbers, got \[9, 9\]; mend data\.label_space\.colours"),
    ],
)
def test_display_colours_that_are_no_palette_are_refused_by_the_command(run, own_labels, colours, said):
    with pytest.raises(ValueError, match=said):
        run("stage=prior", "maskige=ff_dataset", *own_labels(train=0, val=1), f"data.label_space.colours={colours}")


def test_more_classes_than_a_byte_names_are_refused(run, own_labels):
    names = ",".join(f"c{number}" for number in range(254))
    with pytest.raises(ValueError, match=r"a class list needs 1 to 253 names, got 254; mend data\.label_space\.names"):
        run("stage=prior", *own_labels(train=0, val=1), f"data.label_space.names=[{names}]")
