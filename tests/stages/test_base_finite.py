"""A loss or a gradient that is not finite stops a training before it spoils anything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from gss.assembly.checkpoints import TrainedSegmenter
from gss.cli.command_line import one_sentence
from gss.data.dataset import SegmentationDataset
from gss.stages.base import FiniteWatch, gradient_norms

KEPT = ("callbacks=default", "callbacks.panels=null")
ONE = {"a.weight": torch.tensor([0.0, -7.0]), "b.bias": torch.tensor([3.0])}


def watched(loss, gradients, before=ONE, skips_overflow=False):
    """A finite step, and then one of this loss and these gradients."""
    watch = FiniteWatch()
    if before is not None:
        watch.note(torch.tensor(1.0), lambda: ["first.png"])
        watch.check(before, 1, skips_overflow)
    for value, name in loss:
        watch.note(torch.tensor(value), lambda name=name: [name])
    watch.check(gradients, 2, skips_overflow)


def test_the_norm_of_each_gradient_is_found():
    torch.manual_seed(0)
    gradients = {"a": torch.randn(5, 4), "b": torch.randn(3), "c": torch.tensor([float("nan"), 9.0])}
    found = gradient_norms(gradients)
    np.testing.assert_allclose(found[:2], [np.linalg.norm(gradients[name].numpy()) for name in "ab"], rtol=1e-6)
    assert found[2].isnan()


def test_a_finite_step_passes():
    watched([(1.0, "a.png"), (2.0, "b.png")], ONE)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_only_the_images_of_the_wrong_batch_are_named(value):
    largest = r"the largest gradient of the last finite step has norm 7, of a\.weight"
    said = rf"the loss of step 2 is {value} with b\.png \({largest}\)"
    with pytest.raises(ValueError, match=said) as stop:
        watched([(1.0, "a.png"), (value, "b.png")], ONE)
    for key in ("optim.optimizer.lr", "optim.gradient_clip", "hardware.precision", "resume=PATH"):
        assert key in str(stop.value)


def test_a_first_step_has_none_before_it():
    with pytest.raises(ValueError, match="there was no finite step before it"):
        watched([(float("nan"), "b.png")], ONE, before=None)


def test_a_gradient_that_overflows_stops_unless_a_scaler_skips_the_step():
    overflown = {**ONE, "b.bias": torch.tensor([float("inf")])}
    with pytest.raises(ValueError, match=r"gradient of step 2 is not finite, first in b\.bias, with b\.png"):
        watched([(1.0, "b.png")], overflown)
    watched([(1.0, "b.png")], overflown, skips_overflow=True)


def test_the_loss_stops_even_where_a_scaler_skips():
    with pytest.raises(ValueError, match="the loss of step 2 is nan"):
        watched([(float("nan"), "b.png")], ONE, skips_overflow=True)


class Spoil(Callback):
    """Puts a nan into an image of one step, and looks at the weights before each."""

    def __init__(self, step):
        self.step, self.weights, self.names, self.network = step, None, None, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step + 1 == self.step:
            self.network, self.names = pl_module.segmenter.network, batch["name"]
            self.weights = {name: weight.detach().clone() for name, weight in self.network.named_parameters()}
            batch["image"][0, 0, 0, 0] = float("nan")


@pytest.fixture(scope="module")
def spoilt(run_tiny, tmp_path_factory):
    """A training of four steps whose third has a spoilt image, kept after each second one."""
    folder, spoil = tmp_path_factory.mktemp("spoilt"), Spoil(3)
    with pytest.raises(ValueError, match="step 3") as stop:
        run_tiny(folder, "stage=conditioning", *KEPT, "max_steps=4", callbacks=(spoil,))
    return folder, spoil, str(stop.value)


def test_a_spoilt_image_is_named_with_step_and_gradient(spoilt):
    _, spoil, said = spoilt
    assert said.startswith(f"the loss of step 3 is nan with {', '.join(spoil.names)} (the largest gradient of the last")
    assert any(f", of segmenter.network.{name})" in said for name in spoil.weights)


def test_nothing_is_updated(spoilt):
    _, spoil, _ = spoilt
    assert all(weight.equal(spoil.weights[name]) for name, weight in spoil.network.named_parameters())


def test_the_checkpoint_of_before_is_kept_and_whole(spoilt):
    folder, _, _ = spoilt
    last = folder / "checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 2
    weights = TrainedSegmenter.load(last).segmenter.state_dict().values()
    assert all(weight.isfinite().all() for weight in weights if weight.is_floating_point())


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_command_ends_with_an_error_and_one_sentence(
    compose_tiny, tiny_prior, tmp_path, monkeypatch, capsys, accumulated
):
    from gss.train import train

    read = SegmentationDataset.__getitem__

    def broken(self, request):
        sample = read(self, request)
        if getattr(request, "number", 0) == 3:  # the second batch, in training alone
            sample["image"][:] = float("nan")
        return sample

    monkeypatch.setattr(SegmentationDataset, "__getitem__", broken)
    batches = f"hardware.accumulate_grad_batches={accumulated}"
    config = compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", batches, "data.augmentation.flip=0")
    with pytest.raises(SystemExit) as stop:
        one_sentence(lambda: train(config))
    assert stop.value.code == 2
    step = 2 if accumulated == 1 else 1
    assert capsys.readouterr().err.startswith(f"error: the loss of step {step} is nan with ")


def test_stage_one_is_watched_too(run_tiny, tmp_path):
    vqvae = ("tokenizer=vqvae", "tokenizer.hidden=8", "tokenizer.num_blocks=1")
    with pytest.raises(ValueError, match=r"(loss|gradient) of step 2 is .*lower optim\.optimizer\.lr"):
        run_tiny(tmp_path, "stage=prior", *vqvae, "optim.optimizer.lr=1e30", "optim.warmup_steps=0")
