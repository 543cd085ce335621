"""What a command does, one file for each thing: data, networks, stages, pictures and files meet here.

What belongs here: the steps of a command from its configuration to its results, and nothing that another room could do.
"""

from __future__ import annotations
