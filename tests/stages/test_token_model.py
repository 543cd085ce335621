from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.cli.configuration import instantiate
from gss.runs.label_generator import LabelGenerator
from gss.runs.token_model import token_grids
from gss.stages.token_model import TokenModelStage
from gss.token_model.masked import random_masks

SMALL = ("token_model=masked", "token_model.width=16", "token_model.depth=1", "token_model.batch_size=2")
STEPS = ("token_model.max_steps=3", "token_model.val_every=2")


@pytest.fixture(scope="module")
def trained(run_tiny, tmp_path_factory):
    """The tiny stage one with a token model of three steps: its figures and its artefact."""
    folder = tmp_path_factory.mktemp("token_model")
    run = run_tiny(folder, "stage=prior", *SMALL, *STEPS, f"prior={folder / 'prior.safetensors'}")
    return run.figures, folder / "prior.safetensors"


def test_the_tokenizer_is_the_one_of_a_run_without_a_token_model(trained, tiny_prior):
    with_model, without = PriorArtefact.load(trained[1]), PriorArtefact.load(tiny_prior)
    alone = with_model.without_token_model()
    assert alone.state.keys() == without.state.keys()
    assert all(tensor.equal(without.state[name]) for name, tensor in alone.state.items())
    assert alone.description == without.description
    assert alone.ceiling == without.ceiling
    assert len(with_model.token_model_state()) == len(with_model.state) - len(without.state) > 0
    assert without.token_model_state() == {}


def test_the_autoencoder_is_read_from_an_artefact_with_a_token_model(trained, tiny_prior, draw_labels):
    labels = draw_labels(2, (32, 64), 19)
    first, second = (load_autoencoder(PriorArtefact.load(path)) for path in (trained[1], tiny_prior))
    assert first.encode(labels).equal(second.encode(labels))


def test_nats_per_token_are_those_of_the_saved_model(trained, compose_tiny, tmp_path):
    figures, path = trained
    label_generator, datamodule = LabelGenerator.load(path), instantiate(compose_tiny(tmp_path, "stage=prior").data)
    nats = []
    for number, tokens in enumerate(token_grids(label_generator.autoencoder, datamodule.label_batches("val"))):
        masked = random_masks(1, label_generator.model.grid, torch.Generator().manual_seed(number))[0]
        with torch.no_grad():
            logits = (
                label_generator.model(tokens.masked_fill(masked, label_generator.model.mask_token)[None])[0]
                .double()
                .numpy()
            )
        log_probs = logits - np.log(np.exp(logits).sum(0))
        nats += [-log_probs[tokens[y, x], y, x] for y, x in masked.nonzero().tolist()]
    assert figures["val/token_nll"] == pytest.approx(np.mean(nats), abs=1e-4)
    assert figures["val/token_perplexity"] == pytest.approx(np.exp(np.mean(nats)), rel=1e-3)


def test_training_helps(trained, run_tiny, tmp_path):
    longer = ("token_model.max_steps=40", "token_model.val_every=40", "token_model.learning_rate=0.01")
    run = run_tiny(tmp_path, "stage=prior", *SMALL, *longer, f"prior={tmp_path / 'p.safetensors'}")
    assert run.figures["val/token_nll"] < trained[0]["val/token_nll"] - 0.1


def test_training_maps_are_mirrored_where_images_are(compose_tiny, tmp_path, tiny_prior):
    datamodule = instantiate(compose_tiny(tmp_path, "stage=prior").data)
    autoencoder = load_autoencoder(PriorArtefact.load(tiny_prior))
    plain, both = (token_grids(autoencoder, datamodule.label_batches("train"), mirrored) for mirrored in (False, True))
    labels = torch.cat(list(datamodule.label_batches("train")))
    assert plain.equal(autoencoder.encode(labels))
    assert both.equal(torch.cat([plain, autoencoder.encode(labels.flip(-1))]))


def test_only_masked_tokens_are_learned_from(trained):
    label_generator = LabelGenerator.load(trained[1])
    stage = object.__new__(TokenModelStage)
    torch.nn.Module.__init__(stage)
    stage.model = label_generator.model
    tokens, masked = (
        torch.randint(5, (1, *label_generator.model.grid)),
        torch.zeros(1, *label_generator.model.grid, dtype=torch.bool),
    )
    masked[0, 1, 2] = True
    logits = label_generator.model(tokens.masked_fill(masked, label_generator.model.mask_token))[0, :, 1, 2]
    expected = torch.nn.functional.cross_entropy(logits, tokens[0, 1, 2])
    torch.testing.assert_close(stage._loss(tokens, masked), expected)


def test_stage_two_takes_the_autoencoder_alone(trained, run_tiny, tiny_prior, tmp_path):
    kept = ("callbacks=default", "callbacks.panels=null", "max_steps=1")
    checkpoints = []
    for name, path in {"with": trained[1], "without": tiny_prior}.items():
        run = run_tiny(tmp_path / name, "stage=conditioning", *kept, f"prior={path}")
        checkpoints.append(torch.load(run.figures["checkpoint"], weights_only=True))
    first, second = checkpoints
    assert first["gss"]["prior"] == second["gss"]["prior"]
    assert first["state_dict"].keys() == second["state_dict"].keys()
    assert not [name for name in first["state_dict"] if "token_model" in name]


def test_a_token_model_belongs_to_stage_one(run_tiny, tmp_path):
    with pytest.raises(
        ValueError, match="token_model=masked is trained by stage=prior, on the tokens of labels: leave it out"
    ):
        run_tiny(tmp_path, "stage=conditioning", "token_model=masked")


def test_an_artefact_without_one_says_how_to_get_it(tiny_prior):
    with pytest.raises(ValueError, match=r"no token model to sample from: run .*stage=prior token_model=masked"):
        LabelGenerator.load(tiny_prior)


@pytest.mark.parametrize("tokenizer", ["vqvae", "vqvae_fsq"])
def test_any_tokenizer_can_have_one(run_tiny, tmp_path, tokenizer, draw_labels):
    path = tmp_path / "prior.safetensors"
    narrow = (f"tokenizer={tokenizer}", "tokenizer.vocab_size=16", "tokenizer.hidden=8", "tokenizer.num_blocks=1")
    run_tiny(tmp_path, "stage=prior", *narrow, *SMALL, *STEPS, f"prior={path}")
    label_generator = LabelGenerator.load(path)
    assert label_generator.labels(label_generator.tokens(draw_labels(1, (32, 64), 19))).shape == (1, 32, 64)
