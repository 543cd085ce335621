"""AtomicCheckpointIO: Lightning saves, resumes and removes through the project's own writer and reader."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from gss.runs.training import AtomicCheckpointIO
from toy_stage import ToyStage


def test_lightning_saves_resumes_and_removes_through_it(
    tmp_path: Path,
    make_trainer: Callable[..., pl.Trainer],
    fit: Callable[[pl.Trainer, pl.LightningModule], None],
) -> None:
    keep_one = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=1, save_top_k=1, filename="{step}")
    plugin = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    first = ToyStage()
    fit(make_trainer(max_steps=2, callbacks=[keep_one], **plugin), first)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["step=2.ckpt", "step=2.ckpt.sha256"]
    saved = torch.load(tmp_path / "kept" / "step=2.ckpt", weights_only=True)
    assert torch.equal(saved["state_dict"]["weight"], first.weight)

    second = ToyStage()
    resumed = make_trainer(max_steps=2, **plugin)
    resumed.fit(second, first.trainer.train_dataloader, ckpt_path=tmp_path / "kept" / "step=2.ckpt")
    assert resumed.global_step == 2
    assert torch.equal(second.weight, first.weight)


class Payload:
    """Makes a folder when it is unpickled by a careless reader."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("weights_only", [None, True, False])
def test_a_pickle_that_runs_code_is_refused_whatever_lightning_asks_for(
    tmp_path: Path, weights_only: bool | None
) -> None:
    path, marker = tmp_path / "bad.ckpt", tmp_path / "marker"
    torch.save({"state_dict": Payload(str(marker))}, path)
    with pytest.raises(ValueError, match=r"bad\.ckpt' was refused"):
        AtomicCheckpointIO().load_checkpoint(path, weights_only=weights_only)
    assert not marker.exists()
