from __future__ import annotations

import pytest
import torch

from gss.networks.fusion import LevelFusion, MultiLevelAggregation, resize
from gss.window_attention import swin_block


@pytest.mark.parametrize("grid", [(5, 9), (1, 1), (8, 8), (2, 17), (13, 3)])
@pytest.mark.parametrize("index", [0, 1])
def test_a_window_block_takes_any_grid(grid, index):
    block = swin_block(16, num_heads=2, window_size=4, index=index).eval()
    features = torch.rand(2, *grid, 16)
    assert block(features).shape == features.shape


def reach(index, row=0, column=0):
    """Which cells of an 8x8 grid the output at one cell depends on, by its gradient."""
    torch.manual_seed(0)
    block = swin_block(8, num_heads=2, window_size=4, index=index).eval()
    features = torch.rand(1, 8, 8, 8, requires_grad=True)
    block(features)[0, row, column].sum().backward()
    return features.grad[0].abs().amax(-1) > 1e-9  # masked attention is exp(-100), not 0


def test_attention_stays_inside_the_window():
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, :4] = True
    assert reach(0, row=5, column=1).equal(expected)


def test_every_second_block_shifts_its_windows_and_does_not_wrap_round():
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert reach(1, row=3, column=3).equal(expected)
    corner = torch.zeros(8, 8, dtype=torch.bool)
    corner[:2, :2] = True
    assert reach(1, row=0, column=0).equal(corner)


def test_a_block_that_saw_one_grid_gives_the_same_on_it_after_another():
    block = swin_block(16, 2, 4, 1).eval()
    features = torch.rand(1, 5, 9, 16)
    first = block(features)
    block(torch.rand(1, 8, 4, 16))
    torch.testing.assert_close(block(features), first)


def test_levels_shrink_by_area_and_grow_bilinearly():
    level = torch.arange(16.0).view(1, 1, 4, 4)
    assert resize(level, (2, 2)).tolist() == [[[[2.5, 4.5], [10.5, 12.5]]]]
    grown = resize(torch.tensor([[[[0.0, 4.0]]]]), (1, 4))
    assert grown.tolist() == [[[[0.0, 1.0, 3.0, 4.0]]]]


@pytest.mark.parametrize("grid", [(5, 9), (16, 16)])
def test_a_pyramid_becomes_one_map_on_the_token_grid(grid):
    fusion = MultiLevelAggregation([4, 6, 8], level_channels=8, channels=16, num_heads=2, window_size=4)
    pyramid = [torch.rand(2, channels, 20 // 2**i, 36 // 2**i) for i, channels in enumerate([4, 6, 8])]
    assert fusion(pyramid, grid).shape == (2, 16, *grid)


@pytest.mark.parametrize("grid", [(8, 8), (4, 4), (2, 2)])
def test_levels_mixed_each_at_its_own_size_are_the_levels_concatenated_and_mixed(grid):
    """The published order: resize, concatenate, convolve."""
    torch.manual_seed(0)
    fusion = LevelFusion([4, 6, 8], level_channels=5, channels=7).double()
    pyramid = [torch.rand(2, c, 8 // 2**i, 8 // 2**i).double().requires_grad_() for i, c in enumerate([4, 6, 8])]
    wanted_by = [*pyramid, *fusion.parameters()]
    levels = [resize(conv(level), grid) for conv, level in zip(fusion.levels, pyramid, strict=True)]
    expected = fusion.fuse(torch.cat(levels, dim=1))
    ours = fusion(pyramid, grid)
    torch.testing.assert_close(ours, expected)
    theirs = torch.autograd.grad(expected.square().sum(), wanted_by)
    for made, other in zip(torch.autograd.grad(ours.square().sum(), wanted_by), theirs, strict=True):
        torch.testing.assert_close(made, other)


def test_every_level_has_a_say():
    torch.manual_seed(0)
    fusion = MultiLevelAggregation([4, 6, 8], level_channels=8, channels=16, num_heads=2, window_size=4)
    pyramid = [torch.rand(1, c, 8 // 2**i, 8 // 2**i, requires_grad=True) for i, c in enumerate([4, 6, 8])]
    fusion(pyramid, (4, 4)).square().sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in pyramid)


def test_checkpointed_blocks_give_the_same_output_and_gradients():
    def run(checkpointing):
        torch.manual_seed(0)
        fusion = MultiLevelAggregation(
            [4, 6], level_channels=8, channels=16, num_heads=2, window_size=4, checkpointing=checkpointing
        )
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t
        ):
            output = fusion([torch.rand(2, 4, 8, 8), torch.rand(2, 6, 4, 4)], (8, 8))
        output.square().mean().backward()
        return output, [weight.grad for weight in fusion.parameters()], sum(kept)

    (output, gradients, kept), (output_again, gradients_again, kept_again) = run(False), run(True)
    torch.testing.assert_close(output_again, output)
    for gradient, again in zip(gradients, gradients_again, strict=True):
        torch.testing.assert_close(again, gradient)
    assert kept_again < kept / 2
