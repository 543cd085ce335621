"""Two batches per step are one batch of twice the size."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import nn

from gss.cli.configuration import instantiate, to_plain
from gss.runs.training import build_trainer, fit
from gss.stages.base import Stage

DOUBLE = "64-true"  # Adam makes much of what float32 rounds off; Lightning rounds to it on resuming


class PixelStage(Stage):
    """The smallest training on images, with nothing in it that looks at a whole batch."""

    stage_name, may_learn = "pixels", ("network",)

    def __init__(self, label_space, optimisation, record):
        super().__init__(label_space, optimisation, record, scored=())
        self.network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, label_space.num_classes, 1))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self.network(batch["image"]), batch["labels"].clamp_max(18))

    def validation_step(self, batch, batch_idx):
        return None


class Steps(Callback):
    """Keeps what every step saw and what its gradients were, and when validation came."""

    def __init__(self):
        self.names, self.gradients, self.validations = [], [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.names.append(batch["name"])

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.gradients.append([weight.grad.clone() for weight in pl_module.network.parameters()])

    def on_validation_end(self, trainer, pl_module):
        self.validations.append(trainer.global_step)


@pytest.fixture
def run_pixels(compose_tiny, tmp_path):
    """Give a function that trains five steps of a batch size and a number of batches each."""

    def run(batch_size, batches, resume=None, precision="32-true"):
        batches_of = (f"data.batch_size={batch_size}", f"hardware.accumulate_grad_batches={batches}")
        overrides = (*batches_of, f"hardware.precision={precision}")
        config = compose_tiny(tmp_path / str(batches), "stage=conditioning", "max_steps=5", "val_every=2", *overrides)
        torch.manual_seed(0)
        plain, datamodule, steps = to_plain(config), instantiate(config.data), Steps()
        stage = PixelStage(datamodule.label_space, instantiate(config.optim), {"config": plain})
        every = ModelCheckpoint(tmp_path, "{step}", auto_insert_metric_name=False, save_top_k=-1, every_n_train_steps=1)
        trainer = build_trainer(plain, [steps, every], [])
        fit(trainer, stage, datamodule, resume)
        return steps, trainer, stage

    return run


def test_two_batches_of_two_are_one_of_four(run_pixels):
    (whole, _, _), (halves, trainer, _) = run_pixels(4, 1, precision=DOUBLE), run_pixels(2, 2, precision=DOUBLE)
    assert [a + b for a, b in zip(halves.names[::2], halves.names[1::2], strict=True)] == whole.names
    assert trainer.global_step == len(whole.gradients) == len(halves.gradients) == 5
    for of_whole, of_halves in zip(whole.gradients, halves.gradients, strict=True):
        for one, other in zip(of_whole, of_halves, strict=True):
            torch.testing.assert_close(other, one, atol=1e-10, rtol=0)


def test_validation_comes_every_so_many_steps_not_batches(run_pixels):
    steps, _, _ = run_pixels(2, 3)
    assert steps.validations == [2, 4]


def test_a_resumed_training_goes_on_with_the_next_batches(run_pixels, tmp_path):
    straight, _, stage = run_pixels(2, 2)
    resumed, trainer, again = run_pixels(2, 2, str(tmp_path / "3.ckpt"))
    assert trainer.global_step == 5
    assert resumed.names == straight.names[6:]
    assert resumed.validations == [4]
    assert all(one.equal(other) for one, other in zip(again.parameters(), stage.parameters(), strict=True))


@pytest.mark.parametrize("batches", [0, 1.5])
def test_less_than_one_batch_per_step_is_refused(compose_tiny, tmp_path, batches):
    config = to_plain(compose_tiny(tmp_path, "stage=prior", f"hardware.accumulate_grad_batches={batches}"))
    with pytest.raises(ValueError, match=rf"hardware\.accumulate_grad_batches must be .* at least 1, got {batches}"):
        build_trainer(config, [], [])
