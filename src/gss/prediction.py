"""Photographs in, pictures out: labels, generated maskige and overlay, each at the photograph's own size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from gss.checkpoints import TrainedSegmenter
from gss.data.reading import read_image
from gss.inference import segment_photograph
from gss.panels import overlay
from gss.progress import track

ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def find_photographs(source: Path) -> list[Path]:
    """The photographs of a folder and its subfolders in order, or the one photograph that `source` names.

    Raises:
        ValueError: if there is none.
    """
    if source.is_file():
        return [source]
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in ENDINGS)
    if not found:
        raise ValueError(f"input={source} holds no photograph ({', '.join(ENDINGS)}): give a photograph or a folder")
    return found


def predict_photographs(
    trained: TrainedSegmenter,
    photographs: Sequence[Path],
    output: Path,
    readout: str | None = None,
    device: str = "cpu",
    opacity: float = 0.5,
) -> None:
    """Writes `labels/NAME.png` (train ids), `maskige/NAME.png` and `overlay/NAME.png` for each photograph.

    A photograph that cannot be read does not stop the others.

    Args:
        trained: the checkpoint.
        photographs: files.
        output: folder, made when missing. The maskige is left out for the pixel readout, which generates none.
        readout: argmax, expected or pixel; None: the trained one.
        device: cpu, cuda or cuda:N.
        opacity: of the labels over the photograph, in [0, 1].

    Raises:
        ValueError: after the last photograph, naming those that could not be read; or before, if two photographs would
            write the same file, or the device is not there.
    """
    chosen, names = trained.readout(readout), _names(photographs)
    check_device(device)
    segmenter = trained.segmenter.to(device)
    unread: list[str] = []
    for path in track(photographs, "predicting", unit="photographs"):
        try:
            image = torch.tensor(read_image(path)).permute(2, 0, 1).float() / 255
        except ValueError as error:
            unread.append(str(error))
            continue
        _write(_segment(trained, image.to(device), chosen), image, output, names[path], trained, opacity)
    segmenter.cpu()
    if unread:
        raise ValueError(f"{len(unread)} of {len(photographs)} photographs were left out: {'; '.join(unread)}")


def check_device(device: str) -> None:
    """Refuses a device that torch does not know or that is not there."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"device={device} is not a device: choose cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device}, but no CUDA device was found: choose device=cpu")


def _segment(trained: TrainedSegmenter, image: Tensor, readout: str) -> tuple[Tensor, Tensor | None]:
    """Labels (H, W) int64 and, if generated, the maskige (3, H, W) of a photograph (3, H, W), float32 in [0, 1]."""
    generated: list[Tensor | None] = []

    def class_probs_of(shown: Tensor) -> Tensor:
        """From (1, 3, H', W') float32 in [0, 1] to class_probs (1, K, H', W') float32; keeps the maskige beside."""
        result = trained.segmenter(shown, readout)
        generated.append(result.maskige)
        return torch.as_tensor(result.class_probs)

    class_probs = segment_photograph(image, class_probs_of, trained.size, trained.segmenter.network.stride)
    maskige = generated[0]
    if maskige is not None:  # a picture to look at: enlarged for show, never decoded again
        maskige = nn.functional.interpolate(maskige, size=image.shape[-2:], mode="nearest")[0]
    return class_probs.argmax(dim=0), maskige


def _write(
    result: tuple[Tensor, Tensor | None],
    image: Tensor,
    output: Path,
    name: str,
    trained: TrainedSegmenter,
    opacity: float,
) -> None:
    """Saves labels (H, W) int64, the maskige (3, H, W) if any, and the overlay of image (3, H, W) in [0, 1]."""
    labels, maskige = result
    pictures = {"labels": labels.cpu().numpy().astype(np.uint8)}
    if maskige is not None:
        pictures["maskige"] = (maskige.permute(1, 2, 0).cpu().numpy() * 255).round().astype(np.uint8)
    pictures["overlay"] = overlay(image, labels.cpu(), trained.label_space, opacity)
    for kind, pixels in pictures.items():
        target = output / kind / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)


def _names(photographs: Sequence[Path]) -> dict[Path, str]:
    names: dict[str, Path] = {}
    for path in photographs:
        if path.stem in names:
            raise ValueError(f"'{names[path.stem]}' and '{path}' would both write {path.stem}.png: rename one")
        names[path.stem] = path
    return {path: name for name, path in names.items()}
