"""What is counted of predictions: every figure in the logs, in `metrics.json` and in the tables.

What belongs here: figures and their counts, pooled over a data set and over processes; see docs/metrics.md.
"""

from __future__ import annotations
