"""A convolution and its BatchNorm folded into one linear map, against the two carried out by torch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from gss.networks.heads import FreeTokenHead, folded


def layers():
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(5, 8, 1, bias=False), nn.BatchNorm2d(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    return convolution.double(), norm.double()


def features(dtype=torch.float64):
    """Far from zero mean, so that statistics by squares alone would lose digits."""
    drawn = torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (20 + drawn * torch.arange(1, 6)[:, None, None]).to(dtype).requires_grad_()


def applied(weight, bias, image):
    return torch.einsum("dc,bchw->bdhw", weight, image) + bias[:, None, None]


@pytest.mark.parametrize("training", [True, False])
def test_values_gradients_and_running_statistics_are_those_of_the_two_layers(training):
    image, (convolution, norm) = features(), (each.train(training) for each in layers())
    pull = torch.randn(2, 8, 4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted_by = [image, convolution.weight, norm.weight, norm.bias]
    twin = copy.deepcopy(norm)
    expected = twin(convolution(image))
    ours = applied(*folded(image, convolution, norm), image)
    torch.testing.assert_close(ours, expected)
    made = torch.autograd.grad((ours * pull).sum(), wanted_by)
    theirs = torch.autograd.grad((expected * pull).sum(), [image, convolution.weight, twin.weight, twin.bias])
    for one, other in zip(made, theirs, strict=True):
        torch.testing.assert_close(one, other)
    for name, kept in twin.named_buffers():
        torch.testing.assert_close(norm.get_buffer(name), kept)


def test_the_head_s_scores_are_those_of_its_layers_carried_out():
    torch.manual_seed(0)
    head, image = FreeTokenHead(5, vocab_size=9, hidden=8).train(), features(torch.float32)
    expected = head.scores(copy.deepcopy(head.hidden)(image))
    torch.testing.assert_close(head(image).logits(), expected, rtol=1e-4, atol=1e-4)


def test_statistics_that_are_shared_between_processes_are_left_to_torch():
    torch.manual_seed(0)
    head, image = FreeTokenHead(5, vocab_size=9, hidden=8).eval(), features(torch.float32)
    shared = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(head)).eval()
    assert shared(image).hidden is None
    torch.testing.assert_close(shared(image).logits(), head(image).logits(), rtol=1e-4, atol=1e-4)
