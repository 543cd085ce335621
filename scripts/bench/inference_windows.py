"""Labels of a large image in sliding windows: bands of rows against whole maps, as is customary.

The plain way pads what is said of each window to the whole picture, adds it to a map of that size, divides by how
often each pixel was seen, and takes the likeliest class. Ours holds one row of windows. The network is the same on both
sides, and as small as can be (a 1x1 convolution): little of what is compared is its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from bench.harness import Effort, Row, peak_memory
from gss.inference import Inference
from gss.inference.sliding_window import starts

SIZE, WINDOW, STEP = (1024, 2048), 768, 512  # of Cityscapes, and its published test
NUM_CLASSES = 19
SURE = 1e-5  # by how much the likeliest class must lead for labels to be compared
BAR = 1.5


def measure(effort: Effort) -> list[Row]:
    """Peak memory of image to labels."""
    torch.manual_seed(0)
    image, network = torch.rand(1, 3, *SIZE), Network()
    square, step = (WINDOW, WINDOW), (STEP, STEP)
    inference = Inference(square, 8, name="window", scale="native", window=square, step=step)

    def ours() -> Tensor:
        """Labels (1, H, W) int64 in [0, K)."""
        return inference.labels(network.segment, image)["pixel"]

    with torch.inference_mode():
        _compare(inference, network, image, ours())
        held, held_by_other = peak_memory(ours), peak_memory(lambda: averaged_whole(network, image).argmax(dim=1))
    return [Row("inference_windows_memory", (held,), (held_by_other,), "MiB", BAR)]


class Network(nn.Module):
    """Images (B, 3, h, w) float32 to class_probs (B, K, h, w) float32 that depend on the place in the window."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, NUM_CLASSES, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Scores that fall off by class from left to right, so that overlapping windows disagree."""
        scores = self.scores(image)
        slope = torch.linspace(-1, 1, image.shape[-1]) * torch.linspace(-1, 1, NUM_CLASSES)[:, None, None]
        return scores.add_(slope).softmax(dim=1)

    def segment(self, shown: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The form in which inference takes a network."""
        yield "pixel", self(shown)


def averaged_whole(network: nn.Module, image: Tensor) -> Tensor:
    """The plain way: class_probs (1, K, H, W) float32 of an image (1, 3, H, W) float32 in [0, 1]."""
    height, width = image.shape[-2:]
    total, seen = image.new_zeros(1, NUM_CLASSES, height, width), image.new_zeros(1, 1, height, width)
    for top in starts(height, WINDOW, STEP):
        for left in starts(width, WINDOW, STEP):
            place = (..., slice(top, top + WINDOW), slice(left, left + WINDOW))
            said = network(image[place])
            right, bottom = width - left - said.shape[-1], height - top - said.shape[-2]
            total += nn.functional.pad(said, (left, right, top, bottom))
            seen[place] += 1
    return total / seen


def _compare(inference: Inference, network: Network, image: Tensor, labels: Tensor) -> None:
    """Holds both ways to the same class probabilities, and to the same labels where no two classes are level."""
    expected = averaged_whole(network, image)
    torch.testing.assert_close(inference(network.segment, image)["pixel"], expected, rtol=0, atol=1e-6)
    first, second = expected.topk(2, dim=1).values.unbind(dim=1)
    assert labels[first - second > SURE].equal(expected.argmax(dim=1)[first - second > SURE]), "labels differ"
