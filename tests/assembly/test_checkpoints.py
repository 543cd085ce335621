from __future__ import annotations

import os

import pytest
import torch

from gss.assembly.checkpoints import TrainedSegmenter


def test_a_checkpoint_tells_what_it_was_trained_for(tiny_checkpoint):
    trained = TrainedSegmenter.load(tiny_checkpoint)
    assert trained.label_space.num_classes == 19
    assert trained.size == (32, 64)
    assert trained.prior["tokenizer"]["name"] == "patches"
    assert 0 < trained.ceiling < 1
    assert not trained.segmenter.training


def test_the_trained_readout_is_taken_unless_another_is_wished(tiny_checkpoint):
    trained = TrainedSegmenter.load(tiny_checkpoint)
    assert trained.readout(None) == "expected"
    assert trained.readout("argmax") == "argmax"
    with pytest.raises(ValueError, match="unknown readout='argmin': one of pixel, argmax, expected"):
        trained.readout("argmin")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"no checkpoint=.*none\.ckpt: give the last\.ckpt"):
        TrainedSegmenter.load(tmp_path / "none.ckpt")


def rewritten(checkpoint, tmp_path, change):
    content = torch.load(checkpoint, weights_only=True)
    change(content)
    torch.save(content, tmp_path / "changed.ckpt")
    return tmp_path / "changed.ckpt"


def test_a_cut_off_file_is_refused(tiny_checkpoint, tmp_path):
    (tmp_path / "cut.ckpt").write_bytes(tiny_checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"cut\.ckpt"):
        TrainedSegmenter.load(tmp_path / "cut.ckpt")


def test_weights_of_another_program_are_refused(tiny_checkpoint, tmp_path):
    path = rewritten(tiny_checkpoint, tmp_path, lambda content: content.pop("gss"))
    with pytest.raises(ValueError, match="the checkpoint is of another program"):
        TrainedSegmenter.load(path)


def test_a_checkpoint_of_stage_one_is_refused(tiny_checkpoint, tmp_path):
    path = rewritten(tiny_checkpoint, tmp_path, lambda content: content["gss"].update(stage="prior"))
    with pytest.raises(ValueError, match="the checkpoint is of stage=prior: give checkpoint=PATH"):
        TrainedSegmenter.load(path)


@pytest.mark.parametrize("part", ["network.pixel_head", "autoencoder.tokenizer"])
def test_weights_that_are_missing_are_named_and_not_made_up(tiny_checkpoint, tmp_path, part):
    def drop(content):
        for name in [name for name in content["state_dict"] if part in name]:
            del content["state_dict"][name]

    with pytest.raises(ValueError, match=part.split(".")[1]):
        TrainedSegmenter.load(rewritten(tiny_checkpoint, tmp_path, drop))


class Payload:
    """Makes a folder when it is unpickled by a careless reader."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_nothing_in_a_checkpoint_is_executed(tiny_checkpoint, tmp_path):
    path = rewritten(
        tiny_checkpoint, tmp_path, lambda content: content.update(more=Payload(str(tmp_path / "executed")))
    )
    with pytest.raises(ValueError, match="was refused"):
        TrainedSegmenter.load(path)
    assert not (tmp_path / "executed").exists()
