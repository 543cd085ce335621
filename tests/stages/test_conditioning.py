from __future__ import annotations

import copy
import os
import signal

import numpy as np
import pytest
import timm
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.assembly.checkpoints import TrainedSegmenter, read_checkpoint, restore_segmenter, save_checkpoint
from gss.cli.configuration import instantiate
from gss.evaluate import evaluate
from gss.networks.token_scores import TokenScores
from gss.objectives.conditioning import ConditioningLoss, label_loss, pixel_loss
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TargetEncoder
from gss.pipeline import MaskigeAutoencoder

CONDITIONING = ("stage=conditioning", "callbacks=default", "callbacks.panels=null")
LAST = "checkpoints/last.ckpt"


class Watch(Callback):
    """Looks at the frozen autoencoder during training."""

    def __init__(self):
        self.modes, self.gradients = set(), set()

    def on_after_backward(self, trainer, pl_module):
        autoencoder = pl_module.segmenter.autoencoder
        self.modes |= {module.training for module in autoencoder.modules()}
        self.gradients |= {weight.grad is not None for weight in autoencoder.parameters()}


@pytest.fixture(scope="module")
def trained(run_tiny, tmp_path_factory):
    """Three steps, validated after the second: a training that does not end on a validation."""
    return run_tiny(tmp_path_factory.mktemp("trained"), *CONDITIONING, "max_steps=3")


def test_a_checkpoint_holds_tensors_and_plain_containers_only(trained):
    checkpoint = torch.load(trained.folder / LAST, weights_only=True)
    assert checkpoint["gss"]["stage"] == "conditioning"
    assert checkpoint["gss"]["config"]["data"]["name"] == "synthetic"


def test_the_last_checkpoint_holds_the_last_step(trained):
    assert torch.load(trained.folder / LAST, weights_only=True)["global_step"] == 3


def test_a_restored_segmenter_gives_the_same_bits(trained):
    restored = restore_segmenter(torch.load(trained.folder / LAST, weights_only=True))
    segmenter, image = trained.module.segmenter.eval(), torch.rand(2, 3, 32, 64)
    with torch.no_grad():
        for readout in ("pixel", "argmax", "expected"):
            assert restored(image, readout).class_probs().equal(segmenter(image, readout).class_probs())


def test_class_balance_weighs_tokens_by_what_they_show_and_decodes_each_token_once(run_tiny, tmp_path, monkeypatch):
    decoded, decode = [], MaskigeAutoencoder.code_class_probs
    monkeypatch.setattr(
        MaskigeAutoencoder, "code_class_probs", lambda self: decoded.append(decode(self)) or decoded[-1]
    )
    stage = run_tiny(
        tmp_path, "stage=conditioning", "stage.class_balance=0.5", "optim.optimizer.lr=0", "max_steps=1"
    ).module
    (codes,) = decoded
    expected = np.einsum("vkyx,k->v", codes.numpy(), stage.criterion.class_weights.numpy()) / 64  # stride 8
    np.testing.assert_allclose(stage.criterion.token_weights.numpy(), expected, rtol=1e-5)
    assert expected.max() > 1.1 * expected.min()
    usage = stage.segmenter.autoencoder.tokenizer.log_usage().exp().numpy() * expected
    bias = stage.segmenter.network.token_head.bias.detach()
    np.testing.assert_allclose(bias.exp().numpy(), usage / usage.sum(), rtol=1e-4)


def test_every_promised_figure_is_reported(trained):
    readouts = {f"val/{readout}/miou" for readout in ("argmax", "expected", "pixel")}
    promised = {"val/miou", "val/macc", "val/aacc", "val/ceiling", "val/token_accuracy", "val/iou/road", *readouts}
    promised |= {"val/boundary_f3", "val/pixel/boundary_f3"}
    assert promised <= trained.figures.keys()
    assert trained.figures["objective"] == trained.figures["val/miou"] == trained.figures["val/expected/miou"]
    assert trained.figures["checkpoint"] == str(trained.folder / LAST)


def test_figures_equal_those_counted_pixel_by_pixel(trained):
    """With the restored network, image by image, and sets of pixels instead of a matrix."""
    segmenter = TrainedSegmenter.load(trained.folder / LAST).segmenter
    datamodule = instantiate(torch.load(trained.folder / LAST, weights_only=True)["gss"]["config"]["data"])
    samples = [datamodule.dataset("val")[index] for index in range(3)]
    labels = np.stack([sample["labels"] for sample in samples])
    for readout in ("argmax", "expected", "pixel"):
        with torch.no_grad():
            predicted = np.stack([segmenter(sample["image"][None], readout).labels()[0] for sample in samples])
        guessed, true = predicted[labels != 255], labels[labels != 255]
        classes = np.union1d(guessed, true)
        iou = [((guessed == k) & (true == k)).sum() / ((guessed == k) | (true == k)).sum() for k in classes]
        assert trained.figures[f"val/{readout}/miou"] == pytest.approx(np.mean(iou), abs=1e-6)
        assert trained.figures[f"val/{readout}/aacc"] == pytest.approx((guessed == true).mean(), abs=1e-6)


def test_the_ceiling_beside_the_score_is_that_of_stage_one(trained, tiny_prior):
    assert trained.figures["val/ceiling"] == PriorArtefact.load(tiny_prior).ceiling


def test_the_frozen_autoencoder_is_left_as_it_was(run_tiny, tmp_path, tiny_prior):
    watch = Watch()
    module = run_tiny(tmp_path, "stage=conditioning", callbacks=(watch,)).module
    assert watch.modes == {False}
    assert watch.gradients <= {False}
    before = PriorArtefact.load(tiny_prior).state
    after = module.segmenter.autoencoder.state_dict()
    assert all(after[name].equal(tensor) for name, tensor in before.items())


def test_the_network_is_trained(run_tiny, tmp_path):
    first, second = (run_tiny(tmp_path, "stage=conditioning", f"max_steps={n}").module for n in (1, 2))
    moved = [
        name
        for (name, before), after in zip(first.named_parameters(), second.parameters(), strict=True)
        if not before.equal(after)
    ]
    kinds = {name.split(".")[2] for name in moved}
    assert kinds == {"backbone", "fusion", "pixel_head", "token_head"}


@pytest.mark.parametrize("head", ["tied", "free", "paper", "pixel_bilinear", "pixel_subpixel"])
def test_every_head_trains_with_the_detail_path_and_comes_back(run_tiny, tmp_path, head):
    run = run_tiny(tmp_path, *CONDITIONING, f"head={head}", "fusion.detail=2")
    assert 0 <= run.figures["val/miou"] <= 1
    restored, trained = TrainedSegmenter.load(tmp_path / LAST).segmenter.network, run.module.segmenter.network.eval()
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        ours, theirs = restored(image), trained(image)
    torch.testing.assert_close(ours.pixel_logits, theirs.pixel_logits)
    if theirs.prior is not None:
        torch.testing.assert_close(ours.prior.logits(), theirs.prior.logits())


@pytest.fixture(scope="module")
def resumable(run_tiny, tmp_path_factory):
    """Four steps at a stretch, with a checkpoint after the second."""
    every = ModelCheckpoint(
        tmp_path_factory.mktemp("steps"), "{step}", auto_insert_metric_name=False, save_top_k=-1, every_n_train_steps=2
    )
    run = run_tiny(tmp_path_factory.mktemp("straight"), *CONDITIONING, "max_steps=4", callbacks=(every,))
    return run, every.dirpath


def test_a_resumed_training_ends_in_the_same_weights(run_tiny, resumable, tmp_path, keep):
    straight, steps = resumable
    resume = f"resume={steps}/2.ckpt"
    resumed = run_tiny(tmp_path, *CONDITIONING, "max_steps=4", resume, callbacks=(keep,))
    assert keep.steps == 2
    assert all(
        a.equal(b)
        for a, b in zip(resumed.module.state_dict().values(), straight.module.state_dict().values(), strict=True)
    )
    assert resumed.figures["val/miou"] == straight.figures["val/miou"]


def test_a_finished_training_that_is_resumed_only_reports_again(run_tiny, resumable, tmp_path, keep):
    straight, _ = resumable
    again = run_tiny(tmp_path, *CONDITIONING, "max_steps=4", f"resume={straight.folder / LAST}", callbacks=(keep,))
    assert keep.steps == 0
    for name, value in straight.figures.items():
        if name.startswith("val/"):
            assert again.figures[name] == pytest.approx(value, nan_ok=True)


def test_resuming_from_nothing_is_refused(run_tiny, tmp_path):
    with pytest.raises(ValueError, match=r"resume=.*none\.ckpt is not a file"):
        run_tiny(tmp_path, "stage=conditioning", f"resume={tmp_path / 'none.ckpt'}")


def test_resuming_from_the_other_stage_is_refused_with_both_names(run_tiny, resumable, tmp_path):
    straight, _ = resumable
    vqvae = ("tokenizer=vqvae", "tokenizer.vocab_size=16", "tokenizer.hidden=8")
    with pytest.raises(ValueError, match=r"stage=conditioning.*stage=prior"):
        run_tiny(tmp_path, "stage=prior", *vqvae, f"resume={straight.folder / LAST}")


def test_resuming_with_another_number_of_steps_is_refused(run_tiny, resumable, tmp_path):
    """The learning rate is zero from the fourth step on: more steps would change nothing."""
    straight, _ = resumable
    with pytest.raises(ValueError, match="a training of 4 steps, not 6: set max_steps=4"):
        run_tiny(tmp_path, *CONDITIONING, "max_steps=6", f"resume={straight.folder / LAST}")


def test_the_log_says_which_weights_the_backbone_begins_with(run_tiny, tmp_path, caplog):
    caplog.set_level("INFO", "gss")
    run_tiny(tmp_path, *CONDITIONING)
    told = [message for message in caplog.messages if "backbone" in message]
    num_weights = sum(weight.numel() for weight in timm.create_model("test_resnet", num_classes=0).parameters())
    expected = f"stage=conditioning: backbone test_resnet, {num_weights / 1e6:.1f} M parameters, random initialisation"
    assert told == [expected]


def test_a_checkpoint_of_before_a_key_existed_is_restored(run_tiny, tmp_path):
    run = run_tiny(tmp_path, *CONDITIONING)
    checkpoint = torch.load(run.folder / LAST, weights_only=True)
    old = {key: checkpoint["gss"]["config"]["backbone"][key] for key in ("name", "pretrained", "weights")}
    checkpoint["gss"]["config"]["backbone"] = old
    image = torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        found = restore_segmenter(checkpoint)(image).class_probs()
        assert found.equal(run.module.segmenter.eval()(image).class_probs())


def test_a_checkpoint_is_named_only_where_one_is_kept(run_tiny, tmp_path, caplog):
    caplog.set_level("INFO", "gss")
    assert "checkpoint" not in run_tiny(tmp_path / "none", "stage=conditioning", "callbacks=none").figures
    assert caplog.messages[-1].endswith("checkpoint not kept (callbacks.last)")
    kept = run_tiny(tmp_path / "kept", *CONDITIONING).figures["checkpoint"]
    assert caplog.messages[-1].endswith(f"checkpoint {kept}")
    assert [str(path) for path in tmp_path.rglob("last.ckpt")] == [kept]


@pytest.mark.parametrize(("max_steps", "val_every", "expected"), [(4, 2, 2), (3, 2, 2), (2, 9, 1), (2, 1, 2)])
def test_a_training_is_validated_every_so_often_and_once_at_its_end(
    run_tiny, tmp_path, keep, max_steps, val_every, expected
):
    run_tiny(tmp_path, "stage=conditioning", f"max_steps={max_steps}", f"val_every={val_every}", callbacks=(keep,))
    assert (keep.steps, keep.validations) == (max_steps, expected)


def test_the_loss_is_the_weighted_sum_of_divergence_and_pixel_loss(trained, monkeypatch):
    stage, logged = trained.module, {}
    monkeypatch.setattr(stage, "log", lambda name, value, **settings: logged.update({name: value}))
    monkeypatch.setattr(stage, "log_dict", lambda values, **settings: logged.update(values))
    stage.eval()
    image, labels = torch.rand(2, 3, 32, 64), torch.randint(19, (2, 32, 64))
    labels[0, :16] = 255
    loss = stage.training_step({"image": image, "labels": labels, "name": ["a", "b"]}, 0)
    output, autoencoder = stage.segmenter.network(image), stage.segmenter.autoencoder
    targets = TargetEncoder()(autoencoder, labels, output.pixel_logits)
    divergence = token_divergence(output.prior, targets)
    pixels = pixel_loss(output.pixel_logits, labels)
    assert loss.item() == pytest.approx((0.8 * divergence + 0.2 * pixels).item(), rel=1e-5)
    assert logged["train/token_divergence"].item() == pytest.approx(divergence.item(), rel=1e-5)
    assert logged["train/pixel_loss"].item() == pytest.approx(pixels.item(), rel=1e-5)


def test_every_part_of_the_loss_is_counted_by_its_weight(trained, monkeypatch):
    """With all of them at once, by definitions of their own; the divergence in the log is the plain one."""
    stage, logged = copy.deepcopy(trained.module).eval(), {}
    stage.log = lambda name, value, **settings: logged.update({name: value})
    stage.log_dict = lambda values, **settings: logged.update(values)
    counted = {"class_weights": torch.rand(19) + 0.5, "token_weights": torch.rand(32) + 0.5}
    stage.criterion = ConditioningLoss(token_weight=0.5, pixel_weight=0.3, label_weight=0.7, focal=1.5, **counted)
    image, labels = torch.rand(2, 3, 32, 64), torch.randint(19, (2, 32, 64))
    labels[0, :16] = 255
    loss = stage.training_step({"image": image, "labels": labels, "name": ["a", "b"]}, 0)
    output, autoencoder = stage.segmenter.network(image), stage.segmenter.autoencoder
    targets = TargetEncoder()(autoencoder, labels, output.pixel_logits)
    surprise = -output.prior.logits().log_softmax(1).gather(1, targets.tokens[:, None])[:, 0][targets.token_valid]
    counts = stage.criterion.token_weights[targets.tokens[targets.token_valid]]
    minimised = (counts * (1 - (-surprise).exp()) ** 1.5 * surprise).mean()
    pixels = pixel_loss(output.pixel_logits, labels, counted["class_weights"])
    expected = autoencoder.decode_scores(output.prior, "expected")
    shown = label_loss(autoencoder, expected, labels, counted["class_weights"])
    assert loss.item() == pytest.approx((0.5 * minimised + 0.3 * pixels + 0.7 * shown).item(), rel=1e-5)
    assert logged["train/loss"].equal(loss)
    assert logged["train/token_divergence"].item() == pytest.approx((counts * surprise).mean().item(), rel=1e-5)
    assert logged["train/label_loss"].item() == pytest.approx(shown.item(), rel=1e-5)


@pytest.mark.parametrize(
    "choices",
    [
        ("stage.ignore_policy=masked", "stage.focal=2.0"),
        ("stage.ignore_policy=filled", "stage.posterior.name=smoothed", "stage.class_balance=0.5"),
        ("stage.ignore_policy=both", "stage.fill_warmup=1", "stage.posterior.name=soft", "stage.label_weight=0.5"),
    ],
)
def test_choices_of_targets_and_losses_train(run_tiny, tmp_path, monkeypatch, choices):
    policies, made = [], TargetEncoder.forward

    def watched(encoder, autoencoder, labels, pixel_logits, step):
        policies.append("masked" if step < encoder.fill_warmup else encoder.ignore_policy)
        targets = made(encoder, autoencoder, labels, pixel_logits, step)
        assert targets.candidates.shape[-1] == {"soft": 8, "smoothed": 9}.get(settings["posterior"]["name"], 1)
        return targets

    monkeypatch.setattr(TargetEncoder, "forward", watched)
    settings = {"posterior": {"name": dict(c.split("=") for c in choices).get("stage.posterior.name", "one_hot")}}
    run = run_tiny(tmp_path, *CONDITIONING, *choices)
    configured = choices[0].partition("=")[2]
    begun = "masked" if "stage.fill_warmup=1" in choices else configured
    assert policies[:2] == [begun, configured]
    assert set(policies[2:]) == {configured}
    assert TrainedSegmenter.load(run.folder / LAST).config["stage"]["ignore_policy"] == configured
    assert 0 <= run.figures["val/miou"] <= 1


def test_a_checkpoint_from_before_these_choices_is_evaluated_all_the_same(trained, compose_run, tmp_path):
    checkpoint = read_checkpoint(trained.folder / LAST)
    for key in ("fill_warmup", "posterior", "label_weight", "inverse_weight", "focal"):
        del checkpoint["gss"]["config"]["stage"][key]
    checkpoint["gss"]["config"]["stage"]["ignore_policy"] = "filled"
    save_checkpoint(checkpoint, tmp_path / "old.ckpt")
    found = evaluate(compose_run(tmp_path, f"checkpoint={tmp_path / 'old.ckpt'}", name="evaluate"))
    assert found["miou"] == pytest.approx(trained.figures["val/miou"], abs=1e-6)


def test_the_loss_is_exactly_zero_when_the_prior_is_the_posterior(trained):
    autoencoder, labels = trained.module.segmenter.autoencoder, torch.randint(19, (2, 32, 64))
    nothing = torch.zeros(2, 19, 32, 64)
    targets = TargetEncoder()(autoencoder, labels, nothing)
    one_hot = torch.nn.functional.one_hot(targets.tokens, autoencoder.tokenizer.vocab_size).movedim(-1, 1)
    posterior = TokenScores.from_logits(one_hot.float().mul(1000))
    assert token_divergence(posterior, targets).item() == 0


def test_panel_rows_show_what_was_generated(trained):
    stage, image = trained.module.eval(), torch.rand(3, 3, 32, 64)
    labels = torch.randint(19, (3, 32, 64))
    with torch.no_grad():
        rows = stage.panel_rows({"image": image, "labels": labels, "name": ["a", "b", "c"]}, 2)
        expected = stage.segmenter(image[:2], "expected")
    assert [row.name for row in rows] == ["a", "b"]
    assert rows[1].predicted_labels.equal(expected.labels()[1])
    assert rows[1].decoded_maskige.equal(expected.maskige()[1])
    assert rows[1].class_probs.sum(0).sub(1).abs().max() < 1e-5


@pytest.mark.parametrize("head", ["pixel_bilinear", "pixel_subpixel"])
def test_the_pixel_twin_needs_no_stage_one(run_tiny, tmp_path, head):
    run = run_tiny(tmp_path, *CONDITIONING, f"head={head}", "prior=nowhere.safetensors")
    assert run.figures["val/miou"] == run.figures["val/pixel/miou"]
    assert not {"val/ceiling", "val/expected/miou"} & run.figures.keys()
    twin = TrainedSegmenter.load(run.folder / LAST)
    assert (twin.ceiling, twin.prior, twin.readout(None)) == (None, None, "pixel")
    row = run.module.panel_rows(
        {"image": torch.rand(1, 3, 32, 64), "labels": torch.zeros(1, 32, 64).long(), "name": ["a"]}, 1
    )
    assert row[0].maskige is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tokenizer.stride=4", r"tokenizer\.stride is 8 .* 4 "),
        ("tokenizer.vocab_size=64", r"tokenizer\.vocab_size is 32 .* 64 "),
        ("tokenizer=vqvae", r"tokenizer\.name is 'patches' .*'vqvae'"),
        ("prior=nowhere.safetensors", r"prior=.*nowhere.safetensors: run `python -m gss\.train stage=prior`"),
        ("stage.readout=expcted", r"unknown readout='expcted': one of pixel, argmax, expected"),
        ("stage.ignore_policy=fill", r"stage\.ignore_policy='fill': one of both, masked, filled"),
        ("stage.fill_warmup=-1", r"stage\.fill_warmup=-1 must be a number of steps"),
        ("stage.posterior.name=hard", r"stage\.posterior\.name='hard': one of one_hot, soft, smoothed"),
        ("stage.focal=-1", r"stage\.focal=-1 must not be negative"),
        ("stage.label_weight=-1", r"stage\.label_weight=-1 must not be negative"),
        ("stage.class_balance=2", r"stage\.class_balance must lie in \[0, 1\], got 2"),
        ("head.token=tie", r"head\.token='tie': one of tied, free"),
        ("head.pixel=bilinaer", r"head\.pixel='bilinaer': one of bilinear, subpixel, pyramid"),
        ("head.pixel=subpixel", r"head\.pixel_evidence=true needs head\.pixel=bilinear or pyramid, got .*=subpixel"),
        ("head.tie=code", r"head\.tie='code': one of decoded, codes"),
        ("head.vocabulary=all", r"head\.vocabulary='all': one of full, used"),
        ("backbone.name=resnet81", r"backbone\.name='resnet81': nearest are .*resnet18"),
        ("backbone.frozen_stages=5", r"backbone\.frozen_stages=5: expected 0 \(nothing\) to 4"),
        (
            "fusion.window_size=5",
            r"data\.size=\[32, 64\] gives a grid of 4x8 tokens.*fusion\.window_size=5: set .*=4, .* 40 pix",
        ),
        ("maskige.scale=2", r"maskige\.scale is 1 in the artefact but 2 in the configuration"),
    ],
)
def test_what_cannot_be_is_refused_before_the_first_step(run_tiny, tmp_path, keep, override, message):
    with pytest.raises(ValueError, match=message):
        run_tiny(tmp_path, "stage=conditioning", override, callbacks=(keep,))
    assert keep.steps == 0


@pytest.fixture(scope="module")
def few_codes(run_tiny, tmp_path_factory):
    """A VQ-VAE of 64 codes after two steps, of which maskiges use a few, and the overrides that name it."""
    prior = tmp_path_factory.mktemp("few") / "p.safetensors"
    vqvae = ("tokenizer=vqvae", "tokenizer.vocab_size=64", "tokenizer.hidden=8", f"prior={prior}")
    run_tiny(prior.parent, "stage=prior", *vqvae)
    return vqvae


@pytest.mark.parametrize("head", [("head=tied",), ("head=tied", "head.tie=codes"), ("head=free",)])
def test_a_head_for_used_tokens_is_restored_as_it_was(run_tiny, tmp_path, few_codes, head, caplog):
    with caplog.at_level("INFO"):
        run = run_tiny(tmp_path, *CONDITIONING, *few_codes, *head, "head.vocabulary=used", "head.guard=0.5")
    segmenter, checkpoint = run.module.segmenter.eval(), torch.load(run.folder / LAST, weights_only=True)
    kept, autoencoder = segmenter.network.token_head.vocabulary.tokens, segmenter.autoencoder
    data = instantiate(checkpoint["gss"]["config"]["data"])

    def labelled_tokens(split):
        """The tokens of cells of 8x8 pixels that are not ignored altogether."""
        for labels in data.label_batches(split):
            cells = labels.view(len(labels), 4, 8, 8, 8).movedim(2, 3).flatten(3)
            yield from autoencoder.encode(labels)[(cells != 255).any(-1)].tolist()

    used = set(labelled_tokens("train"))
    assert len(kept) == run.figures["rows"] == checkpoint["gss"]["rows"] == len(used) + round(len(used) / 2) < 64
    assert f"head: {len(kept)} of 64 tokens have a row ({len(used)} used, " in caplog.text
    assert used <= set(kept.tolist())
    outside = np.mean([token not in kept for token in labelled_tokens("val")])
    assert run.figures["val/outside_vocabulary"] == pytest.approx(outside, abs=1e-6)
    restored, image = restore_segmenter(checkpoint), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        for readout in ("argmax", "expected"):
            assert restored(image, readout).class_probs().equal(segmenter(image, readout).class_probs())
        assert restored.network(image).prior.features.equal(segmenter.network(image).prior.features)


def test_where_all_tokens_occur_a_head_for_used_ones_is_the_full_one(run_tiny, tmp_path):
    full, used = (
        run_tiny(tmp_path / word, "stage=conditioning", f"head.vocabulary={word}", "tokenizer.vocab_size=32")
        for word in ("full", "used")
    )
    assert used.figures["rows"] == len(full.module.segmenter.network.token_head.bias)
    assert used.module.segmenter.network.token_head.vocabulary is None
    assert "val/outside_vocabulary" not in used.figures
    weights = full.module.segmenter.state_dict()
    assert all(weights[name].equal(tensor) for name, tensor in used.module.segmenter.state_dict().items())


def test_both_tokenizers_feed_stage_two(run_tiny, tmp_path):
    vqvae = ("tokenizer=vqvae", "tokenizer.vocab_size=16", "tokenizer.hidden=8", f"prior={tmp_path / 'p.safetensors'}")
    run_tiny(tmp_path, "stage=prior", *vqvae)
    run = run_tiny(tmp_path, *CONDITIONING, *vqvae)
    restored = restore_segmenter(torch.load(run.folder / LAST, weights_only=True))
    segmenter, image = run.module.segmenter.eval(), torch.rand(1, 3, 32, 64)
    with torch.no_grad():
        assert restored(image).class_probs().equal(segmenter(image).class_probs())
    held = load_autoencoder(PriorArtefact.load(tmp_path / "p.safetensors")).state_dict()
    assert all(tensor.equal(held[name]) for name, tensor in segmenter.autoencoder.state_dict().items())


class Terminate(Callback):
    """Sends this process SIGTERM after the first step, as a scheduler does."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGTERM)


def test_a_terminated_training_does_not_pass_for_a_finished_one(run_tiny, tmp_path, caplog):
    with pytest.raises(SystemExit) as stop:
        run_tiny(tmp_path, *CONDITIONING, "max_steps=2", callbacks=(Terminate(),))
    assert stop.value.code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 1 of 2" in caplog.text
