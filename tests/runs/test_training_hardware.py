"""How a network is executed must not change what it says."""

from __future__ import annotations

import logging
import math
import shutil
import sys

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from gss.assembly.build import build_segmenter
from gss.cli.configuration import to_plain
from gss.runs.training import build_trainer, prepare_network
from gss.stages.base import gathered


class Losses(Callback):
    """Keeps the loss of every batch."""

    def __init__(self):
        self.losses = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


class Orders(Callback):
    """Looks whether the maps of a network have their channels last."""

    def __init__(self):
        self.found = []

    def setup(self, trainer, pl_module, stage):
        network = pl_module.segmenter.network
        network.backbone.register_forward_hook(lambda *call: self.look(call[1][0], *call[2]))

    def look(self, *maps):
        self.found += [one.is_contiguous(memory_format=torch.channels_last) for one in maps]


@pytest.fixture
def build(compose_tiny, tmp_path):
    """Give a function that builds the same tiny pixel twin again."""
    config = to_plain(compose_tiny(tmp_path, "stage=conditioning", "head=pixel_bilinear", "fusion.depth=1"))

    def built():
        torch.manual_seed(0)
        return build_segmenter(config, 5, None).network

    return built


def test_channels_last_gives_the_same_output_and_gradients(build):
    plain, last = build(), build()
    prepare_network(last, {"channels_last": True, "compile": False})
    image = torch.rand(2, 3, 30, 45)
    for network in (plain, last):
        network(image).pixel_logits.square().mean().backward()
    torch.testing.assert_close(last.eval()(image).pixel_logits, plain.eval()(image).pixel_logits, atol=1e-5, rtol=1e-4)
    for one, other in zip(last.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-3)
    assert last.state_dict().keys() == plain.state_dict().keys()


def test_channels_last_reaches_the_backbone_of_a_run(run_tiny, tmp_path):
    orders = Orders()
    run_tiny(tmp_path, "stage=conditioning", "hardware.channels_last=true", callbacks=(orders,))
    assert len(orders.found) > 5
    assert all(orders.found)


def test_a_missing_compiler_is_one_sentence(build, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ValueError, match=r"hardware\.compile=true needs no-such-compiler, .*or set hardware\.compile=false"
    ):
        prepare_network(build(), {"accelerator": "cpu", "compile": True})


def test_backbone_and_fusion_of_a_run_are_compiled_and_nothing_else(run_tiny, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(module))
    monkeypatch.setenv("CXX", sys.executable)  # any program that is there
    network = run_tiny(tmp_path, "stage=conditioning", "hardware.compile=true").module.segmenter.network
    assert compiled == [network.backbone, network.fusion]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++")
def test_a_compiled_network_has_the_same_loss_gradients_and_names(build):
    plain, compiled = build(), build()
    prepare_network(compiled, {"accelerator": "cpu", "compile": True})
    image, losses = torch.rand(2, 3, 32, 32), []
    for network in (plain, compiled):
        losses.append(network(image).pixel_logits.square().mean())
        losses[-1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-4)
    for one, other in zip(compiled.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-2)
    assert compiled.state_dict().keys() == plain.state_dict().keys()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize("stage", ["prior", "conditioning"])
def test_both_stages_take_two_steps_in_mixed_precision(run_tiny, tmp_path, stage):
    watch = Losses()
    vqvae = ("tokenizer=vqvae", "tokenizer.hidden=8", "tokenizer.num_blocks=1", "maskige=ft")
    more = (*vqvae, f"prior={tmp_path / 'p.safetensors'}") if stage == "prior" else ()
    run = run_tiny(tmp_path, f"stage={stage}", "hardware.precision=bf16-mixed", *more, callbacks=(watch,))
    assert len(watch.losses) == (4 if stage == "prior" else 2)  # the tokenizer, then the inverse
    assert all(math.isfinite(loss) for loss in watch.losses)
    assert 0 <= run.figures["objective"] <= 1


def test_what_lightning_says_is_printed_once(compose_tiny, tmp_path, monkeypatch):
    printed = []
    handler = logging.Handler()
    handler.emit = printed.append
    for name in (None, "lightning"):  # in a command Hydra gives the root one, then Lightning comes with its own
        monkeypatch.setattr(logging.getLogger(name), "handlers", [handler])
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "handlers", [])
    monkeypatch.setattr(logging.getLogger("lightning.pytorch"), "propagate", True)
    build_trainer(to_plain(compose_tiny(tmp_path, "stage=prior")), [], [])
    printed.clear()
    logging.getLogger("lightning.pytorch").info("once")
    assert [record.getMessage() for record in printed] == ["once"]


def test_one_process_gathers_what_it_has():
    assert gathered(["a"]) == [["a"]]


def test_what_is_gathered_is_of_every_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        assert gathered({"loss": 1.0}) == [{"loss": 1.0}]
    finally:
        torch.distributed.destroy_process_group()
