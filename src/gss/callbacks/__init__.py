"""What happens beside training: panels, tables, progress and averaged weights.

What belongs here: Lightning callbacks that look at a training and never change its figures, whichever logger is on.
"""

from __future__ import annotations
