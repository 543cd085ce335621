"""What training minimises: targets, the divergence of equation 3, and the losses beside it.

What belongs here: functions and modules from tensors to a scalar loss, and what they are computed against.
"""

from __future__ import annotations
