from __future__ import annotations

import pytest
import torch

from gss.assembly.artefact import PriorArtefact
from gss.assembly.build import load_autoencoder
from gss.runs.label_generator import cell_pixels, decode_map, encode_map

STRIDE = 8


@pytest.fixture(scope="module")
def autoencoder(tiny_prior):
    """The tiny stage one: 8 pixels per token, at most 32 of them."""
    return load_autoencoder(PriorArtefact.load(tiny_prior)).eval()


@pytest.fixture
def labels(draw_labels):
    """Two label maps of 30x61 pixels, with two cells that have no label and one that has a single one."""
    labels = draw_labels(2, (30, 61), 19)
    labels[0, 8:16, 16:24] = labels[0, 8:24, 0:8] = labels[1, 24:, 56:] = 255
    labels[0, 16, 0] = 3
    return labels


def test_cells_without_a_label_have_a_code_of_their_own(autoencoder, labels):
    tokens, encoded = encode_map(autoencoder, labels), autoencoder.encode(labels)
    assert tokens.shape == (2, 4, 8)
    nothing = torch.zeros(2, 4, 8, dtype=torch.bool)
    nothing[0, 1, 2] = nothing[0, 1, 0] = nothing[1, 3, 7] = True
    assert (tokens == autoencoder.tokenizer.vocab_size).equal(nothing)
    assert tokens[~nothing].equal(encoded[~nothing])


def test_they_come_back_as_ignored_and_all_others_as_reconstructed(autoencoder, labels):
    decoded = decode_map(autoencoder, encode_map(autoencoder, labels), (30, 61))
    hidden = torch.zeros(2, 30, 61, dtype=torch.bool)
    hidden[0, 8:16, 16:24] = hidden[0, 8:16, 0:8] = hidden[1, 24:, 56:] = True
    assert (decoded == 255).equal(hidden)
    assert decoded[~hidden].equal(autoencoder.reconstruct(labels).labels()[~hidden])


def test_a_map_without_any_label_comes_back(autoencoder):
    nothing = torch.full((1, 16, 16), 255)
    assert decode_map(autoencoder, encode_map(autoencoder, nothing), (16, 16)).equal(nothing)


def test_cells_become_squares_cut_to_size():
    cells = torch.tensor([[True, False], [False, True]])
    pixels = cell_pixels(cells, 3, (5, 4))
    expected = [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 1]] * 2
    assert pixels.equal(torch.tensor(expected, dtype=torch.bool))
