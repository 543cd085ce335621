"""`python -m gss.data cache data=NAME`: every image and its labels decoded once, for training to read."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from gss.cli.configuration import instantiate, to_plain
from gss.registry import one_of

CHECKS = ("quick", "full")


def cache(config: DictConfig) -> dict[str, Any]:
    """Builds the cache of a data set, or goes on with it, and checks it against the files.

    Args:
        config: `conf/cache.yaml`, composed and resolved.

    Returns:
        `cache`, the folder; `shards`, how many were written; `bytes`, how long the cache is; `objective`, its GB.

    Raises:
        ValueError: for a mistake in data or configuration, or a full disk; finished shards stay.
    """
    if config.get("data") is None:
        raise ValueError("no data set was given: say data=NAME, as in `python -m gss.data cache data=camvid`")
    from gss.data.cache.build import GB, SplitCache
    from gss.data.cache.note import listed_once

    one_of(CHECKS, "verify", config.verify)
    if type(config.pairs_per_shard) is not int or config.pairs_per_shard < 1:
        raise ValueError(f"pairs_per_shard must be a whole number of at least 1, got {config.pairs_per_shard}")
    splits = to_plain(config)["split"]
    splits = splits if isinstance(splits, list) else [str(splits)]
    datamodule, written, start = instantiate(config.data), 0, time.perf_counter()
    folder = Path(config.output or Path(config.paths.outputs) / "cache" / str(datamodule.name))
    for split in splits:
        pairs, _ = listed_once(datamodule.pairs(split))
        source = SplitCache(folder / split, split, pairs, datamodule.label_space, config.pairs_per_shard)
        new = source.build(full=config.verify == "full")
        print(f"{split}: {len(pairs)} pairs in {source.num_shards} shards, {new} of them written")
        written += new
    length = sum(path.stat().st_size for split in splits for path in (folder / split).glob("*.bin"))
    taken = time.perf_counter() - start
    print(f"cache: {folder}, {length / GB:.3g} GB, {taken:.0f} s; train with data.cache={folder}")
    return {"cache": str(folder), "shards": written, "bytes": length, "objective": length / GB}
