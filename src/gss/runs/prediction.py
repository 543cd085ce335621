"""Images in, pictures out: labels, generated maskige and overlay, each at the image's own size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from gss.assembly.checkpoints import TrainedSegmenter
from gss.data.reading import planes, read_image
from gss.display import overlay
from gss.display.progress import track
from gss.inference import Inference
from gss.pipeline import GenerativeSegmenter
from gss.runs.submission import entries, submission_format, write_submission

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_images(source: Path) -> list[Path]:
    """The images of a folder and its subfolders in order, or the one image that `source` names.

    Raises:
        ValueError: if there is none.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise ValueError(f"input={source} holds no image ({', '.join(ENDINGS)}): give an image or a folder")
    return found


def predict_images(
    trained: TrainedSegmenter,
    images: Sequence[Path],
    output: Path,
    readout: str | None = None,
    device: str = "cpu",
    opacity: float = 0.5,
    inference: Inference | None = None,
) -> None:
    """Writes `labels/NAME.png` (train ids), `maskige/NAME.png` and `overlay/NAME.png` for each image.

    An image that cannot be read does not stop the others.

    Args:
        trained: the checkpoint.
        images: files.
        output: folder, made when missing. The maskige is left out for the pixel readout, which generates none, and for
            images in windows or in several views, which have as many.
        readout: argmax, expected or pixel; None: the trained one.
        device: cpu, cuda or cuda:N.
        opacity: of the labels over the image, in [0, 1].
        inference: how images are shown to the network; None: as in training.

    Raises:
        ValueError: after the last image, naming those that could not be read; or before, if two images would
            write the same file, or the device is not there.
    """
    names, segmenting = _names(images), Segmenting.on(device, trained, readout, inference)
    unread: list[str] = []
    for path in track(images, "predicting", unit="images"):
        try:
            image = image_tensor(path)
        except ValueError as error:
            unread.append(str(error))
            continue
        labels, maskige = segmenting(image)
        pictures = {"labels": labels.cpu().numpy().astype(np.uint8)}
        if maskige is not None:
            pictures["maskige"] = (maskige.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
        pictures["overlay"] = overlay(image, labels.cpu(), trained.label_space, opacity)
        for kind, pixels in pictures.items():
            target = output / kind / f"{names[path]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(target)
    trained.segmenter.cpu()
    if unread:
        raise ValueError(f"{len(unread)} of {len(images)} images were left out: {'; '.join(unread)}")


def predict_submission(
    trained: TrainedSegmenter,
    images: Sequence[Path],
    name: str,
    target: Path,
    readout: str | None = None,
    device: str = "cpu",
    inference: Inference | None = None,
) -> None:
    """Writes what a benchmark's server takes: the labels of every image, in its ids and under its names, zipped.

    Args:
        trained: the checkpoint.
        images: of the split that the server scores.
        name: the server's data set: cityscapes, ade20k or acdc.
        target: the zip, written whole or not at all.
        readout: argmax, expected or pixel; None: the trained one.
        device: cpu, cuda or cuda:N.
        inference: how images are shown to the network; None: as in training.

    Raises:
        ValueError: before anything is segmented, if the classes or the images' names are not the server's; and for
            an image that cannot be read, since a submission must be complete.
    """
    wanted = submission_format(name, trained.label_space.names)
    named, segmenting = entries(wanted, images), Segmenting.on(device, trained, readout, inference)

    def labelled() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Entries and train ids (H, W) uint8 in [0, K), image by image."""
        for path in track(images, "predicting", unit="images"):
            yield named[path], segmenting(image_tensor(path))[0].cpu().numpy().astype(np.uint8)

    write_submission(wanted, labelled(), len(images), target)
    trained.segmenter.cpu()


def check_device(device: str) -> None:
    """Refuses a device that torch does not know or that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device={device} is not a device: choose cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device}, but no CUDA device was found: choose device=cpu")


def image_tensor(path: Path) -> Tensor:
    """An image (3, H, W) float32 in [0, 1], upright.

    Raises:
        ValueError: if it cannot be read.
    """
    return torch.from_numpy(planes(read_image(path)))


@dataclass(frozen=True)
class Segmenting:
    """Images to labels, one at a time.

    Args:
        segmenter: on the device, in evaluation mode.
        readout: argmax, expected or pixel.
        inference: how images are shown to the network.
        device: cpu, cuda or cuda:N.
    """

    segmenter: GenerativeSegmenter
    readout: str
    inference: Inference
    device: str

    @classmethod
    def on(cls, device: str, trained: TrainedSegmenter, readout: str | None, inference: Inference | None) -> Segmenting:
        """A checkpoint's segmenter, moved to the device; None stands for what it was trained with.

        Raises:
            ValueError: if the readout or the device is not there.
        """
        chosen = trained.readout(readout)
        check_device(device)
        return cls(trained.segmenter.to(device), chosen, inference or trained.inference(), device)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Labels (H, W) int64 in [0, K) of an image (3, H, W) float32 in [0, 1], and its maskige, if it has one."""
        shown_maskiges: list[Tensor | None] = []

        def segment(shown: Tensor) -> Iterator[tuple[str, Tensor]]:
            """class_probs (N, K, h, w) float32 of views (N, 3, h, w) float32; keeps the maskige of a single view."""
            generation = self.segmenter(shown, self.readout)
            if self.inference.sees_whole:
                shown_maskiges.append(generation.maskige())
            yield self.readout, generation.class_probs()

        labels = self.inference.labels(segment, image[None].to(self.device))[self.readout][0]
        maskige = shown_maskiges[0] if shown_maskiges else None
        if maskige is not None:  # a picture to look at: enlarged for show, never decoded again
            maskige = nn.functional.interpolate(maskige, size=image.shape[-2:], mode="nearest")[0]
        return labels, maskige


def _names(images: Sequence[Path]) -> dict[Path, str]:
    names: dict[str, Path] = {}
    for path in images:
        if path.stem in names:
            raise ValueError(f"'{names[path.stem]}' and '{path}' would both write {path.stem}.png: rename one")
        names[path.stem] = path
    return {path: name for name, path in names.items()}
