"""Two processes of one run, the trials of a sweep, and commands from a folder that is not ours."""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import warnings
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import OmegaConf
from PIL import Image

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.cli.configuration import instantiate
from gss.data.dataset import SegmentationDataset
from gss.evaluate import evaluate
from gss.objectives.targets import token_valid
from gss.runs.label_generator import LabelGenerator
from gss.token_model.masked import random_masks
from gss.train import train

KEPT = ("callbacks=default", "callbacks.panels=null")


class Rank(NamedTuple):
    """What one of the processes left: what its work returned, what it printed, and the warnings it gave."""

    result: dict
    said: str
    warned: list[str]


def work_as_rank(number, port, folder, work):
    """The body of a process: Lightning's variables are set as its launcher sets them, and the report is a file."""
    names = {"LOCAL_RANK": number, "NODE_RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in names.items()}
    torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
    with (folder / f"{number}.txt").open("w") as sys.stdout, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        result = work()
    report = {"result": result, "warned": [str(warning.message) for warning in warned]}
    (folder / f"{number}.json").write_text(json.dumps(report))


def on_two_processes(folder, work):
    """Forks two processes, which need not import anything again, and gives the reports of both."""
    importlib.import_module("gss.runs.evaluation")  # the commands import it late, which would then be in both
    folder.mkdir()
    context, port = multiprocessing.get_context("fork"), find_free_network_port()
    pair = [context.Process(target=work_as_rank, args=(number, port, folder, work)) for number in range(2)]
    for process in pair:
        process.start()
    for process in pair:
        process.join(timeout=120)
        process.kill()
    assert [process.exitcode for process in pair] == [0, 0]
    return [
        Rank(said=(folder / f"{number}.txt").read_text(), **json.loads((folder / f"{number}.json").read_text()))
        for number in range(2)
    ]


SPLITS = {"val": 3, "test": 2}  # an odd number of scenes: one process has one more; and an even one
TOKEN_MODEL = (  # two steps of a tiny one
    "token_model=masked",
    "token_model.width=16",
    "token_model.depth=1",
    "token_model.max_steps=2",
)


@pytest.fixture(scope="module")
def distributed(compose_tiny, compose_run, tmp_path_factory):
    """Both stages and the evaluation of two splits, each on two processes; gives their reports and the checkpoint."""
    folder = tmp_path_factory.mktemp("distributed")
    prior, checkpoint = f"prior={folder / 'prior.safetensors'}", folder / "conditioning/checkpoints/last.ckpt"
    runs = {
        stage: compose_tiny(folder / stage, f"stage={stage}", "hardware=ddp_cpu", prior, *KEPT, *more)
        for stage, more in (("prior", TOKEN_MODEL), ("conditioning", ()))
    }
    asked = (f"checkpoint={checkpoint}", "hardware=ddp_cpu")
    for split in SPLITS:
        runs[split] = compose_run(folder / split, *asked, f"split={split}", name="evaluate")
    asked = (prior, "hardware=ddp_cpu", "mode=reconstruction")
    runs["reconstruction"] = compose_run(folder / "reconstruction", *asked, name="evaluate")

    def work():
        return {name: (train if "stage" in config else evaluate)(config) for name, config in runs.items()}

    return on_two_processes(folder / "said", work), checkpoint


def test_both_processes_come_to_the_same_figures(distributed):
    (first, second), checkpoint = distributed
    assert json.dumps(first.result) == json.dumps(second.result)  # as text, so that nan equals nan
    assert first.result["conditioning"]["checkpoint"] == str(checkpoint)
    assert first.result["conditioning"]["val/ceiling"] == first.result["prior"]["val/ceiling"]


@pytest.mark.parametrize("split", SPLITS)
def test_figures_of_two_processes_are_those_of_one(distributed, compose_run, tmp_path, split):
    ranks, checkpoint = distributed
    alone = evaluate(compose_run(tmp_path, f"checkpoint={checkpoint}", f"split={split}", name="evaluate"))
    assert ranks[0].result[split] == alone
    if split == "val":
        assert ranks[0].result["conditioning"]["val/miou"] == pytest.approx(alone["miou"], abs=1e-7)  # float32


@pytest.mark.slow
def test_sets_and_conditions_are_pooled_over_both_processes(
    compose_tiny, compose_run, tiny_prior, tiny_checkpoint, tiny_scenes, elsewhere, weather, tmp_path
):
    """Three scenes and two, of which one process sees all the fog and the other all the night; every figure alike."""
    given = ("data=synthetic", "data.num_workers=0", *tiny_scenes, elsewhere)
    segmentation, reconstruction = (f"checkpoint={tiny_checkpoint}",), (f"prior={tiny_prior}", "mode=reconstruction")

    def evaluations(folder, *hardware):
        return [
            compose_run(folder / str(number), *asked, *given, *hardware, name="evaluate")
            for number, asked in enumerate((segmentation, reconstruction))
        ]

    kept = (f"prior={tiny_prior}", elsewhere, "hardware=ddp_cpu", *KEPT)
    training, together = (
        compose_tiny(tmp_path / "training", "stage=conditioning", *kept),
        evaluations(tmp_path / "together", "hardware=ddp_cpu"),
    )
    first, second = on_two_processes(tmp_path / "said", lambda: [train(training), *map(evaluate, together)])
    assert json.dumps(first.result) == json.dumps(second.result)
    assert [message for message in first.warned + second.warned if "sync_dist" in message or "update" in message] == []
    trained, segmented, reconstructed = first.result
    assert [segmented, reconstructed] == [evaluate(config) for config in evaluations(tmp_path / "alone")]
    assert {"boundary_iou", "ece", "nll", "brier", "auroc", "aupr", "harmonic_mean"} <= segmented.keys()
    assert segmented["conditions"].keys() == reconstructed["datasets"]["other"]["conditions"].keys() == set(weather)

    asked = (f"checkpoint={trained['checkpoint']}", "data=synthetic", "data.num_workers=0", *tiny_scenes, elsewhere)
    alone = evaluate(compose_run(tmp_path / "alone" / "trained", *asked, name="evaluate"))
    for key in ("miou", "boundary_f3", "condition_mean", "harmonic_mean"):
        assert trained[f"val/{key}"] == pytest.approx(alone[key], abs=1e-7)  # float32
    night = alone["datasets"]["other"]["conditions"]["night"]["miou"]
    assert trained["val/other/night/miou"] == pytest.approx(night, abs=1e-7)


def test_two_processes_draw_the_reconstructions_of_one(distributed, compose_run, tmp_path):
    (first, _), checkpoint = distributed
    prior, together = first.result["prior"]["prior"], checkpoint.parents[2] / "reconstruction"
    alone = evaluate(compose_run(tmp_path, f"prior={prior}", "mode=reconstruction", name="evaluate"))
    assert first.result["reconstruction"] == alone
    for name in ("palette", "codebook", "worst_reconstructions"):
        assert (together / f"{name}.png").read_bytes() == (tmp_path / f"{name}.png").read_bytes()


def test_codes_are_counted_over_both_processes(distributed, compose_tiny, tmp_path):
    (first, _), _ = distributed
    autoencoder = load_autoencoder(PriorArtefact.load(first.result["prior"]["prior"]))
    datamodule = instantiate(compose_tiny(tmp_path, "stage=prior").data)
    labels = torch.cat(list(datamodule.label_batches("val")))
    tokens = autoencoder.encode(labels)[token_valid(labels, 8)]
    expected = len(tokens.unique()) / autoencoder.tokenizer.vocab_size
    assert first.result["prior"]["val/codebook_usage"] == pytest.approx(expected)


@pytest.mark.slow
def test_colours_and_inverse_are_trained_on_two_processes_after_the_tokenizer(compose_tiny, tmp_path):
    """DDP waits for the gradient of every weight that learns, so each training must reach all of its own."""
    small = ("tokenizer=vqvae", "tokenizer.hidden=8", "tokenizer.num_blocks=1", "maskige.inverse.hidden=4")
    given = ("stage=prior", "maskige=tt", *small, "hardware=ddp_cpu", f"prior={tmp_path / 'prior.safetensors'}", *KEPT)
    config = compose_tiny(tmp_path / "run", *given)
    first, second = on_two_processes(tmp_path / "said", lambda: train(config))
    assert json.dumps(first.result) == json.dumps(second.result)
    artefact = PriorArtefact.load(tmp_path / "prior.safetensors")
    assert artefact.ceiling == first.result["val/ceiling"]
    assert artefact.state["inverse.correction.output.weight"].any()


def test_nats_per_masked_token_are_pooled_over_both_processes(distributed):
    (first, _), _ = distributed
    label_generator, nats = LabelGenerator.load(first.result["prior"]["prior"]), []
    labels = torch.cat(list(instantiate(label_generator.data).label_batches("val")))
    for number, tokens in enumerate(label_generator.tokens(labels)):
        masked = random_masks(1, label_generator.model.grid, torch.Generator().manual_seed(number))[0]
        with torch.no_grad():
            logits = label_generator.model(tokens.masked_fill(masked, label_generator.model.mask_token)[None])[0]
        nats.append(torch.nn.functional.cross_entropy(logits[:, masked].T, tokens[masked], reduction="none"))
    assert first.result["prior"]["val/token_nll"] == pytest.approx(torch.cat(nats).mean().item(), abs=1e-4)


def test_only_the_first_process_tells_and_nothing_is_warned_of_pooling(distributed):
    (first, second), _ = distributed
    assert first.said.count("metrics: ") == len(SPLITS) + 1  # and the reconstruction
    assert second.said == ""
    assert [message for message in first.warned + second.warned if "sync_dist" in message] == []


def test_processes_of_different_configurations_stop(compose_tiny, tmp_path):
    configs = [compose_tiny(tmp_path / str(n), "stage=prior", "hardware=ddp_cpu", f"seed={n}") for n in range(2)]

    def work():
        with pytest.raises(ValueError, match=r"processes of this run have different configurations: \['\w+', '\w+'\]"):
            train(configs[int(os.environ["LOCAL_RANK"])])
        return {}

    assert [rank.result for rank in on_two_processes(tmp_path / "said", work)] == [{}, {}]


def test_a_loss_that_is_not_finite_stops_both_processes_alike(compose_tiny, tiny_prior, tmp_path, monkeypatch):
    read = SegmentationDataset.__getitem__

    def broken(self, request):
        sample = read(self, request)
        if getattr(request, "number", 0) == 7:  # of the second process, in the second step
            sample["image"][:] = float("nan")
        return sample

    monkeypatch.setattr(SegmentationDataset, "__getitem__", broken)
    config = compose_tiny(tmp_path / "run", "stage=conditioning", "hardware=ddp_cpu", f"prior={tiny_prior}", *KEPT)

    def work():
        with pytest.raises(ValueError, match=r"^the loss of step 2 is nan with .*largest gradient of the last") as stop:
            train(config)
        return {"said": str(stop.value)}

    first, second = on_two_processes(tmp_path / "said", work)
    assert first.result == second.result
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.slow
def test_two_processes_have_one_average(compose_tiny, tiny_prior, tmp_path):
    given = ("hardware=ddp_cpu", f"prior={tiny_prior}", "callbacks=ema", "callbacks.panels=null", "max_steps=3")
    config = compose_tiny(tmp_path / "run", "stage=conditioning", *given)
    first, second = on_two_processes(tmp_path / "said", lambda: train(config))
    assert json.dumps(first.result) == json.dumps(second.result)
    kept = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert kept["averaging_state"]["n_averaged"] == 3
    name = "segmenter.network.fusion.norm.weight"
    assert not kept["state_dict"][name].equal(kept["current_model_state"][name])


@pytest.mark.slow
def test_a_command_starts_the_second_process_itself(start, tiny_scenes, tiny_network, compose_run, tmp_path):
    tiny, run = (*tiny_scenes, *tiny_network, *KEPT, "hardware=ddp_cpu"), tmp_path / "run"
    for stage in ("prior", "conditioning"):
        ended = start("train", f"stage={stage}", *tiny, f"hydra.run.dir={run}")
        assert ended.returncode == 0, ended.stderr
        told = ended.stdout + ended.stderr
        assert told.count("Starting with 2 processes") == 1
        assert "sync_dist" not in told
    result = json.loads((run / "result.json").read_text())
    alone = evaluate(compose_run(tmp_path / "alone", f"checkpoint={result['checkpoint']}", name="evaluate"))
    assert result["val/miou"] == pytest.approx(alone["miou"], abs=1e-7)


@pytest.mark.slow
def test_a_sweep_goes_on_after_a_trial_that_fails_and_names_it(start, tiny_scenes, tiny_network, tmp_path):
    tiny, sweep = (*tiny_scenes, *tiny_network), tmp_path / "sweep"
    swept = ("maskige.scale=2", "tokenizer.stride=8,7,16", f"hydra.sweep.dir={sweep}")  # 7 pixels are no 3.5 twice
    ended = start("train", "-m", "stage=prior", *tiny, *swept)
    assert ended.returncode == 1
    assert re.search(r"^error: 1 of the sweep's runs failed: 1 \(.*tokenizer\.stride=7.*\)$", ended.stderr, re.M)
    strides = [OmegaConf.load(sweep / str(trial) / "config.yaml").tokenizer.stride for trial in range(3)]
    assert strides == [8, 7, 16]
    assert [(sweep / str(trial) / "result.json").is_file() for trial in range(3)] == [True, False, True]
    fine, coarse = (json.loads((sweep / trial / "result.json").read_text())["objective"] for trial in "02")
    assert fine > coarse  # longer patches say less: each trial had its own value
    trials = json.loads((sweep / "sweep.json").read_text())
    assert [trial["varied"] for trial in trials] == [{"tokenizer.stride": stride} for stride in ("8", "7", "16")]
    assert [trial["result"].get("val/ceiling") for trial in trials] == [fine, None, coarse]
    assert trials[1]["error"] == "maskige.scale=2 must be a positive divisor of tokenizer.stride=7"
    told = re.findall(r"trial (\d): (.*)$", ended.stdout, re.M)  # one closing line each
    assert [number for number, _ in told] == ["0", "1", "2"]
    assert told[1][1] == f"failed: {trials[1]['error']}"
    assert (sweep / "sweep.md").read_text().startswith("| trial | tokenizer.stride | mIoU |")


STEPS = "{_target_: lightning.pytorch.callbacks.ModelCheckpoint, dirpath: %s, every_n_train_steps: 1, save_top_k: -1}"


@pytest.mark.slow
def test_a_run_is_resumed_from_another_folder(start, compose_tiny, tiny_scenes, tiny_network, tiny_prior, tmp_path):
    work, each_step = tmp_path / "work", f"+callbacks.steps={STEPS % tmp_path}"
    straight = train(compose_tiny(tmp_path / "straight", "stage=conditioning", f"prior={tiny_prior}", each_step))
    shutil.copy(tiny_prior, work / "prior.safetensors")
    shutil.copy(tmp_path / "epoch=0-step=1.ckpt", work / "half.ckpt")
    given = ("stage=conditioning", "prior=prior.safetensors", "resume=half.ckpt", *KEPT)
    ended = start("train", *tiny_scenes, *tiny_network, *given)
    assert ended.returncode == 0, ended.stderr
    (last,) = (work / "outputs").rglob("last.ckpt")  # beside the one who asked, not beside the source
    assert f"checkpoint {last}\n" in ended.stdout
    assert "training 1/2 steps" not in ended.stdout  # the first step is not taken again
    result = json.loads((last.parents[1] / "result.json").read_text())
    assert result["val/miou"] == straight["val/miou"]


@pytest.mark.slow
def test_a_broken_image_is_named_and_the_others_are_predicted(start, tiny_checkpoint, tmp_path):
    folder, random = tmp_path / "work" / "images", np.random.default_rng(0)
    folder.mkdir()
    for name, mode in {"grey.jpg": "L", "bare.jpg": "RGB", "alpha.png": "RGBA"}.items():  # none has EXIF data
        Image.fromarray(random.integers(0, 256, (40, 56, 3), np.uint8)).convert(mode).save(folder / name)
    whole = (folder / "bare.jpg").read_bytes()
    (folder / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    ended = start("predict", f"checkpoint={tiny_checkpoint}", "input=images", "output=pictures")
    assert ended.returncode == 2
    assert re.search(r"^error: 1 of 4 images were left out: .*broken\.jpg", ended.stderr, re.M)
    for kind in ("labels", "maskige", "overlay"):
        written = {path.name for path in (tmp_path / "work" / "pictures" / kind).iterdir()}
        assert written == {"grey.png", "bare.png", "alpha.png"}
