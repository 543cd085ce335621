"""The LightningModules: stage=prior (the paper's stage I), its token model, and stage=conditioning (stage II).

What belongs here: the order of a training step, and nothing of what is computed in it.
"""
