"""What happens beside training: panels, tables, progress, and checkpoints that survive faults."""

from __future__ import annotations
