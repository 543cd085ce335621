from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gss.inference import Band
from gss.metrics.boundaries import BoundaryFScore
from gss.metrics.confusion import ConditionMatrices, ConfusionMatrix, scores
from gss.metrics.scoreboard import ReadoutTally, Scoreboard, Tally, check_names, harmonic_mean

NAMES = ("road", "car", "tree", "sky")
CONDITIONS = ("fog", "night", "rain")
OF_PICTURES = ["night", "", "fog", "night", "fog"]


@pytest.fixture
def pictures(draw_labels):
    """Five label maps, predictions of them as class_probs and as labels."""
    labels = draw_labels(5, (24, 32), num_classes=4, ignored=True)
    probs = np.random.default_rng(1).dirichlet([0.4] * 4, labels.shape)
    probs = 0.8 * probs + 0.2 * np.eye(4)[np.where(labels.numpy() == 255, 0, labels.numpy())]
    class_probs = torch.from_numpy(probs.astype(np.float32)).permute(0, 3, 1, 2).contiguous()
    return labels, class_probs, class_probs.argmax(1)


def in_batches(update, predicted, labels):
    for part in (slice(0, 2), slice(2, 3), slice(3, 5)):
        update(predicted[part], labels[part], OF_PICTURES[part])


def scored(predicted, labels):
    matrix = ConfusionMatrix(4)
    matrix.update(predicted, labels)
    return scores(matrix.compute(), NAMES)


def test_each_condition_is_scored_as_if_there_were_no_other(pictures):
    labels, _, predicted = pictures
    tally = Tally(NAMES, CONDITIONS)
    in_batches(tally.update, predicted, labels)
    found = tally.by_condition()
    assert list(found) == list(CONDITIONS)
    for condition in ("fog", "night"):
        chosen = [name == condition for name in OF_PICTURES]
        assert str(found[condition]) == str(scored(predicted[chosen], labels[chosen]))  # as text, nan equals nan
    assert math.isnan(found["rain"].miou)  # of which there is no image
    assert str(tally.scores()) == str(scored(predicted, labels))  # the one without a condition too
    assert tally.condition_mean() == pytest.approx((found["fog"].miou + found["night"].miou) / 2)
    assert tally.condition_mean() != tally.scores().miou


def test_a_data_set_without_conditions_has_no_mean_of_them(pictures):
    labels, _, predicted = pictures
    tally = Tally(NAMES)
    in_batches(tally.update, predicted, labels)
    assert tally.by_condition() == {}
    assert math.isnan(tally.condition_mean())


def test_a_condition_that_was_not_announced_is_not_lost_in_silence(pictures):
    labels, _, predicted = pictures
    with pytest.raises(AssertionError, match="condition night was not announced"):
        Tally(NAMES, ("fog",)).update(predicted, labels, OF_PICTURES)


def test_conditions_add_up_over_processes(pictures):
    labels, _, predicted = pictures
    whole, first, second = (ConditionMatrices(4, CONDITIONS) for _ in range(3))
    whole.update(predicted, labels, OF_PICTURES)
    first.update(predicted[:3], labels[:3], OF_PICTURES[:3]), second.update(predicted[3:], labels[3:], OF_PICTURES[3:])
    first.merge_state(second)
    assert first.compute().equal(whole.compute())
    assert whole._reductions["matrices"] is ConfusionMatrix(2)._reductions["matrix"]  # a sum over processes


def test_figures_of_class_probs_are_those_of_labels_and_more(pictures):
    labels, class_probs, predicted = pictures
    tally, quick, of_labels, outlines = (
        ReadoutTally(NAMES, CONDITIONS, thorough=True),
        ReadoutTally(NAMES),
        Tally(NAMES),
        BoundaryFScore(4),
    )
    board = Scoreboard("own", {"tally": tally, "quick": quick})
    in_batches(
        lambda probs, *rest: board.update_bands([Band(0, {"tally": probs, "quick": probs})], *rest), class_probs, labels
    )
    in_batches(of_labels.update, predicted, labels), outlines.update(predicted, labels)
    figures = tally.figures()
    assert list(figures) == [
        *("miou", "macc", "aacc", "boundary_f3", "boundary_iou", "ece", "nll", "brier", "auroc", "aupr")
    ]
    assert quick.figures() == {**of_labels.figures(), "boundary_f3": outlines.mean()}
    assert quick.figures().items() <= figures.items()
    true = class_probs.gather(1, (labels % 255)[:, None])[:, 0][labels != 255]
    assert figures["nll"] == pytest.approx(-true.log().double().mean().item(), rel=1e-6)
    right, sure = (predicted == labels)[labels != 255], class_probs.amax(1)[labels != 255]
    pairs = sure[~right][:, None] - sure[right][None]
    assert figures["auroc"] == pytest.approx(((pairs < 0) + 0.5 * (pairs == 0)).double().mean().item(), abs=1e-3)
    tally.reset()
    assert all(not state.any() for one in tally.children() for state in one.metric_state.values())


@pytest.mark.parametrize(
    ("figures", "expected"),
    [([0.5], 0.5), ([0.4, 0.6], 0.48), ([1, 0.5, 0.25], 3 / 7), ([0.9, 0.0], 0.0), ([0.5, math.nan], math.nan)],
)
def test_the_harmonic_mean_has_its_closed_form(figures, expected):
    assert harmonic_mean(figures) == pytest.approx(expected, nan_ok=True)


TAKEN = ("argmax", "pixel", "iou")


def test_names_that_mean_one_thing_each_pass():
    check_names({"cityscapes": ("fog",), "acdc": ("fog", "night"), "camvid": ()}, TAKEN)


@pytest.mark.parametrize(
    ("visited", "message"),
    [
        ({"own": (), "pixel": ()}, r"data\.elsewhere\.pixel: figures are logged under 'pixel' already; name it diff"),
        ({"own": ("fog",), "fog": ()}, r"data\.elsewhere\.fog: figures are logged under 'fog' already"),
        ({"own": ("iou",)}, r"data set 'own' has a condition 'iou', .* rename it in the pair source of data\.splits"),
        ({"own": (), "acdc": ("argmax", "fog")}, r"data set 'acdc' has a condition 'argmax'"),
    ],
)
def test_names_that_would_mix_two_figures_are_refused(visited, message):
    with pytest.raises(ValueError, match=message):
        check_names(visited, TAKEN)
