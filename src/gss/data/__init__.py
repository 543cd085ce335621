"""Data sets: pairs of an image and its labels, read, checked, augmented and served in batches.

What belongs here: one file per data set, and all that happens to a pair on its way from its files to a batch.

To add a data set:

1.  A folder of images beside a folder of label PNGs needs no code, only a YAML: copy `conf/data/camvid.yaml`.
2.  Any other layout gets a file here with two things; `cityscapes.py` is the example:
    a *pair source*, which lists the pairs of one split when called (`pairs.py` says what a pair is,
    `folder.FolderPairs` does most of the work), and a function that gives the `LabelSpace`: the classes, and the
    train id of each file id.
3.  `conf/data/NAME.yaml` names both, the sources under `splits`. `python -m gss.data verify data=NAME` reads every
    file; `tests/conf/test_data_configs.py` uses the configuration, and `docs/data.md` gets a row.

The way of a pair: `reading` (files to arrays; or `cache`, decoded before), `adverse` (drawn weather, evaluation only),
`transforms` (size and augmentation, with `distortion`), `dataset` (tensors, which pair is next, worker processes),
`datamodule` (all of it as Lightning takes it). `verify` and `survey` look into the files before anything is trained.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # the import of albumentations otherwise waits for the network
