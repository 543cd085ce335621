"""Plan: how much of each scene of a split each class takes, so that the split has ADE20K's class frequencies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gss.data.ade20k import CLASSES, NUM_TRAINING_PICTURES
from gss.data.mosaics.kinds import found_indoors, found_outdoors

Shares = NDArray[np.float64]

_ROUNDS = 500  # of the fitting; a few dozen would do for a hundred scenes
_LEAST_SCENES = 2  # with a class, if there are as many: one scene would make it all of one shape


def plan_split(num_scenes: int, seed: int) -> Shares:
    """Draw which classes a scene holds, and fit their areas.

    A class occurs in as large a part of the scenes as in ADE20K, and scenes are rooms or in the open as the classes
    ask for. Then rows and columns are scaled in turn (iterative proportional fitting, Deming and Stephan, 1940) until
    each scene is full and each class, and what is unlabelled, has its share of all pixels.

    Args:
        num_scenes: S.
        seed: of the split.

    Returns:
        (S, 151) float64: the share of each scene, by file id; a row sums to 1, and column 0 is unlabelled.
    """
    rng = np.random.default_rng(seed)
    shares = np.array([0.0, *(row.share for row in CLASSES)])
    shares[0] = 1 - shares.sum()
    indoors = np.arange(num_scenes) < round(_indoor_share() * num_scenes)
    rng.shuffle(indoors)
    areas = _draw_presence(rng, indoors) * shares
    for _ in range(_ROUNDS):
        areas *= num_scenes * shares / np.maximum(areas.sum(0), 1e-12)
        areas /= areas.sum(1, keepdims=True)
    return np.asarray(areas)


def pixel_counts(areas: Shares, num_pixels: int) -> NDArray[np.int64]:
    """Whole pixels (151,) int64 of one scene's shares (151,), by largest remainder; a class that occurs has one."""
    exact = areas * num_pixels
    counts = np.where(areas > 0, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    missing = num_pixels - int(counts.sum())
    if missing > 0:
        counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    counts[counts.argmax()] += num_pixels - counts.sum()
    return counts


def _indoor_share() -> float:
    """The part of the pixels that belongs to rooms; classes of both kinds are split evenly."""
    indoors, outdoors = np.array(found_indoors()), np.array(found_outdoors())
    shares = np.array([row.share for row in CLASSES])
    return float((shares * indoors / (1.0 * indoors + outdoors)).sum() / shares.sum())


def _draw_presence(rng: np.random.Generator, indoors: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which scene (S,) holds which class: (S, 151) bool. Large classes choose first, and prefer emptier scenes."""
    presence = np.ones((len(indoors), len(CLASSES) + 1), bool)
    load = np.zeros(len(indoors))
    wanted = [len(indoors) * row.num_pictures / NUM_TRAINING_PICTURES for row in CLASSES]
    for index in np.argsort([-row.share for row in CLASSES], kind="stable"):
        homes = np.where(indoors, found_indoors()[index], found_outdoors()[index])
        number = min(max(round(wanted[index]), _LEAST_SCENES), int(homes.sum()))
        order = np.argsort(np.where(homes, load + rng.uniform(0, 0.5, len(load)), np.inf), kind="stable")
        presence[:, index + 1] = False
        presence[order[:number], index + 1] = True
        load[order[:number]] += len(indoors) * CLASSES[index].share / max(number, 1)
    return presence
