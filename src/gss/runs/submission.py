"""Label files as the benchmarks' servers take them: each server's names and ids, in one zip."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gss.atomic_files import written_whole
from gss.data.ade20k import ade20k_labels
from gss.data.cityscapes import LABEL_IDS, cityscapes_labels
from gss.labels import LabelSpace
from gss.registry import lookup

_CITYSCAPES = re.compile(r"(.+_\d{6}_\d{6})_leftImg8bit")  # city, sequence and frame, by which the server finds files
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # of every entry, so that equal labels make equal files


@dataclass(frozen=True)
class SubmissionFormat:
    """What one server asks for.

    Args:
        label_space: whose classes are submitted.
        ids: what files store for each class.
        entry: a label file's name within the zip, from its image's path.
        num_test: label files that the server expects for its test split.
    """

    label_space: LabelSpace
    ids: tuple[int, ...]
    entry: Callable[[Path], str]
    num_test: int


def _cityscapes_entry(image: Path) -> str:
    """`berlin_000000_000019_labelIds.png`: the server looks for `{city}_{sequence}_{frame}*.png` in any folder."""
    found = _CITYSCAPES.fullmatch(image.stem)
    if found is None:
        raise ValueError(
            f"image '{image}' is not called CITY_SEQUENCE_FRAME_leftImg8bit.png, as Cityscapes' are, so the "
            "server would not know its labels: choose another submission, or data=cityscapes"
        )
    return f"{found[1]}_labelIds.png"


FORMATS = {
    "cityscapes": SubmissionFormat(cityscapes_labels(), tuple(LABEL_IDS.values()), _cityscapes_entry, 1525),
    "ade20k": SubmissionFormat(ade20k_labels(), tuple(range(1, 151)), lambda image: f"{image.stem}.png", 3352),
    # as others upload it; no description of the server's own was found to hold it against
    "acdc": SubmissionFormat(
        cityscapes_labels(), tuple(range(19)), lambda image: f"labelTrainIds/{image.stem}.png", 2000
    ),
}
"""Formats by the server's data set."""


def submission_format(name: str, classes: Sequence[str]) -> SubmissionFormat:
    """The format of a server, for a network that knows these classes.

    Raises:
        ValueError: if there is no such server, or it asks for other classes.
    """
    found = lookup(FORMATS, "submission", name)
    if tuple(classes) != found.label_space.names:
        raise ValueError(
            f"submission={name} takes the {found.label_space.num_classes} classes of {name}, but the checkpoint knows "
            f"{len(classes)} others, first '{classes[0]}': give a checkpoint that was trained on those"
        )
    return found


def entries(wanted: SubmissionFormat, images: Sequence[Path]) -> dict[Path, str]:
    """Each image's entry in the zip.

    Raises:
        ValueError: if an image has no name that the server knows, or two share one.
    """
    named: dict[str, Path] = {}
    for image in images:
        name = wanted.entry(image)
        if name in named:
            raise ValueError(f"'{named[name]}' and '{image}' would both be submitted as {name}: give one of them")
        named[name] = image
    return {image: name for name, image in named.items()}


def write_submission(
    wanted: SubmissionFormat, labelled: Iterable[tuple[str, NDArray[np.uint8]]], number: int, target: Path
) -> None:
    """Writes the zip whole or not at all; equal labels give equal bytes.

    Args:
        wanted: the server's format.
        labelled: entries and their train ids (H, W) uint8 in [0, K), at the images' sizes.
        number: of the entries that there must be.
        target: the zip; what lies there is replaced when all is written and read again.
    """
    table = np.array(wanted.ids, np.uint8)
    with written_whole(target) as new:
        with zipfile.ZipFile(new, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed already
            for name, labels in labelled:
                buffer = io.BytesIO()
                Image.fromarray(table[labels]).save(buffer, "PNG")
                archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), buffer.getvalue())
        with zipfile.ZipFile(new) as archive:  # each file must come out as it went in
            names, broken = archive.namelist(), archive.testzip()
        if broken is not None or len(set(names)) != number:
            raise ValueError(
                f"the submission came out with {len(set(names))} of {number} files, broken: {broken}; is the disk full?"
            )
