from __future__ import annotations

import numpy as np
import pytest
import torch

from gss.assembly.vocabulary_selection import select_tokens, used_tokens


def test_tokens_are_used_that_cover_a_labelled_pixel():
    """One cell of four pixels per token; the posterior here is the label of the cell's first pixel."""
    labels = torch.tensor([[3, 3, 255, 255], [3, 3, 255, 255], [255, 1, 5, 5], [4, 4, 5, 5]])[None]

    def encode(painted):
        return painted[:, ::2, ::2].clamp(max=7)

    assert used_tokens([labels[:, :2], labels[:, 2:]], encode, 8, 2).nonzero()[:, 0].tolist() == [3, 5, 7]


def test_nothing_labelled_is_said():
    with pytest.raises(ValueError, match=r"no training pixel is labelled: .*data\.label_space"):
        used_tokens([torch.full((1, 4, 4), 255)], lambda labels: torch.zeros(1, 2, 2).long(), 8, 2)


def drawn(vocab_size=60, num_used=20, seed=0):
    """Codes in three dimensions, and which are used."""
    random = np.random.default_rng(seed)
    used = np.zeros(vocab_size, bool)
    used[random.permutation(vocab_size)[:num_used]] = True
    return used, random.standard_normal((vocab_size, 3)).astype(np.float32)


@pytest.mark.parametrize("guard", [0, 0.1, 0.5])
def test_the_guard_is_the_tokens_nearest_to_used_ones(guard):
    used, table = drawn()
    chosen = select_tokens(torch.from_numpy(used), torch.from_numpy(table), guard)
    distance = np.linalg.norm(table[:, None] - table[used][None], axis=-1).min(1)
    others = [token for token in np.argsort(distance, kind="stable") if not used[token]][: round(guard * 20)]
    assert chosen.vocabulary.tokens.tolist() == sorted([*np.flatnonzero(used), *others])
    assert (chosen.num_used, chosen.num_guard, chosen.num_rows) == (20, len(others), 20 + len(others))
    assert str(chosen) == f"head: {20 + len(others)} of 60 tokens have a row (20 used, {len(others)} guard)"


def test_a_token_without_a_row_stands_for_the_nearest_kept_one():
    used, table = drawn()
    vocabulary = select_tokens(torch.from_numpy(used), torch.from_numpy(table), 0.1).vocabulary
    kept = vocabulary.tokens.numpy()
    expected = kept[np.linalg.norm(table[:, None] - table[kept][None], axis=-1).argmin(1)]
    assert vocabulary.tokens[vocabulary.rows].numpy().tolist() == expected.tolist()


def test_where_all_tokens_occur_nothing_is_left_out():
    chosen = select_tokens(torch.ones(5, dtype=torch.bool), torch.rand(5, 2), 0.1)
    assert (chosen.vocabulary, chosen.num_rows, chosen.num_guard) == (None, 5, 0)


def test_a_guard_takes_no_more_tokens_than_there_are():
    used, table = drawn()
    assert select_tokens(torch.from_numpy(used), torch.from_numpy(table), 100).vocabulary is None


def test_a_guard_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"head\.guard must be 0 or more, .* got -0.1"):
        select_tokens(torch.ones(5, dtype=torch.bool), torch.rand(5, 2), -0.1)
