"""ACDC: driving images in fog, at night, in rain and in snow, in the layouts that its archives are unpacked to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gss.data.cityscapes import label_kinds, translated
from gss.data.folder import FolderPairs
from gss.data.pairs import Pair, PairSource, changed, list_parts

CONDITIONS = ("fog", "night", "rain", "snow")
SPLITS = ("train", "val", "test")
IMAGE_FOLDERS = ("rgb_anon", "rgb_anon_trainvaltest/rgb_anon")
LABEL_FOLDERS = ("gt", "gt_trainval/gt")
"""As the archives say it, or with the archive's name as one folder more."""

ORIGIN = (
    "download rgb_anon_trainvaltest.zip and gt_trainval.zip from acdc.vision.ee.ethz.ch and unpack both there, or "
    "choose among the conditions by data.splits.train.conditions=[night]"
)


class ACDCPairs:
    """List one split, condition by condition and sorted by path; each pair says its condition.

    `rgb_anon/{condition}/{split}/{recording}/{recording}_frame_{number}_rgb_anon.png` belongs to
    `gt/{condition}/{split}/{recording}/{recording}_frame_{number}_gt_labelTrainIds.png`, or to `..._gt_labelIds.png`,
    which is preferred. The folders may lie below the archives' names (`rgb_anon_trainvaltest/rgb_anon`,
    `gt_trainval/gt`), and the recordings' folders may be left out.

    Each adverse image has a *reference* of the same place in good weather, in `{split}_ref` and with
    `_rgb_ref_anon.png` at its end. References are never listed with the adverse ones, and some have labels.

    Args:
        root: the folder that holds `rgb_anon` and `gt`.
        split: train, val or test.
        conditions: which of fog, night, rain and snow; None: all.
        reference: list the labelled references of the split in place of the adverse images.
        labels: labelIds, labelTrainIds, or auto, the first of them that is there, and none for the test split, whose
            labels only the benchmark's server has.

    Raises:
        ValueError: one of them is none of these.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        conditions: Sequence[str] | None = None,
        reference: bool = False,
        labels: str = "auto",
    ) -> None:
        """Check the words; the disk is searched when called."""
        if split not in SPLITS:
            raise ValueError(f"ACDC has the splits {', '.join(SPLITS)}, got '{split}'; mend data.splits")
        self.root = Path(root)
        self.split = split
        chosen = [conditions] if isinstance(conditions, str) else list(CONDITIONS if conditions is None else conditions)
        if not chosen or set(chosen) - set(CONDITIONS):
            raise ValueError(
                f"conditions are some of {', '.join(CONDITIONS)}, got {chosen}; mend data.splits.{split}.conditions"
            )
        self.conditions = tuple(condition for condition in CONDITIONS if condition in chosen)
        self.reference = reference
        self.kinds = label_kinds(labels, split)

    def __call__(self) -> list[Pair]:
        """List the pairs.

        Raises:
            ValueError: a condition's folders are missing or empty, or an image has no labels.
        """
        return list_parts(self._part(condition) for condition in self.conditions)

    def _part(self, condition: str) -> PairSource:
        """Give the source of one condition's images."""
        marked = "_ref" if self.reference else ""
        place = f"{condition}/{self.split}{marked}"
        source = FolderPairs(
            root=self.root,
            images=f"{self._folder(IMAGE_FOLDERS)}/{place}",
            labels=f"{self._folder(LABEL_FOLDERS)}/{place}" if self.kinds else None,
            image_endings=(f"_rgb{marked}_anon.png",),
            label_ending=[f"_gt{marked}_{kind}.png" for kind in self.kinds],
            origin=ORIGIN,
            labelled_only=self.reference,
        )
        return changed(
            source, lambda pair: translated(pair._replace(name=f"{condition}/{pair.name}", condition=condition))
        )

    def _folder(self, candidates: Sequence[str]) -> str:
        """Choose the layout that is there."""
        return next((folder for folder in candidates if (self.root / folder).is_dir()), candidates[0])
