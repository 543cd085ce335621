"""What stage=prior trains: first the tokenizer, then, on the frozen tokenizer, the colours and the inverse."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gss.metrics.boundaries import CROSS, touches_another
from gss.networks.conditioning import ConditioningNetwork, ConditioningOutput
from gss.networks.token_scores import TokenScores
from gss.objectives.conditioning import pixel_loss, reading_loss
from gss.objectives.losses import mistake_loss, reconstruction_loss
from gss.objectives.transforms import jitter_colours, reconstructed_maskige
from gss.pipeline import Generation, MaskigeAutoencoder
from gss.stages.base import Batch

POSITIONS = 8  # a crop moves in steps of an eighth of its side
EVENLY = 1 / 6  # share of the crops that lie anywhere


class Phase(nn.Module, ABC):
    """One of the trainings of stage=prior, each a fit of its own, so that every trained weight gets a gradient.

    A class sets `name`, which checkpoints record, `steps_key`, the configuration's key of its length, and `generates`
    if it knows a conditioning network, whose images it can then segment.
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
    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch, number: int) -> dict[str, Tensor]:
        """Scalars float32 by log key, the first the loss, of a batch, which has this number in the training."""

    def generate(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Generation:
        """What the conditioning network makes of images (B, 3, H, W) by the inverse as it is now."""
        raise NotImplementedError(f"phase={self.name} knows no conditioning network")


class TokenizerPhase(Phase):
    """Reconstruction of the maskige, E_q |D(z) - X(c)|^2, or of the labels where the tokenizer itself knows classes.

    Args:
        commitment_weight: of the quantizer's own loss beside the reconstruction.
        cross_entropy_weight: beside the expected cost of mistakes, of a tokenizer that is trained on labels.
        class_weights: (K,) float32, what a pixel of each class counts in a mistake; None: all the same.
        crops: cuts what a step sees from the labels of the batch; None: all of them.
    """

    name, steps_key = "tokenizer", "max_steps"
    class_weights: Tensor | None

    def __init__(
        self,
        commitment_weight: float = 0.25,
        cross_entropy_weight: float = 0.3,
        class_weights: Tensor | None = None,
        crops: BoundaryCrops | None = None,
    ) -> None:
        super().__init__()
        self.commitment_weight, self.cross_entropy_weight = commitment_weight, cross_entropy_weight
        self.register_buffer("class_weights", class_weights, persistent=False)
        self.crops = crops

    def trained(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """Nothing to free: a tokenizer says itself which of its weights learn."""
        return []

    def frozen(self, autoencoder: MaskigeAutoencoder) -> list[nn.Module]:
        """Colours and inverse: reconstructed best would be colours that all became one."""
        return [autoencoder.transform, autoencoder.inverse]

    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch, number: int) -> dict[str, Tensor]:
        """What reconstructing labels (B, H, W) loses, plus the commitment."""
        labels = batch["labels"]
        if self.crops is not None:  # sampled by number, so that a resumed run sees the same ones
            labels = self.crops(labels, torch.Generator().manual_seed(number))
        maskige = autoencoder.paint(labels)
        result = autoencoder.tokenizer.reconstruct(maskige)
        if (scores := result.class_scores) is None:
            reconstruction = reconstruction_loss(result.maskige, maskige)
        else:
            rendered = autoencoder.render(labels)
            weights = scores.new_ones(scores.shape[1]) if self.class_weights is None else self.class_weights
            certainty = self.cross_entropy_weight * pixel_loss(scores, rendered)
            reconstruction = certainty + mistake_loss(scores, rendered, weights)
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

    def losses(self, autoencoder: MaskigeAutoencoder, batch: Batch, number: int) -> dict[str, Tensor]:
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
        """The network's segmentation of images (B, 3, H, W), at the size of their labels."""
        height, width = batch["labels"].shape[-2:]
        return autoencoder.read(autoencoder.decode_scores(self._prior(batch), self.readout), (height, width))

    @torch.no_grad()
    def _maskige(self, autoencoder: MaskigeAutoencoder, batch: Batch) -> Tensor:
        return autoencoder.decode_scores(self._prior(batch), self.readout).maskige

    def _prior(self, batch: Batch) -> TokenScores:
        """What the network says of images (B, 3, H, W)."""
        output: ConditioningOutput = self.network(batch["image"])
        assert output.prior is not None
        return output.prior


@dataclass(frozen=True)
class BoundaryCrops:
    """Cuts training crops out of label maps, where classes meet: inside one class a tokenizer has little to learn.

    Crops are sampled in proportion to the class boundaries in them, a sixth of them anywhere.

    Args:
        number: of crops per step.
        side: in pixels.

    Raises:
        ValueError: if either is not positive.
    """

    number: int
    side: int

    def __post_init__(self) -> None:
        if self.number < 1 or self.side < 1:
            raise ValueError(f"stage.windows needs a number and a side of at least 1, got {self.number}, {self.side}")

    def __call__(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Crops of a batch.

        Args:
            labels: (B, H, W) int64 in [0, K) or 255.
            generator: samples them, on the CPU.

        Returns:
            labels (number, side, side) int64 in [0, K) or 255.

        Raises:
            ValueError: if a crop does not fit into the label maps.
        """
        if self.side > min(labels.shape[-2:]):
            raise ValueError(
                f"stage.windows.side={self.side} is larger than label maps of {labels.shape[-2]}x{labels.shape[-1]}: "
                "choose a smaller side, or a larger data.size"
            )
        step = max(self.side // POSITIONS, 1)
        density = nn.functional.avg_pool2d(touches_another(labels, CROSS).float()[:, None], self.side, step)[:, 0].cpu()
        pull = density.flatten() / density.sum().clamp(min=torch.finfo(density.dtype).tiny)
        pull = (1 - EVENLY) * pull + EVENLY / pull.numel()
        sampled = torch.multinomial(pull, self.number, replacement=True, generator=generator)
        places = zip(*(index.tolist() for index in torch.unravel_index(sampled, density.shape)), strict=True)
        return torch.stack(
            [
                labels[picture, row * step : row * step + self.side, column * step : column * step + self.side]
                for picture, row, column in places
            ]
        )
