"""stage=prior with stage.maskige_source=predictions: an inverse for what a trained network generates."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.assembly.checkpoints import TrainedSegmenter, read_checkpoint, save_checkpoint
from gss.evaluate import evaluate

PREDICTIONS = ("stage=prior", "stage.maskige_source=predictions")
FT = ("maskige=ft", "maskige.inverse.hidden=8", "maskige.lr=0.02", "maskige.max_steps=4")


class Watch(Callback):
    """Looks at what is frozen during training."""

    def __init__(self):
        self.modes, self.learning = set(), set()

    def on_after_backward(self, trainer, pl_module):
        for part in (pl_module.phase.network, pl_module.autoencoder.tokenizer, pl_module.autoencoder.transform):
            self.modes |= {module.training for module in part.modules()}
        self.learning |= {name for name, weight in pl_module.named_parameters() if weight.requires_grad}


@pytest.fixture(scope="module")
def watch():
    return Watch()


@pytest.fixture(scope="module")
def run(run_tiny, tiny_checkpoint, tmp_path_factory, watch):
    folder = tmp_path_factory.mktemp("predictions")
    given = (f"checkpoint={tiny_checkpoint}", f"prior={folder / 'prior.safetensors'}")
    return run_tiny(folder, *PREDICTIONS, *FT, *given, callbacks=(watch,))


def test_only_the_inverse_learns_and_the_rest_is_in_evaluation_mode(run, watch):
    assert watch.modes == {False}
    assert {name.split(".")[1] for name in watch.learning} == {"inverse"}


def test_the_checkpoint_differs_in_nothing_but_the_inverse(run, tiny_checkpoint):
    before, after = (read_checkpoint(path)["state_dict"] for path in (tiny_checkpoint, run.figures["checkpoint"]))
    assert {name.split(".")[2] for name in after.keys() - before.keys()} == {"inverse"}
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_both_files_hold_the_trained_inverse(run):
    autoencoder = load_autoencoder(PriorArtefact.load(run.figures["prior"]))
    segmenter = TrainedSegmenter.load(run.figures["checkpoint"]).segmenter
    assert autoencoder.inverse.correction.output.weight.any()
    trained = segmenter.autoencoder.state_dict()
    assert trained.keys() == autoencoder.state_dict().keys()
    assert all(trained[name].equal(tensor) for name, tensor in autoencoder.state_dict().items())


def test_the_network_says_what_it_said_before(run, tiny_checkpoint):
    """A tied head is built from what tokens decode to, which the new inverse would change."""
    image = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    logits = [
        TrainedSegmenter.load(path).segmenter.network(image).prior.logits()
        for path in (tiny_checkpoint, run.figures["checkpoint"])
    ]
    assert logits[0].equal(logits[1])
    segmenter = TrainedSegmenter.load(run.figures["checkpoint"]).segmenter
    generation, autoencoder = segmenter(image, "expected"), segmenter.autoencoder
    read = autoencoder.inverse(generation.maskige(), autoencoder.transform.colours)
    assert generation.class_probs().equal(read)


def test_evaluation_finds_the_figures_of_before_and_after(run, tiny_checkpoint, compose_run, tmp_path):
    found = [
        evaluate(compose_run(tmp_path / str(number), f"checkpoint={path}", name="evaluate"))
        for number, path in enumerate((tiny_checkpoint, run.figures["checkpoint"]))
    ]
    assert run.figures["val/miou_before"] == pytest.approx(found[0]["miou"], abs=1e-6)
    assert run.figures["val/miou"] == run.figures["objective"] == pytest.approx(found[1]["miou"], abs=1e-6)
    assert run.figures["val/ceiling"] == pytest.approx(found[1]["ceiling"], abs=1e-6)


def test_an_inverse_can_be_exchanged_again(run, run_tiny, tmp_path, tiny_checkpoint):
    given = (f"checkpoint={run.figures['checkpoint']}", f"prior={tmp_path / 'prior.safetensors'}")
    window = ("maskige=ft_w", "maskige.inverse.channels=8", "maskige.max_steps=1")
    again = run_tiny(tmp_path, *PREDICTIONS, *window, *given)
    assert again.figures["val/miou_before"] == pytest.approx(run.figures["val/miou"], abs=1e-6)
    image = torch.rand(1, 3, 32, 64, generator=torch.Generator().manual_seed(1))
    first, last = (TrainedSegmenter.load(path).segmenter for path in (tiny_checkpoint, again.figures["checkpoint"]))
    assert last.network(image).prior.logits().equal(first.network(image).prior.logits())
    assert TrainedSegmenter.load(again.figures["checkpoint"]).config["maskige"]["inverse"]["name"] == "shifted_window"


def test_the_new_artefact_serves_stage_two(run, run_tiny, tmp_path):
    second = run_tiny(tmp_path, "stage=conditioning", *FT, f"prior={run.figures['prior']}", "max_steps=1")
    assert second.figures["val/ceiling"] == pytest.approx(run.figures["val/ceiling"], abs=1e-6)


def test_mistakes_end_in_one_sentence(run_tiny, tmp_path, tiny_checkpoint):
    prior = f"prior={tmp_path / 'p'}"
    refused = {
        (): r"stage\.maskige_source=predictions reads .*: give checkpoint=PATH",
        ("checkpoint=none.ckpt",): r"no checkpoint=none\.ckpt",
        ("maskige.max_steps=0", f"checkpoint={tiny_checkpoint}"): r"maskige\.max_steps steps, got 0: give at least 1",
        ("maskige=ff", f"checkpoint={tiny_checkpoint}"): r"maskige\.inverse\.name=soft_distance has nothing to learn",
        (f"checkpoint={tiny_checkpoint}", "maskige.native_probs=true"): r"never asked.*native_probs=false",
    }
    for overrides, words in refused.items():
        with pytest.raises(ValueError, match=words):
            run_tiny(tmp_path, *PREDICTIONS, "maskige=ft", *overrides, prior)


def test_a_network_of_other_classes_is_refused(run_tiny, tmp_path, tiny_checkpoint):
    checkpoint = read_checkpoint(tiny_checkpoint)
    checkpoint["gss"]["label_space"]["names"][0] = "canal"
    save_checkpoint(checkpoint, tmp_path / "canal.ckpt")
    with pytest.raises(ValueError, match=r"class 0 is 'canal' in .* and 'road' in"):
        run_tiny(tmp_path, *PREDICTIONS, *FT, f"checkpoint={tmp_path / 'canal.ckpt'}", f"prior={tmp_path / 'p'}")


def test_a_training_on_reconstructions_is_not_resumed_on_predictions(run_tiny, tmp_path, tiny_checkpoint):
    kept = ("callbacks=default", "callbacks.panels=null", "maskige.max_steps=1")
    run_tiny(tmp_path, "stage=prior", *FT, *kept, f"prior={tmp_path / 'p'}")
    given = (f"checkpoint={tiny_checkpoint}", f"resume={tmp_path / 'checkpoints/last.ckpt'}", f"prior={tmp_path / 'q'}")
    with pytest.raises(ValueError, match=r"a training of phase=transforms, but this run is at phase=predictions"):
        run_tiny(tmp_path, *PREDICTIONS, *FT, "maskige.max_steps=1", *given)


def test_a_pixel_twin_has_nothing_to_read(run_tiny, tmp_path):
    kept = ("callbacks=default", "callbacks.panels=null", "max_steps=1")
    twin = run_tiny(tmp_path, "stage=conditioning", "head=pixel_bilinear", *kept).figures["checkpoint"]
    with pytest.raises(ValueError, match=r"is of a pixel twin, which generates no maskige"):
        run_tiny(tmp_path, *PREDICTIONS, *FT, f"checkpoint={twin}", f"prior={tmp_path / 'p'}")
