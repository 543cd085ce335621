"""What stage=prior trains: first the tokenizer, then, on the frozen tokenizer, the colours and the inverse."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from gss.losses import reconstruction_loss
from gss.networks.conditioning import ConditioningNetwork
from gss.pipeline import Generation, MaskigeAutoencoder
from gss.stages.base import Batch
from gss.transform_learning import jitter_colours, reading_loss, reconstructed_maskige


class Phase(nn.Module, ABC):
    """One of the trainings of stage=prior, each a fit of its own, so that every trained weight gets a gradient.

    A class sets `name`, which checkpoints record, `steps_key`, the configuration's key of its length, and `generates`
    if it knows a conditioning network, whose photographs it can then segment.
    """

    name: str
    steps_key: str
    generates = False

    @abstractmethod
    def trained(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """The parts that gradients shall reach, and were kept from perhaps by the phase before."""

    @abstractmethod
    def frozen(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """The parts that stay as they are."""

    @abstractmethod
    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> dict[str, Tensor]:
        """Scalars float32 by log key; the first is the loss."""

    def generate(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Generation:
        """What the conditioning network makes of photographs (B, 3, H, W) by the inverse as it is now."""
        raise NotImplementedError(f"phase={self.name} knows no conditioning network")


class TokenizerPhase(Phase):
    """Reconstruction of the maskige, E_q |D(z) - X(c)|^2, and the quantizer's own loss.

    Args:
        commitment_weight: of the quantizer's loss.
    """

    name, steps_key = "tokenizer", "max_steps"

    def __init__(self, commitment_weight: float) -> None:
        super().__init__()
        self.commitment_weight = commitment_weight

    def trained(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """Nothing to free: a tokenizer says itself which of its weights learn."""
        return []

    def frozen(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """Colours and inverse: reconstructed best would be colours that all became one."""
        return [autoencoder.transform, autoencoder.inverse]

    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> dict[str, Tensor]:
        """Mean squared colour distance and the commitment, of labels (B, H, W)."""
        maskige = autoencoder.paint(batch["labels"])
        result = autoencoder.tokenizer.reconstruct(maskige)
        reconstruction = reconstruction_loss(result.maskige, maskige)
        loss = reconstruction + self.commitment_weight * result.commitment
        return {"train/loss": loss, "train/reconstruction": reconstruction}


class TransformsPhase(Phase):
    """Cross-entropy of the classes read off reconstructions: colours, inverse or both.

    Args:
        token_temperature: of the gradients that pass through tokens to learned colours.
        colour_jitter: noise on what the inverse reads, in [0, 1): a share of half the closest pair's distance.

    Raises:
        ValueError: if the temperature is not positive, or the jitter out of range.
    """

    name, steps_key = "transforms", "maskige.max_steps"

    def __init__(self, token_temperature: float = 1.0, colour_jitter: float = 0.0) -> None:
        super().__init__()
        if token_temperature <= 0:
            raise ValueError(f"maskige.token_temperature must be positive, got {token_temperature}")
        if not 0 <= colour_jitter < 1:
            raise ValueError(f"maskige.colour_jitter must lie in [0, 1), got {colour_jitter}")
        self.token_temperature, self.colour_jitter = token_temperature, colour_jitter

    def trained(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """Colours, as far as they are a parameter, and inverse."""
        return [autoencoder.transform, autoencoder.inverse]

    def frozen(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """The tokenizer."""
        return [autoencoder.tokenizer]

    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> dict[str, Tensor]:
        """The cross-entropy of labels (B, H, W)."""
        maskige = self._maskige(autoencoder, batch)
        if self.colour_jitter:
            half = autoencoder.transform.palette.min_distance() / 255 / 2
            maskige = jitter_colours(maskige, self.colour_jitter * half)
        return {"train/reading": reading_loss(autoencoder, maskige, batch["labels"])}

    def _maskige(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Tensor:
        """What the inverse reads in training: (B, 3, H', W') float32 in [0, 1], of whole cells."""
        return reconstructed_maskige(autoencoder, batch["labels"], self.token_temperature)


class PredictionsPhase(TransformsPhase):
    """The inverse alone, on what a trained conditioning network generates: a denoiser of its predictions.

    The released FT-W was trained so, whereas the paper says reconstructions.

    Args:
        network: trained and frozen.
        readout: expected or argmax, how it generates.
        colour_jitter: as above.
    """

    name = "predictions"
    generates = True

    def __init__(self, network: ConditioningNetwork, readout: str, colour_jitter: float = 0.0) -> None:
        super().__init__(colour_jitter=colour_jitter)
        self.network, self.readout = network, readout

    def trained(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """The inverse."""
        return [autoencoder.inverse]

    def frozen(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """All else."""
        return [autoencoder.tokenizer, autoencoder.transform, self.network]

    def generate(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Generation:
        """The network's segmentation of photographs (B, 3, H, W), at the size of their labels."""
        height, width = batch["labels"].shape[-2:]
        return autoencoder.read(autoencoder.draw(self._prior_logits(batch), self.readout), (height, width))

    @torch.no_grad()
    def _maskige(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Tensor:
        return autoencoder.draw(self._prior_logits(batch), self.readout).maskige

    def _prior_logits(self, batch: Batch) -> Tensor:
        """(B, V, h, w) float of photographs (B, 3, H, W)."""
        logits = self.network(batch["image"]).prior_logits
        assert logits is not None
        return torch.as_tensor(logits)
