"""A split as a text file, one photograph a line; a line that leads out of the data set is refused."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from gss.data.faults import Fault, Kind
from gss.data.pairs import Pair


def read_pairs(path: Path, pair_of: Callable[[str, list[str]], Pair]) -> tuple[list[Pair], list[Fault]]:
    """Make a pair of each line of a list; a line that is refused becomes a fault, and the next ones go on.

    Args:
        path: the list.
        pair_of: makes a pair of a line, as `read_file_list` gives it, or refuses it by a ValueError.

    Raises:
        ValueError: as `read_file_list`.
    """
    pairs: list[Pair] = []
    faults: list[Fault] = []
    for where, columns in read_file_list(path):
        try:
            pairs.append(pair_of(where, columns))
        except ValueError as error:
            faults.append(Fault(Kind.LINE, path, str(error)))
    return pairs, faults


def read_file_list(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Give the lines of a list, each with the words that name it in messages, and its columns.

    Columns are parted by tabs or, in a line without one, by spaces; empty lines are skipped.

    Raises:
        ValueError: the list is missing, or not a text file, or names nothing.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the file list '{path}' ({error}); mend its path, or give a text file") from error
    if not text.strip() or "\0" in text:
        raise ValueError(f"the file list '{path}' names no photograph: give one path a line")
    for number, line in enumerate(text.split("\n"), 1):
        columns = [column.strip() for column in line.split("\t")] if "\t" in line else line.split()
        if any(columns):
            yield f"line {number} of '{path}'", [column for column in columns if column]


def listed_file(where: str, text: str, base: Path, root: Path) -> Path:
    """Give the file that a line names.

    Args:
        where: the line, in words.
        text: the path as the line gives it.
        base: folder that it is relative to.
        root: folder of the data set, which the file may not leave: not by an absolute path, by `..`, or by a link.

    Raises:
        ValueError: the file lies outside, or is missing; one sentence that names list, line and path.
    """
    if os.path.isabs(text):
        raise ValueError(f"{where} names '{text}', but paths are relative to '{base}'; take the folder off")
    path, home = Path(os.path.normpath(base / text)), root.resolve()
    try:
        target, is_there = path.resolve(), path.is_file()
    except (OSError, RuntimeError):  # a name too long, a link to itself
        target, is_there = home, False
    if not target.is_relative_to(home):
        raise ValueError(
            f"{where} names '{text}', which leads to '{target}', outside data.root '{home}'; copy the file into "
            "data.root, or remove the line"
        )
    if not is_there:
        raise ValueError(f"{where} names '{text}', but there is no file '{path}'; add it, or remove the line")
    return path
