"""On a GPU: the same numbers as on the CPU, both stages in bf16, and a compiled network. Skipped without one."""

from __future__ import annotations

import pytest
import torch

from gss.networks.token_scores import TokenScores
from gss.objectives.divergence import token_divergence
from gss.objectives.targets import TokenTargets
from gss.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device was found")

CELLS, WIDTH, VOCAB, CLASSES = (2, 16, 16), 32, 512, 7


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


PARTS = draw(*CELLS, WIDTH, seed=1), draw(VOCAB, WIDTH, seed=2) / 4, draw(VOCAB, seed=3)
TOKENS = torch.randint(VOCAB, CELLS, generator=torch.Generator().manual_seed(4))
SHOWN = (6 * draw(VOCAB, CLASSES, 4, 4, seed=5)).softmax(dim=1)


def divergence_and_gradients(device: str, precision: torch.dtype) -> list[torch.Tensor]:
    parts = [part.to(device).requires_grad_() for part in PARTS]
    targets = TokenTargets(TOKENS.to(device), torch.ones(CELLS, dtype=torch.bool, device=device))
    with torch.autocast(device, precision, enabled=precision != torch.float32):
        loss = token_divergence(TokenScores(*parts), targets, focal=2.0)
    return [loss.detach().cpu(), *(gradient.cpu() for gradient in torch.autograd.grad(loss, parts))]


def test_divergence_and_gradients_are_those_of_the_cpu():
    for here, there in zip(
        divergence_and_gradients("cuda", torch.float32), divergence_and_gradients("cpu", torch.float32), strict=True
    ):
        torch.testing.assert_close(here, there, rtol=1e-4, atol=1e-6)


def test_mixed_precision_stays_near():
    exact, mixed = (divergence_and_gradients("cuda", kind) for kind in (torch.float32, torch.bfloat16))
    assert mixed[0].item() == pytest.approx(exact[0].item(), rel=2e-2)
    for ours, theirs in zip(mixed[1:], exact[1:], strict=True):
        assert (ours - theirs).norm() < 3e-2 * theirs.norm()


def test_labels_of_the_expected_readout_are_those_of_the_cpu():
    bounds = SHOWN.flatten(2).amin(2).T.contiguous(), SHOWN.flatten(2).amax(2).T.contiguous()
    here = TokenScores(*(part.cuda() for part in PARTS)).likeliest_classes(
        SHOWN.cuda(), *(bound.cuda() for bound in bounds)
    )
    there = TokenScores(*PARTS).likeliest_classes(SHOWN, *bounds)
    assert (here.cpu() == there).float().mean() > 0.999  # ties aside


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_both_stages_train_in_bf16(compose_tiny, tmp_path, compiled):
    prior = train(compose_tiny(tmp_path / "prior", "stage=prior", "hardware=gpu"))["prior"]
    more = [f"prior={prior}", "hardware=gpu", f"hardware.compile={str(compiled).lower()}"]
    scores = train(compose_tiny(tmp_path / "conditioning", "stage=conditioning", *more))
    assert 0 <= scores["val/miou"] <= 1
