"""A head tied to the embeddings with which a tokenizer's decoder begins, for decoders that look at neighbours."""

from __future__ import annotations

import math

from torch import Tensor

from gss.networks.heads import STEP, ProductHead
from gss.networks.vocabulary import Vocabulary


class CodeTiedTokenHead(ProductHead):
    """A token's code is its entry in the tokenizer's code table, the embedding with which the decoder begins.

    A convolutional decoder makes of a token what its neighbours say as well, so that what it decodes to by itself
    describes it badly; its code is all that the decoder knows of it. The head has channels x C weights.

    Columns of the table are brought to mean 0 and variance 1 over the vocabulary, and the score is
    8 / C <W features, code_t> + b_t: a step of an optimiser like Adam moves it as far as it moves that of the
    `TiedTokenHead`. W starts with the standard deviation at which scores of features of variance 1 have variance 1.

    Args:
        channels: width of the fused map.
        code_table: (V, C) float32, `Tokenizer.code_table`.
        log_frequency: (V,) float32, log of each token's share of the training cells.
        code_class_probs: (V, K, stride, stride) float32, each token's decoded class probabilities, if the bilinear
            pixel head's scores count as evidence; None: they do not.
        vocabulary: the tokens with a row of their own; None: all V.
    """

    def __init__(
        self,
        channels: int,
        code_table: Tensor,
        log_frequency: Tensor,
        code_class_probs: Tensor | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        width = code_table.shape[1]
        codes, std = STEP / width * standardised(code_table), math.sqrt(width / channels) / STEP
        super().__init__(channels, codes, std, log_frequency, code_class_probs, vocabulary)


def standardised(table: Tensor) -> Tensor:
    """Columns of mean 0 and variance 1: (V, C) float32 to the same.

    A column that hardly varies is not blown up: its deviation counts as at least a thousandth of the largest one.
    """
    centred = table.detach() - table.detach().mean(dim=0)
    deviation = centred.square().mean(dim=0).sqrt()
    return centred / deviation.clamp(min=(deviation.max() / 1000).clamp(min=1e-12))
