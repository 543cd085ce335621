"""What a finished stage one looks like: its palette, its codebook, and the label maps that it reconstructs worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gss.labels import LabelSpace
from gss.overlay import Pixels, to_pixels
from gss.panels import PanelRow, draw_panel
from gss.panels.codebook import draw_codebook, order_by_use
from gss.panels.palette import draw_palette
from gss.pipeline import MaskigeAutoencoder
from gss.stage_one import StageOne
from gss.stages.reconstruction import ReconstructionReport
from gss.stages.worst import Reconstructed

MOST_TOKENS = 1024


def save_pictures(
    stage_one: StageOne, label_space: LabelSpace, report: ReconstructionReport, folder: Path
) -> list[Path]:
    """Writes `palette.png`, `codebook.png` and `worst_reconstructions.png`, and gives their paths.

    The last is left out where no label map has a labelled pixel.

    Args:
        stage_one: what was measured.
        label_space: names and display colours of its classes.
        report: what was measured on a split.
        folder: of the run.
    """
    autoencoder = stage_one.autoencoder.cpu()
    pictures = {
        "palette": _palette(autoencoder, label_space),
        "codebook": _codebook(autoencoder, report.token_counts.cpu()),
    }
    if report.worst:
        rows = [_row(autoencoder, one) for one in report.worst]
        pictures["worst_reconstructions"] = draw_panel(rows, label_space, autoencoder.transform.colours)
    paths = [folder / f"{name}.png" for name in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        picture.save(path, optimize=True)
    return paths


def _palette(autoencoder: MaskigeAutoencoder, label_space: LabelSpace) -> Image.Image:
    palette = autoencoder.transform.palette
    colours = [(red, green, blue) for red, green, blue in palette.every_8_bit().tolist()]
    return draw_palette([*label_space.names, "ignored"], colours, palette.closest_pair())


def _codebook(autoencoder: MaskigeAutoencoder, counts: Tensor) -> Image.Image:
    """The most used tokens of counts (V,) int64."""
    shown = order_by_use(counts.tolist(), MOST_TOKENS)
    shares = (counts.double() / counts.sum().clamp(min=1))[shown]
    some = f"the {len(shown)} most used of " if len(shown) < len(counts) else ""
    heading = f"{some}{len(counts)} tokens, {int((counts > 0).sum())} of which occur; share of the cells below each"
    return draw_codebook(_tiles(autoencoder, shown), shares.numpy(), heading)


@torch.no_grad()
def _tiles(autoencoder: MaskigeAutoencoder, tokens: Sequence[int]) -> Pixels:
    """What tokens decode to amid their equals: the middle of 3x3 cells of one token each, (N, s, s, 3) uint8."""
    tiles: list[Pixels] = []
    for some in torch.tensor(tokens).split(64):
        maskiges = autoencoder.decode(some[:, None, None].expand(-1, 3, 3)).maskige
        assert maskiges is not None
        side = maskiges.shape[-1] // 3
        tiles += map(to_pixels, maskiges[:, :, side : 2 * side, side : 2 * side])
    return np.stack(tiles)


@torch.no_grad()
def _row(autoencoder: MaskigeAutoencoder, one: Reconstructed) -> PanelRow:
    labels = one.labels[None]
    maskige, decoded = autoencoder.transform.paint(labels)[0], autoencoder.reconstruct(labels).maskige
    assert decoded is not None
    shown = (one.image, one.labels, maskige, decoded[0], one.predicted_labels)
    return PanelRow(one.name, *shown, class_probs=None, miou=one.miou)
