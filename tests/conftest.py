"""Fixtures that several rooms share: real images when they are at hand, drawn ones always."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def camvid_root() -> Path:
    """Give the folder of the real CamVid images; skip where there are none."""
    named = os.environ.get("GSS_DATA")
    root = (Path(named) if named else REPOSITORY.parent / "shared" / "data") / "camvid"
    if not (root / "train").is_dir():
        pytest.skip(f"CamVid is not in '{root}'; put it there, or set GSS_DATA to the folder that holds camvid/")
    return root


@pytest.fixture(scope="session")
def street_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw a tiny data set in the Cityscapes layout: 6 train, 3 val and 2 test scenes of 64x128 pixels."""
    from gss.data.synthetic import SyntheticPairs

    root = tmp_path_factory.mktemp("scenes")
    for split, num_scenes in (("train", 6), ("val", 3), ("test", 2)):
        SyntheticPairs(root, split, num_scenes, (64, 128), seed=0)()
    return root


TINY = (  # a run in seconds: drawn scenes at a quarter of the area, a narrow network, two steps, nothing kept
    "data.size=[32,64]",
    "data.splits.train.size=[64,128]",
    "data.splits.train.num_scenes=6",
    "data.splits.val.num_scenes=3",
    "data.splits.test.num_scenes=2",
)
NARROW = (
    "backbone.name=test_resnet",  # timm's own for tests: half a million weights
    "data.batch_size=2",
    "data.num_workers=0",
    "tokenizer.vocab_size=32",
    "fusion.level_channels=8",
    "fusion.channels=16",
    "fusion.num_heads=2",
    "fusion.window_size=4",
    "max_steps=2",
    "maskige.max_steps=2",
    "val_every=2",
    "logger=none",
    "callbacks=none",
)


@pytest.fixture(scope="session")
def tiny_network() -> tuple[str, ...]:
    """Give the overrides that make any training a matter of seconds, whatever its data."""
    return NARROW


@pytest.fixture(scope="session")
def tiny_scenes(street_scenes: Path) -> tuple[str, ...]:
    """Give the overrides that make the drawn scenes the data of a run."""
    return (f"data.root={street_scenes}", *TINY)


@pytest.fixture(scope="session")
def compose_run() -> Callable[..., DictConfig]:
    """Give a function that composes a command's configuration as the command does, saved file included."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from gss.cli.configuration import config_dir, register_resolvers

    def composed(run: Path, *overrides: str, name: str = "config") -> DictConfig:
        register_resolvers()
        folders = [f"paths.run={run}", f"paths.outputs={run}"]
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            config = compose(name, [*folders, *overrides])
        run.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, run / "config.yaml", resolve=True)
        saved: Any = OmegaConf.load(run / "config.yaml")
        OmegaConf.set_struct(saved, True)
        return saved

    return composed


@pytest.fixture(scope="session")
def compose_tiny(
    compose_run: Callable[..., DictConfig], tiny_scenes: tuple[str, ...], tiny_network: tuple[str, ...]
) -> Callable[..., DictConfig]:
    """Give a function that composes a tiny training run on the drawn scenes."""

    def composed(run: Path, *overrides: str) -> DictConfig:
        return compose_run(run, *tiny_scenes, *tiny_network, *overrides)

    return composed


@pytest.fixture(scope="session")
def tiny_prior(compose_tiny: Callable[..., DictConfig], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run stage=prior once on the drawn scenes and give its artefact: stride 8, at most 32 patches."""
    from gss.train import train

    return Path(train(compose_tiny(tmp_path_factory.mktemp("prior"), "stage=prior"))["prior"])


@pytest.fixture(scope="session")
def tiny_checkpoint(
    compose_tiny: Callable[..., DictConfig], tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Run one step of stage=conditioning on the drawn scenes and give its checkpoint."""
    from gss.train import train

    kept = ("callbacks=default", "callbacks.panels=null", "max_steps=1")
    folder = tmp_path_factory.mktemp("conditioning")
    return Path(train(compose_tiny(folder, "stage=conditioning", f"prior={tiny_prior}", *kept))["checkpoint"])


@pytest.fixture(scope="session")
def tiny_dvae(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Convert a tiny dVAE, pickled as OpenAI's is, and give the overrides that make it `tokenizer=dalle`."""
    from gss.tokenizer.dalle_conversion import convert_dalle
    from published_dvae import Sizes, save_published

    folder = tmp_path_factory.mktemp("dvae")
    save_published(folder, Sizes(vocab_size=32))
    convert_dalle(folder, folder / "dalle.safetensors", {})
    sizes = ("tokenizer.hidden=8", "tokenizer.code_dim=6", "tokenizer.num_blocks=1", "tokenizer.usage_pictures=3")
    return (f"tokenizer.weights={folder / 'dalle.safetensors'}", *sizes)


@pytest.fixture(scope="session")
def draw_labels() -> Callable[..., Tensor]:
    """Give a function that draws label maps of overlapping rectangles: (B, H, W) int64, [0, K) or 255."""
    import torch

    def drawn(batch: int, size: tuple[int, int], num_classes: int, seed: int = 0, ignored: bool = False) -> Tensor:
        random = np.random.default_rng(seed)
        labels = np.zeros((batch, *size), np.int64)
        for picture in labels:
            for number in range(12):
                top, left = random.integers(0, size[0]), random.integers(0, size[1])
                height, width = random.integers(2, size[0]), random.integers(2, size[1])
                hidden = ignored and number % 4 == 3
                value = 255 if hidden else random.integers(0, num_classes)
                picture[top : top + height, left : left + width] = value
        return torch.from_numpy(labels)

    return drawn


@pytest.fixture(scope="session")
def elsewhere(street_scenes: Path) -> str:
    """Give the override that adds the two test scenes to validation, as a data set named `other`."""
    made = (
        "{_target_: gss.data.synthetic.SyntheticPairs, root: %s, split: test, num_scenes: 2, size: [64,128], seed: 0}"
    )
    settings = ", ".join(
        (
            "_target_: gss.data.datamodule.SegmentationDataModule",
            "name: other, size: [32,64], batch_size: 1, num_workers: 0",
            "label_space: {_target_: gss.data.cityscapes.cityscapes_labels}",
            "augmentation: {_target_: gss.data.transforms.Augmentation}",
            "splits: {val: %s}" % (made % street_scenes),
        )
    )
    return f"+data.elsewhere={{other: {{{settings}}}}}"


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Give every other drawn scene fog and the rest night, and say so."""
    from gss.data.synthetic import SyntheticPairs

    listed = SyntheticPairs.listed

    def in_weather(self: SyntheticPairs) -> list[Any]:
        return [pair._replace(condition=("fog", "night")[n % 2]) for n, pair in enumerate(listed(self))]

    monkeypatch.setattr(SyntheticPairs, "listed", in_weather)
    return ("fog", "night")
