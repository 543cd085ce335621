"""stage=conditioning with stage.inverse_weight: X^-1 learns beside the network, in two commands altogether."""

from __future__ import annotations

import copy

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from gss.assembly.artefact import PriorArtefact
from gss.assembly.checkpoints import TrainedSegmenter, read_checkpoint
from gss.evaluate import evaluate
from gss.objectives.conditioning import ConditioningLoss, build_criterion

FT_W = ("maskige=ft_w", "maskige.inverse.channels=8", "maskige.temperature=1.0e5", "maskige.max_steps=0")
BESIDE = ("stage=conditioning", *FT_W, "callbacks=default", "callbacks.panels=null", "optim.gradient_clip=0.05")
LAST = "checkpoints/last.ckpt"


class Watch(Callback):
    """Keeps the losses and the gradients' norms of every step, and looks at what learns."""

    def __init__(self):
        self.losses, self.norms, self.learning, self.modes = [], [], set(), {}

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        if pl_module.segmenter.network.pixel_head.scores.weight.grad is None:
            return
        segmenter = pl_module.segmenter
        parts = (segmenter.network, segmenter.autoencoder.inverse)
        grads = [[w.grad for w in part.parameters() if w.grad is not None] for part in parts]
        self.norms.append([torch.stack([g.norm() for g in some]).norm().item() if some else 0.0 for some in grads])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        logged = trainer.callback_metrics.items()
        self.losses.append({key: value.item() for key, value in logged if key.startswith("train/")})
        autoencoder = pl_module.segmenter.autoencoder
        self.learning |= {name.split(".")[0] for name, w in autoencoder.named_parameters() if w.requires_grad}
        for name, part in autoencoder.named_children():
            self.modes.setdefault(name, set()).update(module.training for module in part.modules())


@pytest.fixture(scope="module")
def untrained(run_tiny, tmp_path_factory):
    """What stage one says whose inverse learns nothing there."""
    folder = tmp_path_factory.mktemp("prior")
    return run_tiny(folder, "stage=prior", *FT_W, f"prior={folder / 'prior.safetensors'}").figures


@pytest.fixture(scope="module")
def prior(untrained, tmp_path_factory):
    """The same with an inverse that has something to say, so that a tied head depends on it."""
    artefact, generator = PriorArtefact.load(untrained["prior"]), torch.Generator().manual_seed(0)
    for name in ("output.weight", "input.1.running_mean"):
        held = artefact.state[f"inverse.correction.{name}"]
        artefact.state[f"inverse.correction.{name}"] = torch.randn(held.shape, generator=generator)
    path = tmp_path_factory.mktemp("begun") / "prior.safetensors"
    artefact.save(path)
    return path


@pytest.fixture(scope="module")
def runs(run_tiny, tmp_path_factory, prior):
    """Two steps without and with the inverse, each beside what a callback saw."""
    made = {}
    for weight in (0.0, 1.0):
        watch, folder = Watch(), tmp_path_factory.mktemp("beside")
        given = (*BESIDE, f"prior={prior}", f"stage.inverse_weight={weight}")
        made[weight] = (run_tiny(folder, *given, callbacks=(watch,)), watch)
    return made


def test_without_steps_stage_one_leaves_the_inverse_as_it_begins(untrained):
    state = PriorArtefact.load(untrained["prior"]).state
    assert untrained["trained_parameters"] == 0
    assert not state["inverse.correction.output.weight"].any()


def test_the_network_learns_to_the_last_bit_as_it_would_without(runs):
    (without, before), (beside, after) = runs.values()
    for key in ("train/token_divergence", "train/pixel_loss"):
        assert [losses[key] for losses in before.losses] == [losses[key] for losses in after.losses]
    held = without.module.segmenter.network.state_dict()
    assert all(tensor.equal(held[name]) for name, tensor in beside.module.segmenter.network.state_dict().items())


def test_both_gradients_are_clipped_each_by_itself(runs):
    (_, before), (_, after) = runs.values()
    norms = torch.tensor(after.norms)
    torch.testing.assert_close(norms, torch.full_like(norms, 0.05), rtol=1e-3, atol=0)
    assert [without for without, _ in before.norms] == [network for network, _ in after.norms]


def test_the_inverse_alone_learns_of_the_autoencoder(runs, prior):
    (without, before), (beside, after) = runs.values()
    assert (before.learning, after.learning) == (set(), {"inverse"})
    assert {name for name, modes in after.modes.items() if modes == {True}} == {"inverse"}
    assert all(modes == {False} for name, modes in after.modes.items() if name != "inverse")
    assert all(modes == {False} for modes in before.modes.values())
    state, stays = PriorArtefact.load(prior).state, without.module.segmenter.autoencoder.state_dict()
    learned = beside.module.segmenter.autoencoder.state_dict()
    moved = {name for name, tensor in learned.items() if tensor.ne(state[name]).any()}
    assert {"inverse.correction.output.weight", "inverse.correction.input.1.running_mean"} <= moved
    assert all(name.startswith("inverse.") for name in moved)
    assert [name for name, tensor in stays.items() if not tensor.equal(state[name])] == []


def test_the_loss_counts_what_is_read(runs):
    (_, before), (_, after) = runs.values()
    assert "train/reading" not in before.losses[0]
    for losses in after.losses:
        parts = 0.8 * losses["train/token_divergence"] + 0.2 * losses["train/pixel_loss"] + losses["train/reading"]
        assert losses["train/loss"] == pytest.approx(parts, rel=1e-5)


def test_it_learns_beside_a_label_loss_by_the_other_readout_in_mixed_precision(run_tiny, tmp_path, prior):
    watch = Watch()
    weights = ("stage.inverse_weight=0.5", "stage.label_weight=0.5", "stage.class_balance=0.5")
    given = (*BESIDE, f"prior={prior}", *weights, "stage.readout=argmax", "hardware.precision=bf16-mixed")
    run = run_tiny(tmp_path, *given, callbacks=(watch,))
    assert all({"train/reading", "train/label_loss"} <= losses.keys() for losses in watch.losses)
    assert watch.learning == {"inverse"}
    assert run.figures["val/miou"] == run.figures["val/argmax/miou"]


@pytest.mark.parametrize("readout", ["argmax", "expected"])
def test_what_is_read_falls_and_asks_nothing_of_the_network(runs, readout):
    """Labels that are one colour for another, which an inverse can learn."""
    stage = copy.deepcopy(runs[1.0][0].module).train()
    segmenter = stage.segmenter
    criterion = ConditioningLoss(token_weight=0, pixel_weight=0, inverse_weight=2.0, readout=readout)
    output = segmenter.network(torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(1)))
    with torch.no_grad():
        drawn = segmenter.autoencoder.decode_scores(output.prior, readout).class_probs.argmax(1)
    labels = (drawn + 1) % 19
    targets, found = stage.targets(labels, output), []
    optimizer = torch.optim.Adam(segmenter.autoencoder.inverse.parameters(), lr=0.05)
    segmenter.network.zero_grad()
    for _ in range(30):
        losses = criterion(segmenter.autoencoder, output, targets, labels)
        found.append(losses["train/reading"].item())
        optimizer.zero_grad()
        losses["train/reading"].backward()
        optimizer.step()
    assert found[-1] < 0.8 * found[0]
    assert all(weight.grad is None for weight in segmenter.network.parameters())


def test_a_restored_segmenter_has_the_same_head_and_the_trained_inverse(runs):
    run = runs[1.0][0]
    restored = TrainedSegmenter.load(run.folder / LAST).segmenter
    segmenter, image = run.module.segmenter.eval(), torch.rand(2, 3, 32, 64)
    head, stride = restored.network.token_head, restored.autoencoder.stride
    assert head.codes.equal(segmenter.network.token_head.codes)
    of_now = 8 / stride**2 * restored.autoencoder.code_class_probs().flatten(1)
    assert (head.codes - of_now).abs().max() > 1e-3
    with torch.no_grad():
        assert restored.network(image).prior.logits().equal(segmenter.network(image).prior.logits())
        for readout in ("pixel", "argmax", "expected"):
            assert restored(image, readout).class_probs().equal(segmenter(image, readout).class_probs())


def test_an_averaged_training_averages_the_inverse_too(run_tiny, tmp_path, prior):
    ema = ("callbacks=ema", "callbacks.panels=null", "stage.inverse_weight=1.0", f"prior={prior}")
    run = run_tiny(tmp_path, *BESIDE, *ema)
    restored = TrainedSegmenter.load(run.folder / LAST).segmenter
    segmenter, image = run.module.segmenter.eval(), torch.rand(1, 3, 32, 64)
    name = "segmenter.autoencoder.inverse.correction.output.weight"
    checkpoint = read_checkpoint(run.folder / LAST)
    assert not checkpoint["state_dict"][name].equal(checkpoint["current_model_state"][name])
    with torch.no_grad():
        assert restored(image).class_probs().equal(segmenter(image).class_probs())


def test_evaluation_reads_by_the_trained_inverse(runs, compose_run, tmp_path):
    run = runs[1.0][0]
    found = evaluate(compose_run(tmp_path, f"checkpoint={run.folder / LAST}", name="evaluate"))
    assert found["miou"] == pytest.approx(run.figures["val/miou"], abs=1e-6)
    assert found["ceiling"] == pytest.approx(run.figures["val/ceiling"], abs=1e-6)


def test_the_inverse_can_be_exchanged_afterwards_and_the_network_stays(runs, run_tiny, tmp_path):
    trained = runs[1.0][0].folder / LAST
    given = (f"checkpoint={trained}", f"prior={tmp_path / 'prior.safetensors'}", "maskige.inverse.hidden=4")
    source = ("stage=prior", "stage.maskige_source=predictions", "maskige=ft", "maskige.max_steps=1")
    again = run_tiny(tmp_path, *source, *given).figures["checkpoint"]
    image = torch.rand(1, 3, 32, 64)
    first, last = (TrainedSegmenter.load(path).segmenter.network(image).prior.logits() for path in (trained, again))
    assert first.equal(last)


def test_a_resumed_training_ends_in_the_same_weights(runs, run_tiny, tmp_path, prior):
    """The second step is taken again, from a checkpoint of the first."""
    straight, _ = runs[1.0]
    given = (*BESIDE, f"prior={prior}", "stage.inverse_weight=1.0")

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.save_checkpoint(tmp_path / "first.ckpt")
            raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run_tiny(tmp_path / "stopped", *given, callbacks=(Stop(),))
    resumed = run_tiny(tmp_path / "resumed", *given, f"resume={tmp_path / 'first.ckpt'}")
    first, second = (read_checkpoint(run.folder / LAST) for run in (straight, resumed))
    assert all(tensor.equal(second["state_dict"][name]) for name, tensor in first["state_dict"].items())
    kept, anew = (checkpoint["conditioned_on"]["state"] for checkpoint in (first, second))
    assert all(tensor.equal(anew[name]) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ("maskige=ff",),
            r"stage\.inverse_weight=1\.0 trains the inverse, and maskige\.inverse\.name=soft_distance has",
        ),
        ((*FT_W, "stage.readout=pixel"), r"stage\.inverse_weight=1\.0 .*stage\.readout=pixel or a head without tokens"),
        ((*FT_W, "head=pixel_bilinear"), r"stage\.inverse_weight=1\.0 .*stage\.readout=pixel or a head without tokens"),
    ],
)
def test_what_cannot_learn_is_refused_before_the_first_step(
    run_tiny, tmp_path, prior, tiny_prior, keep, overrides, message
):
    made = tiny_prior if "maskige=ff" in overrides else prior
    given = (f"prior={made}", "stage.inverse_weight=1.0")
    with pytest.raises(ValueError, match=message):
        run_tiny(tmp_path, "stage=conditioning", *overrides, *given, callbacks=(keep,))
    assert keep.steps == 0


def test_an_inverse_that_would_never_be_asked_is_refused(runs):
    run = runs[1.0][0]
    config, autoencoder = run.module.record["config"], copy.copy(run.module.segmenter.autoencoder)
    build_criterion(config, autoencoder, "expected")
    autoencoder.native_probs = True
    with pytest.raises(ValueError, match=r"trained and never asked.*maskige\.native_probs=false"):
        build_criterion(config, autoencoder, "expected")
