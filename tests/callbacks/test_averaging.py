"""AveragedWeights against the recursion written out, and against the faults of Lightning's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gss.callbacks.averaging import AveragedWeights
from toy_stage import ToyStage, loader

Numbers = dict[str, np.ndarray]


class Averaged(ToyStage):
    """A convolution with BatchNorm that learns beside a frozen one; keeps what it had at each step and validation."""

    def __init__(self) -> None:
        super().__init__()
        del self.weight
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2), nn.ReLU())
        self.frozen = nn.Sequential(nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)).requires_grad_(False).eval()
        self.trained: list[Numbers] = []
        self.validated: list[Numbers] = []

    def learning(self) -> dict[str, nn.Module]:
        return {"network": self.network}

    def numbers(self) -> Numbers:
        return {name: tensor.numpy().copy() for name, tensor in self.state_dict().items()}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.network(batch) - self.frozen(batch)).square().mean()

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.trained.append(self.numbers())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        if batch_idx == 0:
            self.validated.append(self.numbers())


def averages(steps: list[Numbers], decay: float) -> list[Numbers]:
    """The recursion a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), in double precision."""
    found = [{name: value.astype(np.float64) for name, value in steps[0].items()}]
    for n, step in enumerate(steps[1:], start=1):
        d = min(decay, (1 + n) / (10 + n))
        found.append({name: d * found[-1][name] + (1 - d) * value for name, value in step.items()})
    return found


def assert_equal(found: Numbers, expected: Numbers, decimals: float = 1e-6) -> None:
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=decimals, atol=decimals, err_msg=name)


def floats(numbers: Numbers) -> Numbers:
    return {name: value for name, value in numbers.items() if "num_batches" not in name}


@pytest.fixture
def train(make_trainer: Any) -> Any:
    """Give a function that trains for eight steps with these callbacks, validated after each second."""

    def trained(*callbacks: pl.Callback, module: pl.LightningModule | None = None, **settings: Any) -> Any:
        module = module or Averaged()
        trainer = make_trainer(callbacks=list(callbacks), max_steps=8, val_check_interval=2, **settings)
        trainer.fit(module, loader(16), loader(3))
        return module, trainer

    return trained


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_what_is_validated_is_the_average_so_far(train: Any, decay: float) -> None:
    module, _ = train(AveragedWeights(decay))
    expected = averages(module.trained, decay)
    assert len(module.validated) == 4
    for found, step in zip(module.validated, (1, 3, 5, 7), strict=True):
        assert_equal(found, floats(expected[step]))
        assert found["network.1.num_batches_tracked"] == module.trained[step]["network.1.num_batches_tracked"]
    assert_equal(module.numbers(), floats(expected[-1]))  # and it stays


def test_the_training_is_the_one_without_an_average(train: Any) -> None:
    with_average, without = train(AveragedWeights(0.5))[0].trained, train()[0].trained
    for one, other in zip(with_average, without, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in other)


class Late(AveragedWeights):
    """Begins to average after the third step."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return step_idx is not None and step_idx >= 3


def test_nothing_is_exchanged_while_nothing_was_averaged(train: Any, tmp_path: Path) -> None:
    module, _ = train(Late(0.5))
    assert_equal(module.validated[0], module.trained[1], 0)
    expected = averages(module.trained[3:], 0.5)
    assert_equal(module.validated[1], floats(expected[0]))
    assert_equal(module.validated[2], floats(expected[2]))


def test_what_is_frozen_is_not_copied_and_lies_once_in_a_file(train: Any, tmp_path: Path) -> None:
    callback = AveragedWeights(0.5)
    module, trainer = train(callback)
    copied = sum(tensor.numel() for tensor in callback._average_model.state_dict().values())
    assert copied == sum(tensor.numel() for tensor in module.network.state_dict().values()) + 1  # n_averaged
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)
    for name in module.frozen.state_dict():
        one, other = (kept[key][f"frozen.{name}"] for key in ("state_dict", "current_model_state"))
        assert one.data_ptr() == other.data_ptr()
    frozen = {name: value for name, value in module.trained[0].items() if name.startswith("frozen.")}
    assert_equal(module.numbers(), frozen, 0)


def test_a_checkpoint_after_the_training_holds_average_and_raw_weights(train: Any, tmp_path: Path) -> None:
    module, trainer = train(AveragedWeights(0.5))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert_equal({n: t.numpy() for n, t in kept["current_model_state"].items()}, module.trained[-1], 0)
    assert_equal({n: t.numpy() for n, t in kept["state_dict"].items()}, floats(averages(module.trained, 0.5)[-1]))
    assert kept["averaging_state"]["n_averaged"] == 8


def test_a_second_training_begins_anew(train: Any) -> None:
    callback = AveragedWeights(0.5)
    train(callback)
    module, _ = train(callback)
    assert_equal(module.numbers(), floats(averages(module.trained, 0.5)[-1]))


def test_constants_stay_the_same_to_the_last_bit() -> None:
    constant, callback = torch.rand(1000, generator=torch.Generator().manual_seed(0)), AveragedWeights(0.999)
    average = constant.clone()
    for number in range(1, 50):
        average = callback._average(average, constant, number)
    assert average.equal(constant)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_a_decay_out_of_range_is_named(decay: float) -> None:
    with pytest.raises(ValueError, match=rf"callbacks\.ema\.decay must lie in \(0, 1\), got {decay}"):
        AveragedWeights(decay)
