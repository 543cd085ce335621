"""The maskige: a label map painted as an RGB picture, and the way back."""
