"""How a command starts and ends: its words are checked, Hydra composes them, and a sweep ends in one table.

What belongs here: everything that knows Hydra and OmegaConf. Nothing here imports torch, so that `--help` is instant.
"""

from __future__ import annotations
