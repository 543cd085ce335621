"""What is counted of predictions: every figure in the logs, in `metrics.json` and in the tables.

What belongs here: a figure and its counts, pooled over a data set and over processes; docs/metrics.md says what each is.
"""

from __future__ import annotations
