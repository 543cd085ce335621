"""Every file of conf/ is composed and used; a file that no test names is itself a failure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from PIL import Image

from drawn_layouts import draw_acdc, draw_ade20k, draw_cityscapes, draw_mseg
from gss.assembly.build import build_segmenter
from gss.cli.configuration import config_dir, instantiate, instantiate_each, to_plain
from gss.runs.training import build_trainer
from gss.train import train

# group -> options that are trained for two steps
TRAINED = {
    "stage": ["prior", "conditioning"],
    "tokenizer": ["patches", "patches_context", "vqvae", "vqvae_fsq", "vqvae_lfq", "dalle", "vqgan", "kl"],
    "maskige": ["ff", "ff_random", "ff_dataset", "ft", "tf", "tt", "ft_w"],
    "token_model": ["none", "masked"],
    "backbone": ["resnet18", "regnety_002"],
    "fusion": ["lean"],
    "head": ["tied", "free", "paper", "pixel_bilinear", "pixel_subpixel"],
    "optim": ["adamw", "sgd"],
    "hardware": ["cpu"],
    "callbacks": ["none", "default", "ema"],
    "inference": ["whole", "window", "own"],
    "logger": ["none", "csv", "tensorboard", "wandb"],
    "data": [
        "synthetic",
        "cityscapes",
        "camvid",
        "folder",
        "ade20k",
        "cityscapes_coarse",
        "acdc",
        "mseg",
        "mseg_test",
    ],
    "debug": ["fast", "overfit"],
    "experiment": [
        "camvid_cpu",
        "camvid_cpu_pixel",
        "camvid_full",
        "camvid_full_pixel",
        "camvid_ceiling_stride4",
        "camvid_ceiling_stride8",
        "camvid_ceiling_context",
        "demo",
        "demo_pixel",
        "maskige_variants",
    ],
}
HEAVY = {"backbone": ["convnext_tiny", "resnet50", "swin_tiny"], "fusion": ["paper"]}  # built, and run once at 64x64
LARGE = {  # built and run without numbers: shapes are checked, memory and time are not spent
    "backbone": {  # channels of each level
        "resnet101": [256, 512, 1024, 2048],
        "hrnet_w48": [48, 96, 192, 384],
        "swin_large": [192, 384, 768, 1536],
        "convnext_large": [192, 384, 768, 1536],
        "pvt_v2_b2": [64, 128, 320, 512],
        "pvt_v2_b5": [64, 128, 320, 512],
        "dinov2_base": [192, 384, 768, 768],
        "dinov2_large": [256, 512, 1024, 1024],
        "dinov3_base": [192, 384, 768, 768],
        "dinov3_large": [256, 512, 1024, 1024],
        "eva02": [192, 384, 768, 768],
        "eva02_large": [256, 512, 1024, 1024],
    }
}
ELSEWHERE = {  # used by tests of another file
    "data/cityscapes_to_acdc": "tests/conf/test_data_configs.py",
    "data/adverse/drawn": "tests/conf/test_data_configs.py",
    "data/folder_adverse": "tests/test_evaluate.py",
    "data/camvid_adverse": "tests/scripts/test_adverse_results.py",
    "hardware/gpu": "tests/conf/test_configs.py",
    "hardware/ddp": "tests/conf/test_configs.py",
    "hardware/ddp_cpu": "tests/test_processes.py",
    "evaluate": "tests/test_evaluate.py",
    "verify": "tests/runs/test_data_verification.py",
    "cache": "tests/runs/test_data_caching.py",
    "predict": "tests/test_predict.py",
    "sample": "tests/test_sample.py",
    "hydra/help/gss": "tests/cli/test_command_line.py",
    **{
        f"experiment/{path.stem}": "tests/conf/test_published_experiments.py"
        for path in config_dir().glob("experiment/gss_*.yaml")
    },
}
BELOW_OTHERS = {  # parts of the runs above
    "_hydra",
    "config",
    "paths/default",
    "data/_base",
    "backbone/_base",
    "experiment/_base_paper",
    "experiment/_base_paper_cityscapes",
    "experiment/_base_paper_ade20k",
    "experiment/_base_modern",
}


def test_no_file_is_left_out():
    root = config_dir()
    every = {path.relative_to(root).with_suffix("").as_posix() for path in root.rglob("*.yaml")}
    named = {
        f"{group}/{option}"
        for groups in (TRAINED, HEAVY, LARGE)
        for group, options in groups.items()
        for option in options
    }
    assert every == named | ELSEWHERE.keys() | BELOW_OTHERS
    assert all((Path(__file__).parents[2] / test).is_file() for test in ELSEWHERE.values())


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two pairs per split in CamVid's layout and in that of data=folder: 40x60, ids 0-10 and 11 or 255 = ignored."""
    root, random = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    layouts = {"camvid": ("{}", "{}annot", 11), "folder": ("images/{}", "labels/{}", 255)}
    for layout, (images, labels, ignored) in layouts.items():
        for split in ("train", "val", "test"):
            for folder, picture in ((images, (40, 60, 3)), (labels, (40, 60))):
                (root / layout / folder.format(split)).mkdir(parents=True)
                for number in range(2):
                    if len(picture) == 3:
                        pixels = random.integers(0, 256, picture, np.uint8)
                    else:
                        blocks = random.choice(np.array([*range(11), ignored], np.uint8), (5, 6))
                        pixels = blocks.repeat(8, 0).repeat(10, 1)
                    Image.fromarray(pixels).save(root / layout / folder.format(split) / f"{number}.png")
    return root


LAYOUTS = {
    "cityscapes_coarse": lambda root: (
        draw_cityscapes(root, {"train_extra": 2}, "gtCoarse"),
        draw_cityscapes(root, {"val": 1}),
    ),
    "acdc": lambda root: draw_acdc(root, {"train": 1, "val": 1}),
    "ade20k": lambda root: draw_ade20k(root, {"train": 6, "val": 3}),
    "mseg": draw_mseg,
    "mseg_test": draw_mseg,
}


def own_data(option, images, street_scenes):
    """What a data set needs besides its file, at the tiny size."""
    if option in LAYOUTS:
        LAYOUTS[option](images / option)
        words = {
            "mseg_test": ["data.label_space.dataset=wilddash-19"],
            "ade20k": ["maskige=ff_random"],  # 150 colours far apart take a while
        }
        return [f"data={option}", f"data.root={images / option}", *words.get(option, [])]
    roots = {"cityscapes": street_scenes, **{name: images / name for name in ("camvid", "folder")}}
    names = ["data.label_space.names=[a,b,c,d,e,f,g,h,i,j,k]"] if option == "folder" else []
    return [f"data={option}", f"data.root={roots[option]}", *names]


def run_both(compose, folder, *overrides):
    """Stage one and then stage two, from nothing."""
    prior = f"prior={folder / 'prior.safetensors'}"
    first = train(compose(folder / "one", *overrides, "stage=prior", prior))
    config = compose(folder / "two", *overrides, "stage=conditioning", prior)
    second = train(config)
    assert 0 <= first["val/ceiling"] <= 1
    assert 0 < first["val/codebook_usage"] <= 1 <= first["val/codebook_perplexity"]
    assert 0 <= second["val/miou"] <= 1
    assert config.data.native or second["val/ceiling"] == first["val/ceiling"]  # stage one is measured at data.size


@pytest.mark.parametrize("option", TRAINED["stage"])
def test_stages_run(compose_tiny, tmp_path, tiny_prior, option):
    prior = tmp_path / "p.safetensors" if option == "prior" else tiny_prior
    assert train(compose_tiny(tmp_path, f"stage={option}", f"prior={prior}"))["objective"] >= 0


CHOICES = ("head", "optim", "hardware", "fusion", "inference")


@pytest.mark.parametrize("choice", [f"{group}={option}" for group in CHOICES for option in TRAINED[group]])
def test_choices_train(compose_tiny, tmp_path, tiny_prior, choice):
    assert 0 <= train(compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", choice))["val/miou"] <= 1


VQVAE = ("tokenizer=vqvae", "tokenizer.hidden=8", "tokenizer.num_blocks=1")  # learned colours need its gradients


@pytest.mark.parametrize("option", TRAINED["maskige"])
def test_maskiges_train(compose_tiny, tmp_path, option):
    run_both(compose_tiny, tmp_path, f"maskige={option}", *(VQVAE if option in ("tf", "tt") else ()))


def test_a_maskige_at_twice_the_size_of_odd_images_trains(compose_tiny, tmp_path):
    run_both(compose_tiny, tmp_path, "maskige.scale=2", "data.size=[30,61]")


@pytest.mark.parametrize("option", TRAINED["tokenizer"])
def test_tokenizers_train(compose_tiny, tmp_path, tiny_dvae, option):
    if option in ("vqgan", "kl"):
        pytest.importorskip("diffusers", reason="needs the extra: pip install 'gss[diffusers]'")
    chosen = (f"tokenizer={option}", *(tiny_dvae if option == "dalle" else ()))
    run_both(compose_tiny, tmp_path, *chosen)
    lean = ("stage=conditioning", f"prior={tmp_path / 'prior.safetensors'}", "head.tie=codes", "head.vocabulary=used")
    figures = train(compose_tiny(tmp_path / "lean", *chosen, *lean))
    assert 0 <= figures["val/miou"] <= 1
    assert 1 <= figures["rows"] <= 32


@pytest.mark.parametrize("option", TRAINED["token_model"])
def test_token_models_train(compose_tiny, tmp_path, option):
    few = ["token_model.max_steps=2", "token_model.val_every=2"] if option == "masked" else []
    given = ("stage=prior", f"prior={tmp_path / 'prior.safetensors'}", f"token_model={option}", *few)
    assert ("val/token_nll" in train(compose_tiny(tmp_path, *given))) == (option == "masked")


@pytest.mark.parametrize("option", TRAINED["backbone"])
def test_light_backbones_train(compose_tiny, tmp_path, tiny_prior, option):
    name = f"backbone.name={option}"  # the tiny run names another one
    config = compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", f"backbone={option}", name)
    assert 0 <= train(config)["val/miou"] <= 1


@pytest.mark.parametrize(
    ("group", "option"), [(group, option) for group, options in HEAVY.items() for option in options]
)
def test_heavy_networks_are_built_and_answer(compose_run, tmp_path, group, option):
    config = to_plain(compose_run(tmp_path, "stage=conditioning", "head=pixel_bilinear", f"{group}={option}"))
    twin = build_segmenter(config, num_classes=19, autoencoder=None).eval()
    with torch.no_grad():
        assert twin(torch.rand(1, 3, 64, 64), "pixel").class_probs().shape == (1, 19, 64, 64)


@pytest.mark.parametrize("option", LARGE["backbone"])
@torch.no_grad()
def test_large_backbones_are_built_and_keep_their_shapes(compose_run, tmp_path, option):
    config = to_plain(compose_run(tmp_path, "stage=conditioning", "head=pixel_bilinear", f"backbone={option}"))
    with torch.device("meta"):
        twin = build_segmenter(config, num_classes=19, autoencoder=None).eval()
        levels = []
        twin.network.backbone.register_forward_hook(lambda *given: levels.extend(given[-1]))
        assert twin(torch.rand(1, 3, 70, 101), "pixel").class_probs().shape == (1, 19, 70, 101)
    backbone = twin.network.backbone
    assert [level.shape[1] for level in levels] == LARGE["backbone"][option] == backbone.channels
    assert backbone.strides == [4, 8, 8, 8] if option == "resnet101" else backbone.strides == [4, 8, 16, 32]
    assert backbone.origin == "random initialisation"


@pytest.mark.parametrize("option", [option for option in TRAINED["data"] if option != "synthetic"])
def test_data_sets_train(compose_run, tiny_network, tmp_path, images, street_scenes, option):
    data = own_data(option, images, street_scenes)
    run_both(lambda run, *more: compose_run(run, *tiny_network, *data, "data.size=[32,64]", *more), tmp_path)


def test_drawn_scenes_need_nothing(compose_run, tiny_network, tmp_path):
    few = [f"data.splits.{split}.num_scenes=2" for split in ("train", "val")]
    small = ["data.size=[32,64]", "data.splits.train.size=[32,64]"]
    run_both(lambda run, *more: compose_run(run, *tiny_network, *few, *small, *more), tmp_path)


@pytest.mark.parametrize("option", TRAINED["experiment"])
def test_experiments_train(compose_run, tiny_network, tmp_path, images, street_scenes, option):
    if option.startswith("camvid"):
        data = [f"data.root={images / 'camvid'}", "data.size=[32,64]", "hardware=cpu"]
    else:
        data = [f"data.root={street_scenes}", "data.size=[32,64]", "data.splits.train.size=[64,128]"]
        data += ["data.splits.train.num_scenes=6", "data.splits.val.num_scenes=3"]

    def compose(run, *more):
        return compose_run(run, f"experiment={option}", *tiny_network, *data, *more)

    if option.endswith("pixel"):
        assert train(compose(tmp_path))["val/miou"] >= 0  # the stage is the experiment's own
    elif "ceiling" in option:
        windows = ["stage.windows.side=16"] if option.endswith("context") else []
        assert (
            0
            <= train(compose(tmp_path, "stage=prior", f"prior={tmp_path / 'p.safetensors'}", *windows))["val/ceiling"]
            <= 1
        )
    else:
        run_both(compose, tmp_path)


@pytest.mark.parametrize("option", TRAINED["debug"])
def test_debugging_aids_train(compose_run, tiny_network, tmp_path, street_scenes, tiny_prior, option):
    scenes = ["data.splits.train.size=[64,128]", "data.splits.train.num_scenes=6", "data.splits.val.num_scenes=3"]
    steps = [] if option == "fast" else ["max_steps=2", "val_every=2"]
    network = [
        override for override in tiny_network if not override.startswith(("max_steps", "val_every", "callbacks"))
    ]
    base = [
        "stage=conditioning",
        f"debug={option}",
        *network,
        f"data.root={street_scenes}",
        "data.size=[32,64]",
        *scenes,
    ]
    config = compose_run(tmp_path, *base, f"prior={tiny_prior}", *steps)
    assert config.max_steps == 2
    assert train(config)["val/miou"] >= 0


@pytest.mark.parametrize("option", TRAINED["callbacks"])
def test_callbacks_leave_what_they_should(compose_tiny, tmp_path, tiny_prior, option):
    train(compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", f"callbacks={option}"))
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} - {"config.yaml"}
    kept = {f"checkpoints/{name}.ckpt{more}" for name in ("best", "last") for more in ("", ".sha256")}
    assert left == ({*kept, "per_class.csv", "panels/step_000002.png"} if option != "none" else set())


LOGGERS = {
    "none": [],
    "csv": [CSVLogger],
    "tensorboard": [CSVLogger, TensorBoardLogger],
    "wandb": [CSVLogger, WandbLogger],
}


@pytest.mark.parametrize("option", TRAINED["logger"])
def test_loggers_take_what_a_run_says(compose_tiny, tmp_path, tiny_prior, monkeypatch, option):
    for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    panels = "+callbacks.panels={_target_: gss.callbacks.panels.PanelCallback, num_rows: 1}"
    more = [panels] if option in ("tensorboard", "wandb") else []
    config = compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", f"logger={option}", *more)
    assert [type(logger) for logger in instantiate_each(config.logger)] == LOGGERS[option]
    train(config)
    if option != "none":
        header = (tmp_path / "metrics.csv").read_text().splitlines()[0].split(",")
        assert {"val/miou", "val/expected/miou", "val/ceiling", "step"} <= set(header)
    kinds = {"tensorboard": "tensorboard/events*", "wandb": "wandb/offline-run-*/*.wandb"}
    if option in kinds:
        assert [path.stat().st_size > 0 for path in tmp_path.glob(kinds[option])] == [True]


@pytest.mark.parametrize("option", ["gpu", "ddp"])
def test_a_missing_gpu_is_said_with_the_way_out(compose_tiny, tmp_path, option):
    config = to_plain(compose_tiny(tmp_path, "stage=prior", f"hardware={option}"))
    if torch.cuda.is_available():
        assert build_trainer(config, [], []).precision == "bf16-mixed"
        return
    with pytest.raises(
        ValueError, match=r"hardware\.accelerator=gpu, but no CUDA device was found: choose hardware=cpu"
    ):
        build_trainer(config, [], [])


@pytest.mark.parametrize("option", TRAINED["optim"])
def test_optimisers_are_the_named_ones(compose_tiny, tmp_path, option):
    optimisation = instantiate(compose_tiny(tmp_path, "stage=conditioning", f"optim={option}").optim)
    optimizer, _ = optimisation.build(torch.nn.Linear(2, 2))
    assert type(optimizer).__name__.lower() == option
    assert optimisation.max_steps == 2
