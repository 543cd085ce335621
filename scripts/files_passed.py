"""How many of the project's files one training step, an evaluation or a prediction passes, and which.

    python scripts/files_passed.py step        one training step of stage=conditioning, after the first
    python scripts/files_passed.py evaluate    `python -m gss.evaluate checkpoint=PATH`, from its first line to its last
    python scripts/files_passed.py predict     `python -m gss.predict checkpoint=PATH input=FOLDER`

A file counts when a function of it is called; what runs while a module is imported does not. The network is trained for
two steps on drawn scenes in a temporary folder. A reader who wants to know what a command does opens these files.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L

import gss

PACKAGE = Path(str(gss.__file__)).parent
SMALL = (
    "data.size=[32,64]",
    "data.splits.train.size=[64,128]",
    "data.splits.train.num_scenes=4",
    "data.splits.val.num_scenes=2",
    "data.batch_size=2",
    "data.num_workers=0",
    "backbone.name=test_resnet",
    "tokenizer.vocab_size=32",
    "fusion.window_size=4",
    "max_steps=2",
    "val_every=2",
    "callbacks.panels=null",
)


class Passed:
    """The functions of the project that were called, by file."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Counts calls while the block runs."""
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_name != "<module>" and code.co_filename.startswith(f"{PACKAGE}/"):
            self.calls[Path(code.co_filename).relative_to(PACKAGE).as_posix(), code.co_qualname] += 1

    def table(self) -> str:
        """Each file with its functions, and how many there are of both."""
        files: dict[str, list[str]] = {}
        for file, function in sorted(self.calls):
            files.setdefault(file, []).append(function)
        lines = [f"{file}: {', '.join(functions)}" for file, functions in files.items()]
        return "\n".join([*lines, f"{len(files)} files, {len(self.calls)} functions"])


class SecondStep(L.Callback):
    """Watches the second training step of a run, from its batch to the optimiser's update."""

    def __init__(self, passed: Passed) -> None:
        self.passed = passed

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Begins to watch."""
        if batch_idx == 1:
            sys.setprofile(self.passed._note)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Ends it."""
        sys.setprofile(None)


def call(command: str, folder: Path, *words: str) -> None:
    """Runs a command in this process."""
    run = folder / command
    placed = (f"paths.outputs={folder}", f"paths.run={run}", f"hydra.run.dir={run}")
    sys.argv = [f"gss-{command}", *words, *placed]
    importlib.import_module(f"gss.{command}").main()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("step", "evaluate", "predict"))
    command, passed = parser.parse_args().command, Passed()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        call("train", folder, "stage=prior", *SMALL)
        trainer = L.Trainer.__init__

        def watching(self: L.Trainer, *args: Any, callbacks: list[L.Callback], **kwargs: Any) -> None:
            """A Trainer with one callback more."""
            trainer(
                self, *args, callbacks=[*callbacks, SecondStep(passed)] if command == "step" else callbacks, **kwargs
            )

        L.Trainer.__init__ = watching
        call("train", folder, "stage=conditioning", *SMALL)
        L.Trainer.__init__ = trainer
        checkpoint = f"checkpoint={folder / 'train/checkpoints/last.ckpt'}"
        if command != "step":
            pictures = (f"input={folder / 'scenes/leftImg8bit/val'}",) if command == "predict" else ()
            with passed.watched():
                call(command, folder, checkpoint, *pictures)
    print(passed.table())


if __name__ == "__main__":
    main()
