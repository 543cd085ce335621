"""Every file in conf/ is executed: training choices run two steps, the others are built."""

from __future__ import annotations

import pytest

from gss.configuration import config_dir, instantiate, instantiate_each, to_plain

TRAINED = [  # options that run two steps of stage=conditioning on the drawn scenes
    "backbone=regnety_002",
    "backbone=resnet18",
    "head=tied",
    "head=free",
    "head=pixel_bilinear",
    "head=pixel_subpixel",
    "optim=adamw",
    "optim=sgd",
    "fusion=lean",
    "hardware=cpu",
    "callbacks=default",
    "callbacks=none",
    "logger=csv",
    "logger=none",
    "logger=tensorboard",
    "debug=fast",
    "debug=overfit",
    "experiment=demo",
    "experiment=demo_pixel",
]
COMPOSED = [  # too large, of other hardware, or of data that is not here: composed, and built where that is cheap
    "backbone=resnet50",
    "backbone=swin_tiny",
    "backbone=convnext_tiny",
    "fusion=paper",
    "hardware=gpu",
    "hardware=ddp",
    "hardware=ddp_cpu",
    "logger=wandb",
    "experiment=camvid_cpu",
    "experiment=camvid_cpu_pixel",
    "data=cityscapes",
    "data=camvid",
    "data=folder",
]
ELSEWHERE = {  # run by every test of this file, or by tests/stages
    "data/synthetic", "data/base", "maskige/ff", "tokenizer/patches", "tokenizer/vqvae", "stage/prior",
    "stage/conditioning", "paths/default", "hydra/help/gss", "config", "evaluate", "predict",
}  # fmt: skip


def test_no_config_file_is_left_out():
    files = {str(path.relative_to(config_dir()).with_suffix("")) for path in config_dir().rglob("*.yaml")}
    assert files == {option.replace("=", "/") for option in TRAINED + COMPOSED} | ELSEWHERE


@pytest.mark.parametrize("option", TRAINED)
def test_two_steps_run(option, compose_tiny, tiny_prior, tmp_path, monkeypatch):
    from gss.train import train

    monkeypatch.chdir(tmp_path)
    small = [] if option.startswith("backbone") else ["backbone=regnety_002"]
    result = train(compose_tiny(tmp_path, option, "stage=conditioning", f"prior={tiny_prior}", *small))
    assert 0 <= result["val/miou"] <= 1


@pytest.mark.parametrize("option", COMPOSED)
def test_it_composes_and_its_parts_are_built(option, compose_run, tmp_path):
    names = ["data.root=.", "data.label_space.names=[road,car]"] if option == "data=folder" else []
    config = compose_run(tmp_path, "stage=conditioning", option, *names)
    assert to_plain(config)["stage"]["name"] == "conditioning"
    assert instantiate(config.data).name == config.data.name
    assert instantiate(config.optim).max_steps == config.max_steps
    assert instantiate_each(config.callbacks)


@pytest.mark.parametrize("backbone", ["swin_tiny", "convnext_tiny", "resnet50"])
def test_a_backbone_gives_a_pyramid(backbone, compose_run, tmp_path):
    import torch

    from gss.networks.backbone import TimmBackbone

    network = TimmBackbone(**to_plain(compose_run(tmp_path, "stage=conditioning", f"backbone={backbone}"))["backbone"])
    with torch.inference_mode():
        maps = network.eval()(torch.rand(1, 3, 64, 64))
    assert [level.shape[-1] for level in maps] == [16, 8, 4, 2]


@pytest.mark.slow
def test_wandb_runs_offline(compose_tiny, tiny_prior, tmp_path, monkeypatch):
    from gss.train import train

    for key, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(key, value)
    train(compose_tiny(tmp_path, "stage=conditioning", f"prior={tiny_prior}", "backbone=regnety_002", "logger=wandb"))
    assert list(tmp_path.rglob("offline-run-*"))
