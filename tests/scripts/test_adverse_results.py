"""scripts/adverse_results.py: the page says what was measured; mistakes of the command line are said."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gss.data.adverse import Adverse
from gss.evaluate import evaluate
from gss.train import train

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CONDITIONS = Adverse().conditions
READOUTS = ("expected", "argmax", "pixel")


def load(name):
    """Import a script, which is no part of the package."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def script():
    """Give the module of the script."""
    return load("adverse_results")


def record(mious, readouts, calibration):
    """What is kept of an evaluation, with these figures (readout, condition)."""
    clean = {readout: {"ece": 0.1 * n + calibration, "auroc": 0.9} for n, readout in enumerate(readouts)}
    scored = {
        readout: {
            "ece": 0.2 + 0.1 * n + calibration,
            "auroc": 0.7,
            "conditions": {name: {"miou": float(value)} for name, value in zip(CONDITIONS, mious[n], strict=True)},
        }
        for n, readout in enumerate(readouts)
    }
    return {"readouts": scored, "datasets": {"camvid": {"readouts": clean}}, "minutes": 7.4, "commit": "abc1234"}


def rows(page):
    """Cells of every line of every table, by the first."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page if line.startswith("|")]
    return {first: rest for first, *rest in cells}


def test_means_spreads_and_differences_are_those_of_the_records(script):
    random = np.random.default_rng(0)
    generation, twin = random.uniform(0.3, 0.6, (2, 3, 25)), random.uniform(0.3, 0.6, (2, 25))
    twin[:, 1:4] = generation[:, 0, 1:4] - 0.1  # ahead in all of fog, behind in all of night
    twin[:, 4:7] = generation[:, 0, 4:7] + 0.1
    pairs = [
        script.Pair(record(generation[seed], READOUTS, seed / 100), record(twin[seed : seed + 1], ("pixel",), 0.05))
        for seed in range(2)
    ]
    page = script.page(pairs, [0, 1], "Made up.")
    found = rows(page)
    each = [*(generation[:, n] for n in range(3)), twin, generation[:, 0] - twin]  # columns: (seed, condition)

    def expected(places):
        means = [column[:, places].mean(1) for column in each]
        cells = [f"{100 * mean.mean():.1f} ± {100 * mean.std(ddof=1):.1f}" for mean in means[:4]]
        return [*cells, f"{100 * means[4].mean():+.1f} ± {100 * means[4].std(ddof=1):.1f}"]

    assert found["clean"] == expected([0])
    assert found["fog 1"] == expected([1])
    assert found["sun glare 3"] == expected([CONDITIONS.index("sun_glare-3")])
    assert found["jpeg 3"] == expected([24])
    assert found["**fog, mean**"] == expected([1, 2, 3])
    assert found["**jpeg, mean**"] == expected([22, 23, 24])
    assert found["**all at strength 2, mean**"] == expected(range(2, 25, 3))
    assert found["**all 24, mean**"] == expected(range(1, 25))
    share = twin[:, 1:].mean(1) / twin[:, 0]
    assert found["**all 24, share of clean**"][3] == f"{100 * share.mean():.1f} ± {100 * share.std(ddof=1):.1f}"
    assert len([name for name in found if re.search(r" [123]$", name)]) == 24
    ahead, behind = (int(((sign * each[4][:, 1:]) > 0).all(0).sum()) for sign in (1, -1))
    assert ahead >= 3 <= behind
    text = "\n".join(page)
    assert f"With every seed, generation is ahead of its twin in {ahead} and behind in {behind} of the 24" in text
    assert found["generation, `argmax`"] == ["10.5 ± 0.7", "30.5 ± 0.7", "90.0 ± 0.0", "70.0 ± 0.0"]
    assert "Our stand-in for Cityscapes -> ACDC where no ACDC is at hand." in text
    assert "seeds 0, 1" in text
    assert "Made up." in text
    assert "Evaluated at commit abc1234 on" in text
    assert "7 minutes for a generation" in text


def test_one_seed_has_no_spread(script):
    pair = script.Pair(record(np.full((3, 25), 0.5), READOUTS, 0.0), record(np.full((1, 25), 0.4), ("pixel",), 0.0))
    page = script.page([pair], [3])
    assert rows(page)["rain 2"] == ["50.0", "50.0", "50.0", "40.0", "+10.0"]
    assert "seed 3. " in "\n".join(page)
    assert "one seed, so no spread is known" in "\n".join(page)


@pytest.fixture(scope="module")
def trained(compose_run, tiny_network, tmp_path_factory):
    """Give the folder above CamVid in miniature, and checkpoints of a generation and a pixel twin trained on it."""
    folder, random = tmp_path_factory.mktemp("adverse"), np.random.default_rng(0)
    for split in ("train", "val"):
        for place in (split, f"{split}annot"):
            (folder / "camvid" / place).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(random.integers(0, 256, (32, 40, 3), np.uint8)).save(
                folder / f"camvid/{split}/{number}.png"
            )
            blocks = random.integers(0, 12, (4, 5)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(blocks).save(folder / f"camvid/{split}annot/{number}.png")
    own = (*tiny_network, "data=camvid", f"data.root={folder / 'camvid'}", "data.size=[32,48]")
    prior = f"prior={folder / 'prior.safetensors'}"
    train(compose_run(folder / "prior", *own, "stage=prior", prior))
    kept = (*own, "stage=conditioning", "callbacks=default", "callbacks.panels=null", "max_steps=1")
    paths = [
        Path(train(compose_run(folder / name, *kept, *more))["checkpoint"])
        for name, more in {"generation": [prior], "twin": ["head=pixel_bilinear"], "other": [prior, "seed=5"]}.items()
    ]
    return folder, *paths


@pytest.mark.parametrize(
    ("generation", "twin", "sentence"),
    [
        ([1, 3], [2], "--generation has 2 checkpoints, --twin 1; give one of each per seed"),
        ([2], [2], "is a checkpoint of the pixel twin; give it to --twin"),
        ([1], [1], "is a checkpoint of a generation; give it to --generation"),
        ([3], [2], "has seed 5, .* seed 0; give both lists in the same order"),
        ([0], [2], "no checkpoint="),
    ],
)
def test_mistakes_are_said(script, trained, monkeypatch, capsys, generation, twin, sentence):
    words = ["--generation", *(str(trained[n]) for n in generation), "--twin", *(str(trained[n]) for n in twin)]
    monkeypatch.setattr(sys, "argv", ["adverse_results.py", *words])
    with pytest.raises(SystemExit):
        script.main()
    assert re.search(sentence, capsys.readouterr().err)


@pytest.mark.slow
def test_the_command_evaluates_both_once_and_writes_the_page(script, trained, compose_run, tmp_path, monkeypatch):
    folder, generation, twin, _ = trained
    words = ["--generation", str(generation), "--twin", str(twin), "--output", str(tmp_path / "out"), "--jobs", "2"]
    monkeypatch.setattr(sys, "argv", ["adverse_results.py", *words])
    monkeypatch.setenv("GSS_DATA", str(folder))
    monkeypatch.chdir(tmp_path)
    script.main()
    page = (tmp_path / "docs/results/camvid_adverse.md").read_text().splitlines()
    found = rows(page)
    clean = [
        evaluate(compose_run(tmp_path / path.parts[-3], f"checkpoint={path}", "data=camvid", name="evaluate"))[
            "readouts"
        ]
        for path in (generation, twin)
    ]
    mious = [*(clean[0][readout]["miou"] for readout in READOUTS), clean[1]["pixel"]["miou"]]
    assert found["clean"][:4] == [f"{100 * miou:.1f}" for miou in mious]
    assert found["pixel twin"][0] == f"{100 * clean[1]['pixel']['ece']:.1f}"
    assert found["pixel twin"][2] == f"{100 * clean[1]['pixel']['auroc']:.1f}"
    drawn = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*/record.json")]
    assert [set(one["conditions"]) for one in drawn] == [set(CONDITIONS)] * 2
    monkeypatch.setattr(script, "evaluate", None)  # called, it would fail
    script.main()


def test_the_picture_shows_all_of_them_and_is_small(tmp_path, monkeypatch):
    script = load("adverse_picture")
    monkeypatch.setattr(sys, "argv", ["adverse_picture.py", "--output", str(tmp_path / "new" / "a.png")])
    script.main()
    drawn, kept = tmp_path / "new" / "a.png", SCRIPTS.parent / "docs" / "pictures" / "adverse.png"
    assert drawn.stat().st_size < 200_000
    with Image.open(drawn) as new, Image.open(kept) as old:
        assert new.size == old.size
        new, old = (np.asarray(picture.convert("RGB"), float) for picture in (new, old))
    assert np.abs(new - old).mean() < 3  # the picture of the documentation is what the command draws
