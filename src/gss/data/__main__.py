"""`python -m gss.data VERB data=...`: what can be done with a data set before anything is trained on it."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

from gss.cli.command_line import RESOLVED, run

USAGE = """\
Looks into a data set, or prepares it, before anything is trained on it:

  python -m gss.data verify data=NAME     read every file; what is wrong, how to mend it, how often classes occur
  python -m gss.data cache data=NAME      decode every file once, for training to read with data.cache=FOLDER

`python -m gss.data VERB --help` lists the groups, `conf/data` the names. The same commands: gss-data VERB.
Exit codes: 0 all is well, 1 verify found faults, 2 a mistake in the command."""
VERBS = {"verify": "gss.runs.data_verification", "cache": "gss.runs.data_caching"}
"""Each verb's module, with a function of the verb's name; its configuration is `conf/VERB.yaml`."""


def task(config: DictConfig) -> dict[str, Any]:
    """Does what `config.verb` says, and gives its plain results."""
    result: dict[str, Any] = getattr(import_module(VERBS[config.verb]), config.verb)(config)
    return result


def main() -> None:
    """Console script `gss-data`."""
    verb = sys.argv[1] if len(sys.argv) > 1 else ""
    if verb == RESOLVED:  # a trial of a sweep: the saved configuration says which verb
        run(task, "data", next(iter(VERBS)))
        return
    if verb in ("", "--help", "-h"):
        print(USAGE, file=sys.stdout if verb else sys.stderr)
        sys.exit(0 if verb else 2)
    if verb not in VERBS:
        print(f"error: '{verb}' is not one of {', '.join(VERBS)}: python -m gss.data VERB data=NAME", file=sys.stderr)
        sys.exit(2)
    del sys.argv[1]
    run(task, "data", verb)


if __name__ == "__main__":
    main()
