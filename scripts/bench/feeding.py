"""Feeding a training: crops from a cache and from the files, against Pillow and the published steps one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as A
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

from bench.harness import Effort, Row, time_in_turn
from bench.scenes import experiment
from gss.cli.configuration import instantiate
from gss.data.cache.build import SplitCache
from gss.data.cache.split import CachedSplit
from gss.data.cityscapes import cityscapes_labels
from gss.data.dataset import Sample, SegmentationDataset, TrainingSampler, Workers, build_loader
from gss.data.distortion import PhotometricDistortion
from gss.data.pairs import Pair
from gss.data.scenes import draw_scene
from gss.data.transforms import MEAN_COLOUR, NEAREST, Augmentation, OneStream, training_transform
from gss.labels import IGNORE, LabelSpace

EXPERIMENT = "gss_ff_swin_large_cityscapes"
SIZE = (1024, 2048)
NOISE = 4.0  # standard deviation in levels, as of a sensor: without it PNGs are small, and quickly read
NUM_PAIRS, BATCH, STEPS = 4, 2, 4
AGREEMENT = 0.97  # of labels with those of the published steps: they differ along outlines
BAR_CACHE, BAR_FILES = 3.0, 1.2


def measure(effort: Effort) -> list[Row]:
    """The same draws three times, each through a loader with one worker: two rows against the ordinary way."""
    data = experiment(EXPERIMENT)["data"]
    size, augmentation = (data["size"][0], data["size"][1]), instantiate(data["augmentation"])
    classes = cityscapes_labels()
    with tempfile.TemporaryDirectory() as folder:
        pairs = draw_pairs(Path(folder))
        SplitCache(Path(folder, "cache"), "train", pairs, classes, NUM_PAIRS).build()
        cached = CachedSplit.open(Path(folder, "cache"), pairs, classes, "the bench again")
        ours = training_transform(size, augmentation)
        from_cache = _loader(SegmentationDataset(pairs, classes, ours, cached=cached))
        from_files = _loader(SegmentationDataset(pairs, classes, ours))
        ordinary = _loader(OrdinaryDataset(pairs, classes, published_transform(size, augmentation)))
        compare(list(from_cache), list(from_files), list(ordinary))
        rows = [
            time_in_turn("feeding_cache", lambda: list(from_cache), lambda: list(ordinary), BAR_CACHE, effort),
            time_in_turn("feeding_files", lambda: list(from_files), lambda: list(ordinary), BAR_FILES, effort),
        ]
    return [_per_image(row) for row in rows]


def draw_pairs(folder: Path) -> list[Pair]:
    """Street scenes with a sensor's noise and their label ids, as PNGs of Cityscapes' size."""
    pairs = []
    for number in range(NUM_PAIRS):
        pair = Pair(folder / f"{number}.png", folder / f"{number}_labels.png", str(number))
        image, ids = draw_scene(0, number, SIZE)
        noise = np.random.default_rng(number).normal(0, NOISE, image.shape)
        Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(pair.image)
        Image.fromarray(ids).save(folder / f"{number}_labels.png")
        pairs.append(pair)
    return pairs


def compare(cache: Sequence[Sample], files: Sequence[Sample], ordinary: Sequence[Sample]) -> None:
    """Cache and files give the same; the ordinary way the same but for where a window begins, by a pixel or two."""
    assert len(cache) == len(files) == len(ordinary) == STEPS
    for cached, read, published in zip(cache, files, ordinary, strict=True):
        assert cached["name"] == read["name"] == published["name"]
        assert (cached["labels"] == read["labels"]).all(), "the cache gives other labels than the files"
        assert (cached["image"] == read["image"]).all(), "the cache gives other images than the files"
        difference = float((read["image"] - published["image"]).abs().mean())
        assert difference < 0.03, f"images differ by {difference:.3f} of white from those of the published steps"
        agreement = float((read["labels"] == published["labels"]).float().mean())
        assert agreement > AGREEMENT, f"{agreement:.1%} of the labels are those of the published steps"


def _loader(data: SegmentationDataset) -> DataLoader[Sample]:
    return build_loader(data, TrainingSampler(NUM_PAIRS, BATCH, STEPS), BATCH, Workers(1))


def _per_image(row: Row) -> Row:
    number = BATCH * STEPS
    ours, other = (tuple(cost / number for cost in costs) for costs in (row.ours, row.other))
    return replace(row, ours=ours, other=other, unit="ms/image")


class OrdinaryDataset(SegmentationDataset):
    """Decodes by Pillow."""

    def _read(self, pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        assert pair.labels is not None
        with Image.open(pair.image) as image, Image.open(pair.labels) as ids:
            return np.asarray(image.convert("RGB")), _translated(np.asarray(ids), self.label_space)


def _translated(ids: NDArray[np.uint8], classes: LabelSpace) -> NDArray[np.uint8]:
    """File ids as train ids by a table of 256."""
    table = np.full(256, IGNORE, np.uint8)
    table[list(classes.raw_to_train)] = list(classes.raw_to_train.values())
    return table[ids]


def published_transform(size: tuple[int, int], augmentation: Augmentation) -> A.Compose:
    """The steps of published recipes one by one, with the draws of `training_transform`."""
    colours = (augmentation.brightness, augmentation.contrast, augmentation.saturation, augmentation.hue)
    return OneStream(
        [
            ResizeWhole(augmentation.scale),
            CropVaried(size, augmentation.max_share),
            A.HorizontalFlip(p=augmentation.flip),
            DistortionByStep(*colours),
            A.PadIfNeeded(*size, position="top_left", fill=MEAN_COLOUR, fill_mask=IGNORE),
        ]
    )


class ResizeWhole(A.DualTransform):  # type: ignore[misc]  # albumentations ships no types
    """Resizes the whole image by a random ratio."""

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__(p=1.0)
        self.scale = scale

    def get_params(self) -> dict[str, Any]:
        """Draws the ratio."""
        return {"ratio": self.py_random.uniform(*self.scale)}

    def apply(self, img: NDArray[Any], ratio: float, **params: Any) -> NDArray[Any]:
        """Resizes the image, (H', W', 3) uint8."""
        return _resized(img, ratio, cv2.INTER_LINEAR)

    def apply_to_mask(self, mask: NDArray[Any], ratio: float, **params: Any) -> NDArray[Any]:
        """Resizes the labels, (H', W') uint8."""
        return _resized(mask, ratio, NEAREST)


def _resized(picture: NDArray[Any], ratio: float, interpolation: int) -> NDArray[Any]:
    height, width = (round(side * ratio) for side in picture.shape[:2])
    resized: NDArray[Any] = cv2.resize(picture, (width, height), interpolation=interpolation)
    return resized


class CropVaried(A.DualTransform):  # type: ignore[misc]
    """Cuts a random window, drawn again up to ten times where one class has too large a share."""

    def __init__(self, size: tuple[int, int], max_share: float) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.max_share = max_share

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws windows until one is varied."""
        window = self._window(params["shape"])
        for _ in range(10):
            classes, counts = np.unique(data["mask"][window], return_counts=True)
            counts = counts[classes != IGNORE]
            if len(counts) > 1 and counts.max() / counts.sum() < self.max_share:
                break
            window = self._window(params["shape"])
        return {"window": window}

    def _window(self, shape: tuple[int, ...]) -> tuple[slice, slice]:
        spare = [max(have - want, 0) for have, want in zip(shape[:2], self.size, strict=True)]
        top, left = (int(self.py_random.random() * (rest + 1)) for rest in spare)
        return slice(top, top + self.size[0]), slice(left, left + self.size[1])

    def apply(self, img: NDArray[Any], window: tuple[slice, slice], **params: Any) -> NDArray[Any]:
        """Cuts the window out of image or labels."""
        return np.ascontiguousarray(img[window])


class DistortionByStep(PhotometricDistortion):
    """Distorts colours on floats, one step after the other, bytes in between, as mmsegmentation does."""

    def apply(
        self,
        img: NDArray[Any],
        shift: float | None,
        contrast: float | None,
        saturation: float | None,
        turn: int | None,
        contrast_first: bool,
        **params: Any,
    ) -> NDArray[Any]:
        """Changes the colours of (H, W, 3) uint8 RGB."""
        if shift is not None:
            img = _converted(img, shift=shift)
        if contrast is not None and contrast_first:
            img = _converted(img, contrast)
        if saturation is not None:
            hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
            hsv[..., 1] = _converted(hsv[..., 1], saturation)
            img = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if turn is not None:
            hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 180
            img = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        return _converted(img, contrast) if contrast is not None and not contrast_first else img


def _converted(levels: NDArray[Any], factor: float = 1.0, shift: float = 0.0) -> NDArray[np.uint8]:
    return np.clip(levels.astype(np.float32) * factor + shift, 0, 255).astype(np.uint8)
