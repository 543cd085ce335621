"""Which tokens get a row in the head: those that training maskiges use, and a guard of those nearest to them.

A tokenizer for images has far more tokens than label maps need, and each costs the head a row. The released code
has a tool that counts them and a head that does not use it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gss.networks.token_scores import Vocabulary
from gss.objectives.targets import token_valid
from gss.pipeline import MaskigeAutoencoder
from gss.registry import lookup

log = logging.getLogger(__name__)

AT_A_TIME = 1024  # tokens whose distances to the kept ones are held at once


@dataclass(frozen=True)
class Selection:
    """A choice of tokens, or none, where the head has a row for each whether it is used or not.

    Args:
        vocabulary: the tokens with a row; None: all of them.
        num_used: those that training maskiges use; 0 where nothing was counted.
        num_guard: those beyond them that are nearest to them.
        vocab_size: V.
    """

    vocabulary: Vocabulary | None = None
    num_used: int = 0
    num_guard: int = 0
    vocab_size: int = 0

    @property
    def num_rows(self) -> int:
        """R, the rows of the head."""
        return self.num_used + self.num_guard

    @property
    def figures(self) -> dict[str, int]:
        """What a run records: `rows`; nothing where nothing was counted."""
        return {"rows": self.num_rows} if self.num_used else {}

    def __str__(self) -> str:
        """One sentence for the run's log."""
        kinds = f"{self.num_used} used, {self.num_guard} guard"
        return f"head: {self.num_rows} of {self.vocab_size} tokens have a row ({kinds})"


def choose_tokens(
    head: Mapping[str, Any], autoencoder: MaskigeAutoencoder | None, label_maps: Iterable[Tensor], device: torch.device
) -> Selection:
    """The choice that `head.vocabulary` asks for, said in the run's log.

    Args:
        head: plain data, the group head.
        autoencoder: whose tokens are counted; None for the pixel twin, which has no rows.
        label_maps: training labels at rest, each (B, H, W) int64 in [0, K) or 255; read only if tokens are counted.
        device: on which they are encoded.

    Raises:
        ValueError: for a vocabulary that does not exist, or a guard below 0.
    """
    if autoencoder is None or not lookup({"full": False, "used": True}, "head.vocabulary", head["vocabulary"]):
        return Selection()
    tokenizer, maps = autoencoder.to(device).tokenizer, (labels.to(device) for labels in label_maps)
    used = used_tokens(maps, autoencoder.encode, tokenizer.vocab_size, autoencoder.stride)
    chosen = select_tokens(used, tokenizer.code_table, head["guard"])
    autoencoder.cpu()
    log.info("%s", chosen)
    return chosen


@torch.no_grad()
def used_tokens(
    label_maps: Iterable[Tensor], encode: Callable[[Tensor], Tensor], vocab_size: int, stride: int
) -> Tensor:
    """Whether a cell with a labelled pixel takes each token.

    Args:
        label_maps: training labels at rest, without augmentation, each (B, H, W) int64 in [0, K) or 255.
        encode: the posterior: labels (B, H, W) int64 to tokens (B, h, w) int64 in [0, V).
        vocab_size: V.
        stride: pixels per token.

    Returns:
        (V,) bool on the CPU.

    Raises:
        ValueError: if nothing is labelled.
    """
    used = torch.zeros(vocab_size, dtype=torch.bool)
    for labels in label_maps:
        used[encode(labels).cpu()[token_valid(labels, stride).cpu()]] = True
    if not used.any():
        raise ValueError("no training pixel is labelled: check the ignored ids in data.label_space")
    return used


def select_tokens(used: Tensor, code_table: Tensor, guard: float) -> Selection:
    """The used tokens and, as a guard, `guard` times as many others, those nearest to a used one.

    Augmentation and other splits bring tokens that the training maps at rest do not show. A token without a row stands
    for the kept one that is nearest to it, by Euclidean distance in the code table.

    Args:
        used: (V,) bool, at least one of them.
        code_table: (V, C) float32, what the decoder reads of each token.
        guard: from 0 on.

    Raises:
        ValueError: if `guard` is negative.
    """
    if guard < 0:
        raise ValueError(f"head.guard must be 0 or more, a share of the tokens used, got {guard}")
    kept, table = used.clone(), code_table.detach().cpu().float()
    others = (~used).nonzero()[:, 0]
    distance, _ = _nearest(table[others], table[used])
    kept[others[distance.argsort(stable=True)[: round(guard * int(used.sum()))]]] = True
    num_used, vocabulary = int(used.sum()), None
    if not kept.all():
        tokens, rows = kept.nonzero()[:, 0], torch.empty(len(kept), dtype=torch.long)
        rows[tokens] = torch.arange(len(tokens))
        rows[~kept] = _nearest(table[~kept], table[kept])[1]
        vocabulary = Vocabulary(tokens, rows)
    return Selection(vocabulary, num_used, int(kept.sum()) - num_used, len(used))


def _nearest(entries: Tensor, among: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (n,) float32 to the nearest of `among` (m, C) from each of `entries` (n, C), and its index (n,)."""
    found = [torch.cdist(part, among).min(dim=1) for part in entries.split(AT_A_TIME)]
    return torch.cat([each.values for each in found]), torch.cat([each.indices for each in found])
