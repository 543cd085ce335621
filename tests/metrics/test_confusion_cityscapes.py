"""Our mIoU beside that of cityscapesScripts, the benchmark's own program, on drawn files in its layout."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gss.data.cityscapes import LABEL_IDS, CityscapesPairs, cityscapes_labels
from gss.metrics.confusion import ConfusionMatrix, scores


@pytest.fixture
def evaluator() -> Any:
    """Give the benchmark's program for pixel-level labels; skip where it isn't installed."""
    reason = "cityscapesScripts is not installed (no dependency of ours): pip install cityscapesscripts"
    return pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", reason=reason)


def test_scores_are_those_of_the_benchmark(evaluator, draw_labels, tmp_path):
    truth = draw_labels(5, (64, 128), num_classes=34, seed=3)  # label ids, the ignored ones too
    noise = np.random.default_rng(0)
    ids = np.array(list(LABEL_IDS.values()))
    pairs, predicted_ids = [], []
    for number, picture in enumerate(truth.numpy()):
        known = np.isin(picture, ids)
        guessed = np.where(known & (noise.random(picture.shape) < 0.7), picture, noise.choice(ids, picture.shape))
        name = f"drawnville_{number:06d}_000000"
        paths = [
            tmp_path / "gtFine" / "val" / "drawnville" / f"{name}_gtFine_labelIds.png",
            tmp_path / "leftImg8bit" / "val" / "drawnville" / f"{name}_leftImg8bit.png",
            tmp_path / "results" / f"{name}_pred.png",
        ]
        for path, pixels in zip(paths, (picture, np.zeros((*picture.shape, 3)), guessed), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
        pairs.append((str(paths[2]), str(paths[0])))
        predicted_ids.append(guessed)
    args = Namespace(**{**vars(evaluator.args), "evalInstLevelScore": False, "quiet": True, "JSONOutput": False})
    theirs = evaluator.evaluateImgLists(*map(list, zip(*pairs, strict=True)), args)

    space, matrix = cityscapes_labels(), ConfusionMatrix(19)
    for pair, guessed in zip(CityscapesPairs(tmp_path, "val")(), predicted_ids, strict=True):
        labels, predicted = (
            space.to_train_ids(np.asarray(pixels, np.uint8), pair.name) for pixels in (Image.open(pair.labels), guessed)
        )
        matrix.update(torch.from_numpy(predicted).long()[None], torch.from_numpy(labels).long()[None])
    ours = scores(matrix.compute(), space.names)
    assert ours.per_class == pytest.approx({name: theirs["classScores"][name] for name in space.names}, nan_ok=True)
    assert ours.miou == pytest.approx(theirs["averageScoreClasses"])
    assert 0.2 < ours.miou < 0.8
