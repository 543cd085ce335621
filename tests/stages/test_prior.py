from __future__ import annotations

import numpy as np
import pytest
import torch

from boundary_reference import boundary_f_scores
from gss.assembly import build
from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import build_tokenizer, load_autoencoder
from gss.cli.configuration import instantiate, to_plain
from gss.data.cityscapes import cityscapes_labels
from gss.maskige.assignment import assign_colours, touching_counts
from gss.maskige.palette import max_distance_palette
from gss.maskige.transform import MaskigeTransform
from gss.metrics.phantom_classes import blurred_phantom_class_rate
from gss.runs.training import build_trainer
from gss.stages.prior import PriorStage


def mean_iou(predicted, labels):
    """From the definition: intersection over union of pixel sets, over classes that occur."""
    predicted, labels = np.asarray(predicted)[labels != 255], labels[labels != 255].numpy()
    classes = np.union1d(predicted, labels)
    return np.mean(
        [((predicted == k) & (labels == k)).sum() / ((predicted == k) | (labels == k)).sum() for k in classes]
    )


def validation_labels(config):
    """All validation labels at the network's size."""
    datamodule = instantiate(config.data)
    return torch.cat(list(datamodule.label_batches("val")))


def test_the_ceiling_is_the_miou_of_labels_through_the_artefact(run_tiny, compose_tiny, tmp_path):
    path = tmp_path / "new" / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", f"prior={path}")
    artefact = PriorArtefact.load(path)
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    reconstructed = load_autoencoder(artefact).reconstruct(labels).labels()
    assert run.figures["val/ceiling"] == pytest.approx(mean_iou(reconstructed, labels), abs=1e-6)
    assert artefact.ceiling == run.figures["val/ceiling"] == run.figures["objective"]
    assert run.figures["prior"] == str(path)


def test_a_training_free_tokenizer_is_fitted_and_not_trained(run_tiny, tmp_path, keep):
    run = run_tiny(tmp_path, "stage=prior", f"prior={tmp_path / 'prior.safetensors'}", callbacks=(keep,))
    assert (keep.steps, keep.validations) == (0, 1)
    assert 1 < run.module.autoencoder.tokenizer.vocab_size <= 32


def test_a_fit_is_the_same_every_time(run_tiny, tmp_path, tiny_prior):
    run_tiny(tmp_path, "stage=prior", f"prior={tmp_path / 'again.safetensors'}")
    again, first = PriorArtefact.load(tmp_path / "again.safetensors"), PriorArtefact.load(tiny_prior)
    assert again.state.keys() == first.state.keys()
    assert all(tensor.equal(first.state[name]) for name, tensor in again.state.items())


VQVAE = ("tokenizer=vqvae", "tokenizer.vocab_size=16", "tokenizer.hidden=8", "tokenizer.num_blocks=1")


def test_a_learned_tokenizer_is_trained_and_measured_as_saved(run_tiny, compose_tiny, tmp_path, keep):
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", *VQVAE, f"prior={path}", "max_steps=3", callbacks=(keep,))
    assert keep.steps == 3
    artefact = PriorArtefact.load(path)
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    reconstructed = load_autoencoder(artefact).eval().reconstruct(labels).labels()
    assert artefact.ceiling == run.figures["val/ceiling"] == pytest.approx(mean_iou(reconstructed, labels), abs=1e-6)


def test_a_dictionary_with_context_is_fitted_once_and_then_trained_on_windows(run_tiny, compose_tiny, tmp_path, keep):
    path = tmp_path / "prior.safetensors"
    own = ("tokenizer=patches_context", "tokenizer.hidden=8", "stage.windows={number: 3, side: 16}")
    run = run_tiny(tmp_path, "stage=prior", *own, f"prior={path}", "max_steps=3", "val_every=3", callbacks=(keep,))
    assert (keep.steps, run.figures["trained_parameters"]) == (
        3,
        sum(parameter.numel() for parameter in run.module.autoencoder.tokenizer.parameters()),
    )
    artefact = PriorArtefact.load(path)
    autoencoder = load_autoencoder(artefact).eval()
    assert autoencoder.tokenizer.context.output.weight.abs().sum() > 0  # moved, and not made anew for the last measure
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    ceiling = mean_iou(autoencoder.reconstruct(labels).labels(), labels)
    assert artefact.ceiling == run.figures["val/ceiling"] == pytest.approx(ceiling, abs=1e-6)


def test_a_published_tokenizer_is_frozen_and_measured_as_saved(run_tiny, compose_tiny, tiny_dvae, tmp_path, keep):
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", "tokenizer=dalle", *tiny_dvae, f"prior={path}", callbacks=(keep,))
    assert (keep.steps, keep.validations) == (0, 1)
    artefact = PriorArtefact.load(path)
    artefact.description["tokenizer"]["weights"] = "gone.safetensors"  # the artefact holds the weights
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    autoencoder = load_autoencoder(artefact)
    assert artefact.ceiling == run.figures["val/ceiling"]
    assert artefact.ceiling == pytest.approx(mean_iou(autoencoder.reconstruct(labels).labels(), labels), abs=1e-6)
    assert autoencoder.tokenizer.log_usage().unique().numel() > 1


def test_a_published_tokenizer_without_weights_stops_with_the_way_to_them(run_tiny, tmp_path):
    with pytest.raises(ValueError, match=r"encoder\.pkl and decoder\.pkl.*gss\.convert dalle.*tokenizer\.weights="):
        run_tiny(
            tmp_path, "stage=prior", "tokenizer=dalle", "tokenizer.hidden=8", f"prior={tmp_path / 'p.safetensors'}"
        )


KL = ("tokenizer=kl", "tokenizer.network.block_out_channels=[8,8,8,8]", "tokenizer.vocab_size=12")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_folder_of_diffusers_is_where_a_stage_begins(run_tiny, tmp_path, keep, frozen):
    pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")
    network = {"block_out_channels": [8] * 4, "norm_num_groups": 8, "mid_block_add_attention": False}
    published = build_tokenizer("kl", vocab_size=12, network={**network, "scaling_factor": 1.0}).network
    published.save_pretrained(tmp_path / "weights")
    path, choice = tmp_path / "prior.safetensors", f"tokenizer.frozen={str(frozen).lower()}"
    own = ("stage=prior", *KL, f"tokenizer.weights={tmp_path / 'weights'}", choice, f"prior={path}")
    run_tiny(tmp_path / "run", *own, callbacks=(keep,))
    assert keep.steps == (0 if frozen else 2)
    held = load_autoencoder(PriorArtefact.load(path)).tokenizer.network.state_dict()
    moved = [(held[name] - tensor).abs().max().item() for name, tensor in published.state_dict().items()]
    assert max(moved) == 0 if frozen else 0 < max(moved) < 0.01  # two small steps away


@pytest.mark.parametrize("frozen", ["true", "false"])
def test_a_folder_without_weights_stops_before_the_first_step(run_tiny, tmp_path, keep, frozen):
    pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")
    own = (*KL, f"tokenizer.weights={tmp_path}", f"tokenizer.frozen={frozen}", f"prior={tmp_path / 'p.safetensors'}")
    with pytest.raises(
        ValueError, match=r"there is no config\.json and no diffusion_pytorch_model\.safetensors in token"
    ):
        run_tiny(tmp_path / "run", "stage=prior", *own, callbacks=(keep,))
    assert (keep.steps, keep.validations) == (0, 0)


TOKENIZERS = {
    "patches": (),
    "ema": VQVAE,
    "fsq": (*VQVAE, "tokenizer.quantizer=fsq"),
    "lfq": (*VQVAE, "tokenizer.quantizer=lfq"),
}


@pytest.mark.parametrize("option", TOKENIZERS)
def test_the_codebooks_usage_is_that_of_the_artefacts_tokens(run_tiny, compose_tiny, tmp_path, option):
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", *TOKENIZERS[option], f"prior={path}")
    restored = load_autoencoder(PriorArtefact.load(path)).eval()
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    tokens = restored.encode(labels)
    assert tokens.equal(run.module.autoencoder.encode(labels))
    cells = (labels != 255).unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).any(4).any(2)  # stride 8
    _, counts = np.unique(tokens[cells].numpy(), return_counts=True)
    share = counts / counts.sum()
    vocab_size = restored.tokenizer.vocab_size
    assert run.figures["val/codebook_usage"] == pytest.approx(len(counts) / vocab_size)
    assert run.figures["val/codebook_perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-5)
    assert restored.tokenizer.log_usage().shape == (vocab_size,)
    assert restored.tokenizer.log_usage().isfinite().all()


def test_panel_rows_show_what_becomes_of_the_labels(run_tiny, tmp_path):
    stage = run_tiny(tmp_path, "stage=prior", f"prior={tmp_path / 'p.safetensors'}").module
    labels = torch.randint(19, (3, 32, 64))
    rows = stage.panel_rows({"image": torch.rand(3, 3, 32, 64), "labels": labels, "name": ["a", "b", "c"]}, 2)
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[1].predicted_labels.equal(stage.autoencoder.reconstruct(labels[1:2]).labels()[0])
    assert rows[1].maskige.equal(stage.autoencoder.transform.paint(labels[1:2])[0])
    assert rows[1].decoded_maskige.shape == (3, 32, 64)


def test_colours_are_assigned_by_the_training_labels(compose_tiny, tmp_path, tiny_prior):
    datamodule = instantiate(compose_tiny(tmp_path, "stage=prior").data)
    touching = touching_counts(datamodule.label_batches("train"), 19)
    expected = assign_colours(max_distance_palette(19), touching, temperature=900)
    state = PriorArtefact.load(tiny_prior).state
    assert state["transform.colours"].equal(expected.colours)
    assert not expected.colours.equal(max_distance_palette(19).colours)
    before, after = (
        blurred_phantom_class_rate(MaskigeTransform(palette), datamodule.label_batches("val"))
        for palette in (max_distance_palette(19), expected)
    )
    assert after < 0.7 * before


@pytest.mark.parametrize("learned", [False, True])
def test_an_artefact_is_read_without_choosing_colours_again(compose_tiny, run_tiny, tmp_path, monkeypatch, learned):
    path = tmp_path / "prior.safetensors"
    more = ("maskige.palette=learned", *VQVAE) if learned else ()
    run = run_tiny(tmp_path, "stage=prior", *more, f"prior={path}", "max_steps=1")
    monkeypatch.setattr(build, "PALETTES", {})
    monkeypatch.setattr(build, "assign_colours", None)
    transform = load_autoencoder(PriorArtefact.load(path)).transform
    assert transform.colours.equal(run.module.palette)
    assert transform.learned is learned


def test_the_display_colours_are_a_palette(run_tiny, tmp_path):
    path = tmp_path / "prior.safetensors"
    run_tiny(tmp_path, "stage=prior", "maskige=ff_dataset", f"prior={path}")
    colours = PriorArtefact.load(path).state["transform.colours"]
    torch.testing.assert_close(colours * 255, torch.tensor(cityscapes_labels().colours).float())


def test_the_third_class_rate_is_that_of_the_reconstruction(run_tiny, compose_tiny, tmp_path):
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", f"prior={path}")
    labels = validation_labels(compose_tiny(tmp_path, "stage=prior"))
    predicted, band, third = load_autoencoder(PriorArtefact.load(path)).reconstruct(labels).labels(), 0, 0
    for picture, y, x in np.ndindex(*labels.shape):
        square = labels[picture, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4]
        classes = set(square.flatten().tolist()) - {255}
        if labels[picture, y, x] != 255 and len(classes) > 1:
            band, third = band + 1, third + (int(predicted[picture, y, x]) not in classes)
    assert run.figures["val/third_class_rate"] == pytest.approx(third / band, abs=1e-6)


def test_the_boundary_f_score_is_that_of_the_reconstruction(run_tiny, compose_tiny, tmp_path):
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", f"prior={path}")
    labels, artefact = validation_labels(compose_tiny(tmp_path, "stage=prior")), PriorArtefact.load(path)
    expected = boundary_f_scores(load_autoencoder(artefact).reconstruct(labels).labels(), labels, 19, tolerance=3)
    assert run.figures["val/boundary_f3"] == pytest.approx(np.nanmean(expected), abs=1e-6)
    assert artefact.boundary_f3 == run.figures["val/boundary_f3"]


@pytest.mark.parametrize("option", ["patches", "ema"])
def test_a_run_says_what_it_cost(run_tiny, tmp_path, option):
    run = run_tiny(tmp_path, "stage=prior", *TOKENIZERS[option], f"prior={tmp_path / 'p.safetensors'}")
    parameters = sum(parameter.numel() for parameter in run.module.autoencoder.tokenizer.parameters())
    assert run.figures["trained_parameters"] == parameters
    assert (parameters > 0) is (option == "ema")
    assert isinstance(run.figures["trained_parameters"], int)
    assert run.figures["seconds"] > 0


def test_a_finished_tokenizer_is_measured_and_not_fitted_again(tiny_prior, compose_tiny, tmp_path):
    autoencoder = load_autoencoder(PriorArtefact.load(tiny_prior))
    before = {name: tensor.clone() for name, tensor in autoencoder.state_dict().items()}
    config = compose_tiny(tmp_path, "stage=prior")
    stage = PriorStage(autoencoder, cityscapes_labels(), None, {})
    build_trainer(to_plain(config), [], []).validate(stage, datamodule=instantiate(config.data), verbose=False)
    assert all(tensor.equal(before[name]) for name, tensor in autoencoder.state_dict().items())
    assert stage.cost.figures() == {"trained_parameters": 0, "seconds": 0}


def test_the_artefact_remembers_its_data(tiny_prior, compose_tiny, tmp_path):
    remembered = PriorArtefact.load(tiny_prior).description["data_settings"]
    assert remembered == to_plain(compose_tiny(tmp_path, "stage=prior", f"paths.outputs={tmp_path}"))["data"]


@pytest.mark.parametrize(
    ("setting", "known"),
    [
        ("palette=rainbow", "max_distance, random, dataset, learned"),
        ("assignment=best", "class_order, confusion_aware"),
    ],
)
def test_unknown_names_are_refused_with_those_that_exist(run_tiny, tmp_path, setting, known):
    key, value = setting.split("=")
    with pytest.raises(ValueError, match=rf"unknown maskige\.{key}='{value}': one of {known}"):
        run_tiny(tmp_path, "stage=prior", f"maskige.{setting}", f"prior={tmp_path / 'p.safetensors'}")
