"""From a configuration to networks and back: what is built, written and read again.

What belongs here: building networks by name, the stage-one artefact, checkpoints, and what is exchanged in them.
"""

from __future__ import annotations
