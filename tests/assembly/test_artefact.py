from __future__ import annotations

import copy
import os
from pathlib import Path

import pytest
import safetensors.torch
import torch

from gss.assembly.artefact import PriorArtefact

DESCRIPTION = {
    "classes": ["road", "car"],
    "palette": "max_distance",
    "temperature": 900,
    "tokenizer": {"name": "patches", "stride": 8, "vocab_size": 64},
    "data": "drawn",
    "size": [64, 128],
}
STATE = {"tokenizer.class_probs": torch.rand(3, 2, 4, 4), "transform.colours": torch.rand(3, 3)[1:]}


@pytest.fixture
def path(tmp_path):
    """An artefact in a folder that did not exist."""
    PriorArtefact(DESCRIPTION, 0.875, STATE).save(tmp_path / "new" / "drawn.safetensors")
    return tmp_path / "new" / "drawn.safetensors"


def test_what_was_saved_is_what_is_loaded(path):
    loaded = PriorArtefact.load(path)
    assert loaded.description == DESCRIPTION
    assert loaded.ceiling == 0.875
    assert {name: tensor.tolist() for name, tensor in loaded.state.items()} == {
        name: tensor.tolist() for name, tensor in STATE.items()
    }


def changed(keys, value):
    """The description with one entry replaced."""
    description = copy.deepcopy(DESCRIPTION)
    node = description
    for key in keys[:-1]:
        node = node[key]
    node[keys[-1]] = value
    return description


@pytest.mark.parametrize(
    ("keys", "value", "key", "found"),
    [
        (["classes"], ["road", "bus"], "data.label_space.names", r"\['road', 'car'\].*\['road', 'bus'\]"),
        (["classes"], ["car", "road"], "data.label_space.names", r"\['road', 'car'\].*\['car', 'road'\]"),
        (["palette"], "grid", "maskige.palette", "'max_distance'.*'grid'"),
        (["inverse"], {"name": "nearest"}, "maskige.inverse", r"\{'name': 'soft_distance'\}.*\{'name': 'nearest'\}"),
        (["native_probs"], False, "maskige.native_probs", "True.*False"),
        (["assignment"], "confusion_aware", "maskige.assignment", "'class_order'.*'confusion_aware'"),
        (["tokenizer", "name"], "vqvae", "tokenizer.name", "'patches'.*'vqvae'"),
        (["tokenizer", "stride"], 4, "tokenizer.stride", "8.*4"),
        (["tokenizer", "vocab_size"], 1024, "tokenizer.vocab_size", "64.*1024"),
    ],
)
def test_another_configuration_is_refused_with_key_and_both_values(path, keys, value, key, found):
    with pytest.raises(ValueError, match=rf"{key} is {found}.*stage=prior"):
        PriorArtefact.load(path).check_matches(changed(keys, value))


def test_every_difference_is_named_at_once(path):
    other = changed(["tokenizer"], {"name": "patches", "stride": 4, "vocab_size": 32})
    with pytest.raises(ValueError, match=r"tokenizer\.stride is 8 .* 4 .*tokenizer\.vocab_size is 64 .* 32 "):
        PriorArtefact.load(path).check_matches(other)


@pytest.mark.parametrize(("keys", "value"), [(["data"], "other"), (["size"], [32, 32]), (["temperature"], 100)])
def test_what_does_not_change_the_meaning_of_tokens_may_differ(path, keys, value):
    PriorArtefact.load(path).check_matches(changed(keys, value))


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"prior=.*none\.safetensors: run `python -m gss\.train stage=prior`"):
        PriorArtefact.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize("cut", [0, 5, 100, -1])
def test_a_cut_off_file_is_refused(path, cut):
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"prior=.*drawn\.safetensors is damaged.*stage=prior again"):
        PriorArtefact.load(path)


def test_bytes_of_another_kind_are_refused(path):
    path.write_bytes(b"PNG and so on" * 100)
    with pytest.raises(ValueError, match="is damaged"):
        PriorArtefact.load(path)


@pytest.mark.parametrize("metadata", [None, {"gss": "{}"}, {"gss": "[1]"}, {"gss": '{"format": "gss-prior/0"}'}])
def test_tensors_of_another_program_are_refused(path, metadata):
    safetensors.torch.save_file(STATE, path, metadata)
    with pytest.raises(ValueError, match="is not a stage-one artefact"):
        PriorArtefact.load(path)


def test_a_header_that_is_no_json_is_refused(path):
    safetensors.torch.save_file(STATE, path, {"gss": "{"})
    with pytest.raises(ValueError, match="is damaged"):
        PriorArtefact.load(path)


@pytest.mark.parametrize("moment", ["write", "flush", "rename"])
def test_an_interrupted_write_leaves_the_older_file_and_no_rest(path, monkeypatch, moment):
    def full(*arguments, **settings):
        raise OSError(28, "No space left on device")

    place = {"write": (Path, "write_bytes"), "flush": (os, "fsync"), "rename": (os, "replace")}[moment]
    monkeypatch.setattr(*place, full)
    with pytest.raises(OSError, match="No space left"):
        PriorArtefact(DESCRIPTION, 0.1, STATE).save(path)
    monkeypatch.undo()
    assert PriorArtefact.load(path).ceiling == 0.875
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_kill_in_the_middle_of_the_write_leaves_the_older_file(path, monkeypatch):
    def half(file, content):
        with open(file, "wb") as stream:
            stream.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(KeyboardInterrupt):
        PriorArtefact(DESCRIPTION, 0.1, STATE).save(path)
    assert PriorArtefact.load(path).ceiling == 0.875
