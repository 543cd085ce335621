"""Trainings with `callbacks=ema`: what is kept, what is measured, and how they go on."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gss.assembly.artefact import PriorArtefact
from gss.assembly.checkpoints import INVERSE, TrainedSegmenter, exchange_inverse
from gss.evaluate import evaluate

EMA = ("stage=conditioning", "callbacks=ema", "callbacks.panels=null", "callbacks.ema.decay=0.5", "max_steps=4")
LAST = "checkpoints/last.ckpt"


def load(path):
    return torch.load(path, weights_only=True)


def same(one, other):
    return one.keys() == other.keys() and all(tensor.equal(other[name]) for name, tensor in one.items())


@pytest.fixture(scope="module")
def straight(run_tiny, tmp_path_factory):
    """Four steps at a stretch, validated after the second and the fourth, with a checkpoint of every step."""
    steps = tmp_path_factory.mktemp("steps")
    every = ModelCheckpoint(steps, "{step}", auto_insert_metric_name=False, save_top_k=-1, every_n_train_steps=1)
    return run_tiny(tmp_path_factory.mktemp("straight"), *EMA, callbacks=(every,)), steps


def test_figures_and_use_are_of_the_average(straight, compose_run, tmp_path):
    run, _ = straight
    kept = load(run.folder / LAST)
    assert not same(kept["state_dict"], kept["current_model_state"])
    alone = evaluate(compose_run(tmp_path, f"checkpoint={run.folder / LAST}", name="evaluate"))
    assert alone["miou"] == pytest.approx(run.figures["val/miou"], abs=1e-7)
    assert same(TrainedSegmenter.load(run.folder / LAST).segmenter.state_dict(), run.module.segmenter.state_dict())


def test_the_tokenizer_is_left_out(straight):
    run, _ = straight
    kept = load(run.folder / LAST)
    for name in kept["state_dict"]:
        differs = not kept["state_dict"][name].equal(kept["current_model_state"][name])
        assert not differs or name.startswith("segmenter.network."), name


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_resumed_training_ends_in_the_same_raw_and_averaged_weights(run_tiny, straight, tmp_path, step):
    run, steps = straight
    resumed = run_tiny(tmp_path, *EMA, f"resume={steps}/{step}.ckpt")
    one, other = load(run.folder / LAST), load(resumed.folder / LAST)
    assert same(one["state_dict"], other["state_dict"])
    assert same(one["current_model_state"], other["current_model_state"])
    assert one["averaging_state"]["n_averaged"] == other["averaging_state"]["n_averaged"] == 4
    assert resumed.figures["val/miou"] == run.figures["val/miou"]


def test_a_finished_training_that_is_resumed_reports_again(run_tiny, straight, tmp_path):
    run, _ = straight
    again = run_tiny(tmp_path, *EMA, f"resume={run.folder / LAST}")
    assert again.figures["val/miou"] == pytest.approx(run.figures["val/miou"])
    assert same(load(run.folder / LAST)["current_model_state"], load(again.folder / LAST)["current_model_state"])


def test_an_average_is_neither_dropped_nor_begun_in_the_midst(run_tiny, straight, tmp_path):
    _, steps = straight
    plain = ("callbacks=default", "callbacks.panels=null", "max_steps=4")
    with pytest.raises(ValueError, match=r"with averaged weights: set callbacks as it was \(callbacks=ema\)"):
        run_tiny(tmp_path / "a", "stage=conditioning", *plain, f"resume={steps}/2.ckpt")
    run_tiny(tmp_path / "b", "stage=conditioning", *plain)
    with pytest.raises(ValueError, match=r"without averaged weights: set callbacks as it was \(default\)"):
        run_tiny(tmp_path / "c", *EMA, f"resume={tmp_path / 'b' / LAST}")


def test_an_exchanged_inverse_is_in_both_weights(straight, tiny_prior):
    run, _ = straight
    kept, artefact = load(run.folder / LAST), PriorArtefact.load(tiny_prior)
    changed = PriorArtefact(artefact.description, artefact.ceiling, {**artefact.state, "inverse.new": torch.ones(1)})
    exchanged = exchange_inverse(kept, changed, kept["gss"]["config"])
    for key in ("state_dict", "current_model_state"):
        assert exchanged[key][f"{INVERSE}new"].equal(torch.ones(1))
        assert exchanged[key].keys() - kept[key].keys() == {f"{INVERSE}new"}


def test_both_trainings_of_stage_one_and_its_token_model_are_averaged(run_tiny, tmp_path):
    vqvae = ("tokenizer=vqvae", "tokenizer.hidden=8", "tokenizer.num_blocks=1", "maskige=tt")
    token_model = ("token_model=masked", "token_model.width=16", "token_model.depth=1", "token_model.max_steps=2")
    prior = tmp_path / "p.safetensors"
    run = run_tiny(
        tmp_path, "stage=prior", *vqvae, *token_model, f"prior={prior}", "callbacks=ema", "callbacks.panels=null"
    )
    assert 0 <= run.figures["val/ceiling"] <= 1
    kept = load(tmp_path / LAST)
    assert kept["averaging_state"]["n_averaged"] == 2  # of the second training
    assert kept["current_model_state"].keys() == kept["state_dict"].keys()
    artefact = PriorArtefact.load(prior)
    averaged = {name.removeprefix("autoencoder."): tensor for name, tensor in kept["state_dict"].items()}
    for name, tensor in artefact.without_token_model().state.items():
        assert tensor.equal(averaged[name]), name
