"""The rows of the paper's tables, and those with newer backbones: what they say, and two steps of each, made small."""

from __future__ import annotations

import pytest

from gss.cli.configuration import config_dir, to_plain
from gss.inference import build_inference
from gss.train import train

ROWS = {  # backbone, d, depth of the fusion, whether the auxiliary head learns, whether an inverse learns; as printed
    "gss_ff_r101_cityscapes": ("resnet101c", 4, 6, True, False, "77.76"),
    "gss_ff_swin_large_cityscapes": ("swin_large_patch4_window12_384.ms_in22k", 4, 2, True, False, "78.90"),
    "gss_ft_w_r101_cityscapes": ("resnet101c", 4, 6, True, True, "78.46"),
    "gss_ft_w_swin_large_cityscapes": ("swin_large_patch4_window12_384.ms_in22k", 4, 2, True, True, "80.05"),
    "gss_ff_swin_large_ade20k": ("swin_large_patch4_window12_384.ms_in22k", 4, 2, True, False, "46.29"),
    "gss_ft_w_swin_large_ade20k": ("swin_large_patch4_window12_384.ms_in22k", 4, 2, True, True, "48.54"),
    "gss_ablation_stride8": ("swin_large_patch4_window12_384.ms_in22k", 8, 0, False, False, "40.64"),
    "gss_ablation_stride8_aux": ("swin_large_patch4_window12_384.ms_in22k", 8, 0, True, False, "43.72"),
    "gss_ablation_stride4_aux": ("swin_large_patch4_window12_384.ms_in22k", 4, 0, True, False, "43.98"),
    "gss_ablation_full": ("swin_large_patch4_window12_384.ms_in22k", 4, 2, True, False, "46.29"),
}
RECIPES = {  # section 4.1 and the released configurations: crop, images a step, steps, learning rate
    "cityscapes": (768, 16, 80_000, 1.5e-3),
    "ade20k": (512, 32, 160_000, 1.2e-4),
}
MODERN = ("gss_convnext_large_cityscapes", "gss_dinov2_large_cityscapes", "gss_dinov2_large_ade20k")
SMALL = {  # one row for each kind of backbone; the others, and the ResNet, with timm's own for tests
    "gss_ff_swin_large_cityscapes": "swin_tiny_patch4_window7_224",
    "gss_convnext_large_cityscapes": "test_convnext",
    "gss_dinov2_large_cityscapes": "vit_small_patch14_dinov2",
}


def test_every_row_has_its_file_and_every_file_its_row():
    files = {path.stem for path in (config_dir() / "experiment").glob("gss_*.yaml")}
    assert files == {*ROWS, *MODERN}


@pytest.mark.parametrize("name", [*ROWS, *MODERN])
def test_a_file_opens_with_its_commands_and_what_to_expect(name):
    text = (config_dir() / "experiment" / f"{name}.yaml").read_text()
    opening = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    for stage in ("prior", "conditioning"):
        assert f"#   python -m gss.train stage={stage} experiment={name}" in opening
    assert all(
        word in opening for word in ("Hardware: ", "Hours", "not measured here" if name in MODERN else "Expected")
    )
    assert name in MODERN or f"mIoU {ROWS[name][-1]}" in opening


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_the_published_recipe(compose_run, tmp_path, name):
    config = to_plain(compose_run(tmp_path, "stage=conditioning", f"experiment={name}"))
    backbone, stride, depth, auxiliary, inverse, _ = ROWS[name]
    data, stage, head, optim = (config[group] for group in ("data", "stage", "head", "optim"))
    side, batch, steps, rate = RECIPES[data["name"]]
    assert data["name"] in name or "ablation" in name
    assert data["size"] == [side, side]
    hardware = config["hardware"]
    assert data["batch_size"] * hardware["devices"] * hardware["accumulate_grad_batches"] == batch
    assert (config["max_steps"], optim["optimizer"]["lr"], optim["optimizer"]["weight_decay"]) == (steps, rate, 0.01)
    assert (optim["power"], optim["warmup_steps"], optim["warmup_ratio"]) == (1.0, 1500, 1e-6)
    assert config["backbone"]["name"] == backbone
    assert config["backbone"]["drop_path"] == (0.3 if "swin" in backbone else 0.0)
    assert config["backbone"]["output_stride"] == (8 if backbone == "resnet101c" else None)
    assert config["backbone"]["pretrained"]
    tokenizer, maskige = config["tokenizer"], config["maskige"]
    assert (tokenizer["name"], tokenizer["vocab_size"], tokenizer["stride"] / maskige["scale"]) == (
        "dalle",
        8192,
        stride,
    )
    assert (config["fusion"]["depth"], head["token"], head["hidden"]) == (depth, "free", 2048)
    weights = (stage["token_weight"], stage["pixel_weight"])
    assert (stage["ignore_policy"], weights) == (("both", (0.8, 0.2)) if auxiliary else ("masked", (1.0, 0.0)))
    assert head["pixel"] == "pyramid" or not auxiliary
    assert stage["inverse_weight"] == (1.0 if inverse else 0.0)
    assert maskige["inverse"]["name"] == ("shifted_window" if inverse else "soft_distance")
    assert maskige["palette"] == ("dataset" if data["name"] == "cityscapes" else "max_distance")
    _assert_published_test(config, image=(1024, 2048) if data["name"] == "cityscapes" else (768, 1024))


def _assert_published_test(config, image):
    """Cityscapes in windows of 768 every 512 pixels at native scale, ADE20K whole with a short side of 512; once."""
    assert config["data"]["native"]
    inference = build_inference(config["inference"], tuple(config["data"]["size"]), 4)
    assert (inference.flip, inference.scales, inference.blend) == (False, (1.0,), "uniform")
    if config["data"]["name"] == "cityscapes":
        assert (inference.name, inference.window, inference.step) == ("window", (768, 768), (512, 512))
        assert inference.size(*image) == image
    else:
        assert (inference.name, inference.size(*image)) == ("whole", (512, 683))


@pytest.fixture(scope="module")
def shrunk(compose_run, tiny_scenes, tiny_network, tiny_dvae):
    """A function that composes a row and makes it small, by overrides alone."""
    narrow = [word for word in tiny_network if not word.startswith(("backbone.", "callbacks", "maskige.max_steps"))]
    device = ["hardware=cpu", "hardware.devices=1", "backbone.pretrained=false"]
    device += ["callbacks.panels=null", "callbacks.best=null", "inference.short_side=32"]
    data = ["data=synthetic", *tiny_scenes]

    def compose(folder, name, *more):
        config = compose_run(folder, "stage=conditioning", f"experiment={name}")
        words = [f"backbone.name={SMALL.get(name, 'test_resnet')}"]
        words += ["head.hidden=16"] if config.head.token == "free" else []
        words += tiny_dvae if config.tokenizer.name == "dalle" else []
        return compose_run(folder, f"experiment={name}", *data, *narrow, *device, *words, *more)

    return compose


@pytest.fixture(scope="module")
def artefacts(shrunk, tmp_path_factory):
    """A function that gives the artefact of a row's stage one; rows with the same stage one share it."""
    made, root = {}, tmp_path_factory.mktemp("artefacts")

    def artefact(name):
        prior = root / f"{name}.safetensors"
        config = shrunk(root / name, name, "stage=prior", f"prior={prior}")
        described = repr({group: to_plain(config)[group] for group in ("maskige", "tokenizer", "data")})
        if described not in made:
            made[described] = train(config)["prior"]
        return made[described]

    return artefact


@pytest.mark.parametrize("name", [*ROWS, *MODERN])
def test_a_row_trains(shrunk, artefacts, tmp_path, name):
    given = ("stage=conditioning", f"prior={artefacts(name)}")
    figures = train(shrunk(tmp_path, name, *given))
    assert 0 <= figures["val/miou"] <= 1
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
