"""How many of the project's files one training step, an evaluation or a prediction passes, and which.

    python scripts/files_passed.py step        the second `training_step` of stage=conditioning, from batch to loss
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
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import gss
from gss.stages.conditioning import ConditioningStage

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
        if event == "call" and code.co_filename.startswith(f"{PACKAGE}/") and not _is_imported(frame):
            self.calls[Path(code.co_filename).relative_to(PACKAGE).as_posix(), code.co_qualname] += 1

    def table(self) -> str:
        """Each file with its functions, and how many there are of both."""
        files: dict[str, list[str]] = {}
        for file, function in sorted(self.calls):
            files.setdefault(file, []).append(function)
        lines = [f"{file}: {', '.join(functions)}" for file, functions in files.items()]
        return "\n".join([*lines, f"{len(files)} files, {len(self.calls)} functions"])


def _is_imported(frame: FrameType | None) -> bool:
    """Whether a frame runs while a module of the project is imported, its classes and constants among them."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(f"{PACKAGE}/"):
            return True
        frame = frame.f_back
    return False


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
        training_step = ConditioningStage.training_step

        def watched_step(stage: ConditioningStage, batch: Any, batch_idx: int) -> Any:
            """The step, watched if it is the second."""
            with passed.watched() if command == "step" and batch_idx == 1 else nullcontext():
                return training_step(stage, batch, batch_idx)

        ConditioningStage.training_step = watched_step  # type: ignore[method-assign]
        call("train", folder, "stage=conditioning", *SMALL)
        checkpoint = f"checkpoint={folder / 'train/checkpoints/last.ckpt'}"
        if command != "step":
            pictures = (f"input={folder / 'scenes/leftImg8bit/val'}",) if command == "predict" else ()
            with passed.watched():
                call(command, folder, checkpoint, *pictures)
    print(passed.table())


if __name__ == "__main__":
    main()
