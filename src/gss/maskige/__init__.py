"""The maskige: a label map painted as an RGB picture, and the way back (X and X^-1 of the paper).

What belongs here: colours, who gets which, the painting, and every way to read classes off decoded colours.
"""
