"""`python -m gss.train stage=prior`, then `python -m gss.train stage=conditioning`."""

from __future__ import annotations

from typing import Any

from omegaconf import DictConfig

from gss.cli.command_line import run
from gss.cli.configuration import instantiate, instantiate_each, to_plain


def train(config: DictConfig) -> dict[str, Any]:
    """Runs one stage.

    Args:
        config: `conf/config.yaml`, composed and resolved.

    Returns:
        The final validation figures by log key, the path of what was made, and `objective` for sweeps.
    """
    from gss.runs.run import run_stage  # torch and Lightning: seconds that --help need not wait for
    from gss.runs.training import RunParts

    plain = to_plain(config)
    parts = RunParts(
        datamodule=instantiate(config.data),
        optimisation=instantiate(config.optim),
        callbacks=instantiate_each(config.callbacks),
        loggers=instantiate_each(config.logger),
    )
    with parts.datamodule.workers.watched():
        return run_stage(plain, parts)


def main() -> None:
    """Console script `gss-train`."""
    run(train, "train", "config")


if __name__ == "__main__":
    main()
