"""The conditioning network I_psi of the paper: from the image to scores over tokens.

What belongs here: networks in plain PyTorch, with plain keyword arguments, usable without Lightning, Hydra or a GPU.
"""
