"""The second training of stage=prior: colours, inverse or both, on a frozen tokenizer."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.cli.configuration import instantiate
from gss.metrics.confusion import ConfusionMatrix, scores
from gss.stages.phases import TransformsPhase

VQVAE = ("stage=prior", "tokenizer=vqvae", "tokenizer.vocab_size=16", "tokenizer.hidden=8", "tokenizer.num_blocks=1")
SMALL = {"ft": ("maskige.inverse.hidden=4",), "tf": (), "tt": ("maskige.inverse.hidden=4",)}
SMALL["ft_w"] = ("maskige.inverse.channels=8", "maskige.inverse.num_heads=2")
LEARNED = {"ft": {"inverse"}, "tf": {"transform"}, "tt": {"inverse", "transform"}, "ft_w": {"inverse"}}


class Watch(Callback):
    """Looks at the tokenizer during training."""

    def __init__(self):
        self.modes, self.gradients, self.learning, self.missing = set(), set(), set(), set()

    def on_after_backward(self, trainer, pl_module):
        tokenizer = pl_module.autoencoder.tokenizer
        self.modes |= {module.training for module in tokenizer.modules()}
        self.gradients |= {weight.grad is not None for weight in tokenizer.parameters()}
        learning = {name: weight for name, weight in pl_module.named_parameters() if weight.requires_grad}
        self.learning |= set(learning)
        self.missing |= {name for name, weight in learning.items() if weight.grad is None}


@pytest.fixture(scope="module")
def tokenizer_artefact(run_tiny, tmp_path_factory):
    """Stage one with fixed transforms: a VQ-VAE after two steps."""
    folder = tmp_path_factory.mktemp("tokenizer")
    return run_tiny(folder, *VQVAE, f"prior={folder / 'prior.safetensors'}").figures["prior"]


@pytest.fixture(scope="module", params=LEARNED)
def learned(request, run_tiny, tokenizer_artefact, tmp_path_factory):
    """A variant trained for two steps on that tokenizer: its name, run and watcher."""
    folder, watch = tmp_path_factory.mktemp(request.param), Watch()
    more = (f"stage.tokenizer_from={tokenizer_artefact}", f"prior={folder / 'prior.safetensors'}", "maskige.lr=0.02")
    run = run_tiny(folder, *VQVAE, f"maskige={request.param}", *SMALL[request.param], *more, callbacks=(watch,))
    return request.param, run, watch


def test_the_tokenizer_is_frozen_to_the_last_bit(learned, tokenizer_artefact):
    _, run, watch = learned
    assert watch.modes == {False}
    assert watch.gradients <= {False}
    before, after = (PriorArtefact.load(path).state for path in (tokenizer_artefact, run.figures["prior"]))
    tokenizer = [name for name in before if name.startswith("tokenizer.")]
    assert len(tokenizer) > 5
    assert all(after[name].equal(before[name]) for name in tokenizer)  # running averages included


def test_every_weight_that_is_said_to_learn_does_and_no_other(learned, tokenizer_artefact):
    """So that DDP waits for no gradient that never comes."""
    name, run, watch = learned
    parts = {weight.split(".")[1] for weight in watch.learning}
    assert parts == LEARNED[name]
    assert watch.missing == set()
    before, after = (PriorArtefact.load(path).state for path in (tokenizer_artefact, run.figures["prior"]))
    assert after["transform.colours"].equal(before["transform.colours"]) == ("transform" not in parts)


def test_learned_colours_end_as_8_bit_colours_of_their_own(learned):
    _, run, _ = learned
    colours = PriorArtefact.load(run.figures["prior"]).state["transform.colours"]
    assert 0 <= colours.min() <= colours.max() <= 1
    torch.testing.assert_close(colours * 255, (colours * 255).round(), atol=1e-4, rtol=0)
    assert len((colours * 255).round().unique(dim=0)) == 19


def test_the_ceiling_is_that_of_the_artefact(learned, compose_tiny, tmp_path):
    _, run, _ = learned
    labels = torch.cat(list(instantiate(compose_tiny(tmp_path, "stage=prior").data).label_batches("val")))
    matrix = ConfusionMatrix(19)
    matrix.update(
        load_autoencoder(PriorArtefact.load(run.figures["prior"])).eval().reconstruct(labels).labels(), labels
    )
    expected = scores(matrix.compute(), [str(k) for k in range(19)]).miou
    assert run.figures["val/ceiling"] == run.figures["objective"] == pytest.approx(expected, abs=1e-6)


def test_both_trainings_have_their_own_length(run_tiny, tmp_path, keep):
    steps = ("max_steps=3", "maskige.max_steps=5")
    run_tiny(
        tmp_path, *VQVAE, "maskige=ft", *SMALL["ft"], *steps, f"prior={tmp_path / 'p.safetensors'}", callbacks=(keep,)
    )
    assert keep.steps == 3 + 5


def test_a_fitted_tokenizer_is_fitted_once_and_its_maskige_is_read(run_tiny, tmp_path, keep, monkeypatch):
    from gss.tokenizer.patches import PatchDictionary

    fits, fit = [], PatchDictionary.fit
    monkeypatch.setattr(PatchDictionary, "fit", lambda *given, **more: fits.append(1) or fit(*given, **more))
    path = tmp_path / "prior.safetensors"
    run = run_tiny(tmp_path, "stage=prior", "maskige=ft", *SMALL["ft"], f"prior={path}", callbacks=(keep,))
    assert (len(fits), keep.steps) == (1, 2)
    autoencoder, labels = load_autoencoder(PriorArtefact.load(path)), torch.randint(19, (1, 32, 64))
    generation = autoencoder.reconstruct(labels)
    assert generation.class_probs().equal(autoencoder.inverse(generation.maskige(), autoencoder.transform.colours))
    assert run.figures["val/ceiling"] > 0


@pytest.fixture(scope="module")
def resumable(run_tiny, tmp_path_factory):
    """A run of two and two steps with a checkpoint after each."""
    folder = tmp_path_factory.mktemp("resumable")
    every = ModelCheckpoint(
        folder, filename="step_{step}", auto_insert_metric_name=False, every_n_train_steps=1, save_top_k=-1
    )
    settings = (*VQVAE, "tokenizer.quantizer=fsq", "maskige=tt", *SMALL["tt"])  # ema draws new codes for dead ones
    run_tiny(folder, *settings, f"prior={folder / 'straight.safetensors'}", callbacks=(every,))
    return folder, settings


@pytest.mark.parametrize(("checkpoint", "steps"), [("step_1.ckpt", 1 + 2), ("step_1-v1.ckpt", 1)])
def test_a_resumed_run_finds_its_phase_and_ends_the_same(resumable, run_tiny, tmp_path, keep, checkpoint, steps):
    folder, settings = resumable
    given = (f"prior={tmp_path / 'p.safetensors'}", f"resume={folder / checkpoint}")
    run_tiny(tmp_path, *settings, *given, callbacks=(keep,))
    assert keep.steps == steps
    straight, resumed = (
        PriorArtefact.load(path).state for path in (folder / "straight.safetensors", tmp_path / "p.safetensors")
    )
    assert resumed.keys() == straight.keys()
    for name, tensor in straight.items():
        torch.testing.assert_close(resumed[name], tensor, atol=1e-4, rtol=0, msg=name)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("maskige.max_steps=3", r"a training of 2 steps, not 3: set maskige\.max_steps=2"),
        ("maskige=ff", r"a training of colours or inverse, but this maskige learns neither"),
    ],
)
def test_a_training_of_other_transforms_is_not_resumed(resumable, run_tiny, tmp_path, setting, words):
    folder, settings = resumable
    kept = [one for one in settings if not (setting == "maskige=ff" and one.startswith("maskige"))]
    with pytest.raises(ValueError, match=words):
        run_tiny(tmp_path, *kept, setting, f"prior={tmp_path / 'p'}", f"resume={folder / 'step_1-v1.ckpt'}")


REFUSED = {
    ("maskige=tf",): r"maskige\.palette=learned .* tokenizer=patches knows one fixed palette: choose tokenizer=vqvae",
    ("maskige=ft", "maskige.native_probs=true"): r"trained and never asked.*set maskige\.native_probs=false",
    ("maskige.inverse.name=invert",): r"unknown maskige\.inverse\.name='invert': one of nearest, .*, shifted_window",
    ("stage.maskige_source=dreams",): r"unknown stage\.maskige_source='dreams': one of reconstructions, predictions",
    ("checkpoint=last.ckpt",): r"checkpoint=last\.ckpt is read by stage\.maskige_source=predictions alone",
    ("stage.tokenizer_from=none",): r"no stage-one artefact at stage\.tokenizer_from=none",
}


@pytest.mark.parametrize("overrides", REFUSED)
def test_mistakes_end_in_one_sentence(run_tiny, tmp_path, overrides):
    with pytest.raises(ValueError, match=REFUSED[overrides]):
        run_tiny(tmp_path, "stage=prior", *overrides, f"prior={tmp_path / 'p'}")


def test_a_tokenizer_of_other_settings_is_not_taken(run_tiny, tmp_path, tokenizer_artefact):
    given = (f"stage.tokenizer_from={tokenizer_artefact}", f"prior={tmp_path / 'p'}")
    with pytest.raises(ValueError, match=r"tokenizer\.stride is 8 there but 4 .*; tokenizer\.hidden is 8 there but 6 "):
        run_tiny(tmp_path, *VQVAE, "tokenizer.stride=4", "tokenizer.hidden=6", *given)


def test_a_dictionary_of_other_colours_is_not_taken(run_tiny, tmp_path, tiny_prior):
    given = (f"stage.tokenizer_from={tiny_prior}", f"prior={tmp_path / 'p'}")
    with pytest.raises(ValueError, match=r"palette=max_distance there, .*palette=random here: leave"):
        run_tiny(tmp_path, "stage=prior", "maskige=ff_random", *given)
    again = run_tiny(tmp_path, "stage=prior", f"stage.tokenizer_from={tiny_prior}", f"prior={tmp_path / 'p'}")
    assert again.figures["val/ceiling"] == PriorArtefact.load(tiny_prior).ceiling


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"token_temperature": 0.0}, r"maskige\.token_temperature must be positive, got 0"),
        ({"colour_jitter": 1.0}, r"maskige\.colour_jitter must lie in \[0, 1\), got 1"),
        ({"colour_jitter": -0.1}, r"maskige\.colour_jitter must lie in \[0, 1\), got -0\.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        TransformsPhase(**settings)
