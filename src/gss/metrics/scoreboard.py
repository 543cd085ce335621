"""What is counted of predictions over the data sets that a validation visits: pooled, and by condition."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from gss.inference import Band
from gss.labels import IGNORE
from gss.metrics.boundaries import BoundaryFScore, BoundaryIoU
from gss.metrics.confusion import ConditionMatrices, ConfusionMatrix, Scores, scores
from gss.metrics.reliability import BrierScore, CalibrationError, ErrorDetection, LogLikelihood


class Tally(nn.Module):
    """All that is counted of predicted labels over one data set.

    Args:
        names: of the K classes.
        conditions: parts of the data set that are scored by themselves too.
    """

    def __init__(self, names: Sequence[str], conditions: Sequence[str] = ()) -> None:
        super().__init__()
        self.names, self.condition_names = tuple(names), tuple(conditions)
        self.confusion = ConfusionMatrix(len(self.names))
        self.parts = ConditionMatrices(len(self.names), self.condition_names) if conditions else None

    def update(self, predicted_labels: Tensor, labels: Tensor, conditions: Sequence[str]) -> None:
        """Adds a batch.

        Args:
            predicted_labels: (B, H, W) int64 in [0, K).
            labels: (B, H, W) int64 in [0, K) or 255, which is left out.
            conditions: B names; "" for an image that is counted in the pooled figures only.
        """
        self.confusion.update(predicted_labels, labels)
        if self.parts is not None:
            self.parts.update(predicted_labels, labels, conditions)

    def scores(self) -> Scores:
        """Scores of the whole data set."""
        return scores(self.confusion.compute(), self.names)

    def by_condition(self) -> dict[str, Scores]:
        """Scores of each condition by itself."""
        if self.parts is None:
            return {}
        matrices = self.parts.compute()
        return {name: scores(one, self.names) for name, one in zip(self.condition_names, matrices, strict=True)}

    def condition_mean(self) -> float:
        """Mean mIoU in [0, 1] of the conditions that have labelled pixels; nan if there is none."""
        found = [one.miou for one in self.by_condition().values() if not math.isnan(one.miou)]
        return sum(found) / len(found) if found else math.nan

    def figures(self) -> dict[str, float]:
        """Figures of the whole data set by name, nan where undefined: miou, macc, aacc."""
        whole = self.scores()
        return {"miou": whole.miou, "macc": whole.macc, "aacc": whole.aacc}

    def reset(self) -> None:
        """Forgets all counts."""
        for measure in self.children():
            measure.reset()  # type: ignore[operator]


class ReadoutTally(Tally):
    """All that is counted of class probabilities over one data set.

    Args:
        names: of the K classes.
        conditions: parts of the data set that are scored by themselves too.
        thorough: whether boundary IoU, calibration, likelihood and the detection of errors are measured too, which
            together cost about as much as the rest.
    """

    def __init__(self, names: Sequence[str], conditions: Sequence[str] = (), thorough: bool = False) -> None:
        super().__init__(names, conditions)
        self.boundary = BoundaryFScore(len(self.names))
        self.thorough = thorough
        if thorough:
            self.boundary_iou = BoundaryIoU(len(self.names))
            self.calibration, self.errors = CalibrationError(), ErrorDetection()
            self.likelihood, self.brier = LogLikelihood(), BrierScore()

    def judge(self, class_probs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Adds some rows of a batch to what is summed over pixels, and gives what the rest needs of them.

        Args:
            class_probs: (B, K, rows, W) float32, sums to 1 over K.
            labels: (B, rows, W) int64 in [0, K) or 255, which is left out.

        Returns:
            confidence (B, rows, W) float32 in [0, 1] and predicted labels (B, rows, W) int64 in [0, K).
        """
        if self.thorough:
            self.likelihood.update(class_probs, labels)
            self.brier.update(class_probs, labels)
        confidence, predicted = class_probs.max(dim=1)
        return confidence, predicted

    def update_judged(
        self, confidence: Tensor, predicted_labels: Tensor, labels: Tensor, conditions: Sequence[str]
    ) -> None:
        """Adds a batch of whole pictures, all of whose rows were judged.

        Args:
            confidence: (B, H, W) float32 in [0, 1].
            predicted_labels: (B, H, W) int64 in [0, K).
            labels: (B, H, W) int64 in [0, K) or 255, which is left out.
            conditions: B names; "" for an image that is counted in the pooled figures only.
        """
        self.update(predicted_labels, labels, conditions)
        self.boundary.update(predicted_labels, labels)
        if self.thorough:
            self.boundary_iou.update(predicted_labels, labels)
            labelled = labels != IGNORE
            judged = confidence.masked_select(labelled), (predicted_labels == labels).masked_select(labelled)
            self.calibration.update(*judged)
            self.errors.update(*judged)

    def figures(self) -> dict[str, float]:
        """The same and boundary_f3; if thorough also boundary_iou, ece, nll, brier, auroc, aupr."""
        found = {**super().figures(), "boundary_f3": self.boundary.mean()}
        if not self.thorough:
            return found
        auroc, aupr = self.errors.compute().tolist()
        return {
            **found,
            "boundary_iou": self.boundary_iou.mean(),
            "ece": float(self.calibration.compute()),
            "nll": float(self.likelihood.compute()),
            "brier": float(self.brier.compute()),
            "auroc": auroc,
            "aupr": aupr,
        }


class Scoreboard(nn.Module):
    """The tallies of one data set, by what is scored.

    Args:
        name: of the data set.
        tallies: by name of the prediction.
    """

    def __init__(self, name: str, tallies: Mapping[str, Tally]) -> None:
        super().__init__()
        self.name = name
        self._tallies = nn.ModuleDict(dict(tallies))

    def tally(self, scored: str) -> Tally:
        """What is counted of one prediction."""
        found = self._tallies[scored]
        assert isinstance(found, Tally)
        return found

    def readout(self, scored: str) -> ReadoutTally:
        """What is counted of one readout's class probabilities."""
        found = self._tallies[scored]
        assert isinstance(found, ReadoutTally)
        return found

    def update_bands(self, bands: Iterable[Band], labels: Tensor, conditions: Sequence[str]) -> None:
        """Adds a batch whose class probabilities come from top to bottom, so that they need not exist at once.

        Args:
            bands: of every readout.
            labels: (B, H, W) int64 in [0, K) or 255, which is left out.
            conditions: B names; "" for an image that is counted in the pooled figures only.
        """
        judged: dict[str, list[tuple[Tensor, Tensor]]] = {}
        for top, class_probs in bands:
            for scored, part in class_probs.items():
                rows = labels[:, top : top + part.shape[-2]]
                judged.setdefault(scored, []).append(self.readout(scored).judge(part, rows))
        for scored, parts in judged.items():
            confidence, predicted = (torch.cat(maps, dim=1) for maps in zip(*parts, strict=True))
            self.readout(scored).update_judged(confidence, predicted, labels, conditions)

    def reset(self) -> None:
        """Forgets all counts."""
        for scored in self._tallies:
            self.tally(scored).reset()


def harmonic_mean(figures: Sequence[float]) -> float:
    """n / sum_i 1 / x_i of figures in [0, 1]: 0 if one is 0, nan if one is nan.

    MSeg compares networks over data sets by it (Lambert et al., CVPR 2020), since a data set on which one fails weighs
    more than in the ordinary mean.
    """
    if 0 in figures:
        return math.nan if any(map(math.isnan, figures)) else 0.0
    return len(figures) / sum(1 / figure for figure in figures)


def check_names(visited: Mapping[str, Sequence[str]], taken: Sequence[str]) -> None:
    """Refuses names of data sets and conditions under which figures of two kinds would be logged as one.

    Args:
        visited: conditions of each data set that validation visits, by its name, the own data set first.
        taken: other words that stand where such a name does in the log keys (`val/<word>/miou`).

    Raises:
        ValueError: naming the word.
    """
    (_, own), *others = visited.items()
    for name, conditions in others:
        if name in (*own, *taken):
            raise ValueError(f"data.elsewhere.{name}: figures are logged under '{name}' already; name it differently")
        _check_conditions(name, conditions, taken)
    _check_conditions(next(iter(visited)), own, taken)


def _check_conditions(name: str, conditions: Sequence[str], taken: Sequence[str]) -> None:
    if clash := sorted(set(conditions) & set(taken)):
        raise ValueError(
            f"data set '{name}' has a condition '{clash[0]}', under which other figures are logged; rename it in the "
            "pair source of data.splits"
        )
