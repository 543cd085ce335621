"""From images of any size to class probabilities at that size: whole or in windows, in one view or in several.

What is averaged and resized is class_probs, never a maskige and never labels.

What belongs here: how an image of any size is shown to a network, and how its answers come together again.
"""

from __future__ import annotations

from gss.inference.policy import Inference, build_inference
from gss.inference.sliding_window import Band, Segment

__all__ = ["Band", "Inference", "Segment", "build_inference"]
