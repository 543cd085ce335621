"""`python -m gss.data cache`: what it writes and says, and trainings that read it."""

from __future__ import annotations

import pytest
import torch

from drawn_layouts import draw_image, save
from gss.evaluate import evaluate
from gss.runs.data_caching import cache
from gss.train import train


@pytest.fixture
def run_cache(compose_run, tiny_scenes, tmp_path):
    """Give a function that caches the drawn scenes in this process."""

    def run(*overrides, data=("data=synthetic",)):
        scenes = tiny_scenes if data == ("data=synthetic",) else ()
        return cache(compose_run(tmp_path / "run", *data, *scenes, *overrides, name="cache"))

    return run


def test_a_data_set_is_cached_once_and_gone_on_with(run_cache, tmp_path, capsys):
    result, said = run_cache("pairs_per_shard=4"), capsys.readouterr().out
    folder, length = tmp_path / "run" / "cache" / "synthetic", 4 * 64 * 128 * (6 + 3)
    assert result == {"cache": str(folder), "shards": 3, "bytes": length, "objective": length / 1e9}
    assert "train: 6 pairs in 2 shards, 2 of them written" in said
    assert "val: 3 pairs in 1 shards, 1 of them written" in said
    assert f"train with data.cache={folder}" in said
    (folder / "train" / "00001.bin").unlink()
    assert run_cache("pairs_per_shard=4", "verify=full")["shards"] == 1
    assert run_cache("pairs_per_shard=4", "split=val")["shards"] == 0
    assert run_cache("split=test", f"output={tmp_path / 'other'}")["bytes"] == 4 * 64 * 128 * 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("verify=slow", r"unknown verify='slow': one of quick, full"),
        ("pairs_per_shard=0", r"pairs_per_shard must be a whole number of at least 1, got 0"),
        ("split=trian", r"no split 'trian' in data set 'synthetic'; data\.splits has train, val, test"),
    ],
)
def test_mistakes_are_said(run_cache, words, message):
    with pytest.raises(ValueError, match=message):
        run_cache(words)


def test_data_must_be_named(run_cache):
    with pytest.raises(ValueError, match="say data=NAME"):
        run_cache(data=())


@pytest.fixture
def own_data(tmp_path):
    """One image of class 0 in a folder of its own, and the words that name it."""
    draw_image(tmp_path / "own" / "images" / "train" / "0.png")
    save(tmp_path / "own" / "labels" / "train" / "0.png", torch.zeros(16, 32, dtype=torch.uint8).numpy())
    return (f"data.root={tmp_path / 'own'}", "data=folder", "data.label_space.names=[road,car]")


def test_what_is_not_there_cannot_be_cached(run_cache, own_data):
    assert run_cache("split=train", data=own_data)["bytes"] == 4 * 16 * 32
    with pytest.raises(ValueError, match=r"images/test' does not exist"):
        run_cache("split=test", data=own_data)


def test_training_from_the_cache_is_the_training_from_the_files(run_cache, compose_tiny, tiny_prior, tmp_path):
    folder = run_cache()["cache"]
    weights, given = [], ("stage=conditioning", f"prior={tiny_prior}", "callbacks=default", "callbacks.panels=null")
    for run, cached in (("files", ()), ("cached", (f"data.cache={folder}",))):
        figures = train(compose_tiny(tmp_path / run, *given, *cached))
        weights.append(torch.load(figures["checkpoint"], weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][key], value) for key, value in weights[1].items())


def test_what_was_trained_from_a_cache_is_scored_where_there_is_none(run_cache, compose_tiny, compose_run, tmp_path):
    folder, prior = tmp_path / "scenes_cache", tmp_path / "prior.safetensors"
    run_cache(f"output={folder}")
    train(compose_tiny(tmp_path / "prior", "stage=prior", f"prior={prior}", f"data.cache={folder}"))
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    config = compose_run(tmp_path / "score", "mode=reconstruction", f"prior={prior}", name="evaluate")
    assert 0 <= evaluate(config)["ceiling"] <= 1


def test_a_cache_of_other_classes_stops_a_training(run_cache, compose_run, own_data, tmp_path):
    folder = run_cache("split=train", data=own_data)["cache"]
    words = (*own_data, "data.label_space.ignore_ids=[7,255]", f"data.cache={folder}", "stage=prior")
    with pytest.raises(ValueError, match=r"file id 7 nowhere, .*; run `python -m gss\.data cache data=folder output="):
        train(compose_run(tmp_path / "train", *words))


@pytest.mark.slow
def test_the_shell_caches(start, tiny_scenes, tmp_path):
    ended = start("data", "cache", "data=synthetic", *tiny_scenes, f"output={tmp_path / 'cache'}")
    assert ended.returncode == 0, ended.stderr
    assert f"train with data.cache={tmp_path / 'cache'}" in ended.stdout
    assert (tmp_path / "cache" / "val" / "00000.json").is_file()
    nothing = start("data", "cache")
    assert nothing.returncode == 2
    assert "say data=NAME" in nothing.stderr
