"""Fixtures that several rooms share: real images when they are at hand, drawn ones always."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar

from toy_stage import loader

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

    listed = SyntheticPairs.__call__

    def in_weather(self: SyntheticPairs) -> list[Any]:
        return [pair._replace(condition=("fog", "night")[n % 2]) for n, pair in enumerate(listed(self))]

    monkeypatch.setattr(SyntheticPairs, "__call__", in_weather)
    return ("fog", "night")


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of somebody who set nothing of ours; compiled modules are kept for the session."""
    ours = ("GSS_", "HYDRA_", "PYTHONDONTWRITEBYTECODE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    compiled = str(tmp_path_factory.mktemp("compiled"))
    return {**kept, "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONPYCACHEPREFIX": compiled, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(tmp_path: Path, stranger: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function that runs `python -m gss.COMMAND ...` in the folder `work` and returns how it ended."""
    work = tmp_path / "work"
    work.mkdir()

    def started(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", f"gss.{command}", *arguments]
        return subprocess.run(words, capture_output=True, text=True, cwd=work, env=stranger, timeout=600)

    return started


class Run(NamedTuple):
    """What a run left: its figures, its module, its folder."""

    figures: dict[str, Any]
    module: LightningModule
    folder: Path


class Keep(Callback):
    """Holds on to the module, and counts steps and validations."""

    def __init__(self):
        self.module, self.steps, self.validations = None, 0, 0

    def setup(self, trainer, pl_module, stage):
        self.module = pl_module

    def on_train_batch_end(self, *arguments):
        self.steps += 1

    def on_validation_end(self, *arguments):
        self.validations += 1


@pytest.fixture(scope="session")
def run_tiny(compose_tiny, tiny_prior) -> Callable[..., Run]:
    """Give a function that composes and runs a stage on the drawn scenes, with more callbacks if wished."""

    from gss.cli.configuration import instantiate, instantiate_each, to_plain
    from gss.runs.run import run_stage
    from gss.runs.training import RunParts

    def run(folder: Path, *overrides: str, callbacks: tuple[Callback, ...] = ()) -> Run:
        config = compose_tiny(folder, f"prior={tiny_prior}", *overrides)
        keep = Keep()
        parts = RunParts(
            datamodule=instantiate(config.data),
            optimisation=instantiate(config.optim),
            callbacks=[*instantiate_each(config.callbacks), keep, *callbacks],
            loggers=instantiate_each(config.logger),
        )
        return Run(run_stage(to_plain(config), parts), keep.module, folder)

    return run


@pytest.fixture
def keep() -> Keep:
    """A second counter, for what a test wants to count by itself."""
    return Keep()


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Give trainers of 4 steps with a validation after each second one, nothing logged unless asked."""

    def make(**settings: Any) -> Trainer:
        defaults: dict[str, Any] = {
            "max_steps": 4,
            "val_check_interval": 2,
            "check_val_every_n_epoch": None,
            "num_sanity_val_steps": 0,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": any(isinstance(c, ProgressBar) for c in settings.get("callbacks", [])),
            "enable_model_summary": False,
            "log_every_n_steps": 1,
            "default_root_dir": tmp_path,
        }
        return Trainer(**{**defaults, **settings})

    return make


@pytest.fixture
def fit() -> Callable[[Trainer, LightningModule], None]:
    """Run a trainer on drawn images: 8 in pairs for training, 3 for validation."""
    return lambda trainer, module: trainer.fit(module, loader(8), loader(3))
