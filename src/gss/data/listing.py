"""Splits listed from parts, and with all that is wrong with them, where a training would stop at the first fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from gss.data.faults import Fault, FaultyListing, Kind, NotThere
from gss.data.pairs import Pair, PairSource


def changed(source: PairSource, change: Callable[[Pair], Pair]) -> PairSource:
    """Give a source that lists what another lists, each pair changed, also where the listing has faults."""

    def listed() -> list[Pair]:
        """List the changed pairs."""
        try:
            return [change(pair) for pair in source()]
        except FaultyListing as listing:
            raise FaultyListing(str(listing), map(change, listing.pairs), listing.faults) from listing

    return listed


def list_parts(parts: Iterable[PairSource]) -> list[Pair]:
    """List the parts of a split one after the other; what is wrong with one does not hide what is wrong with the next.

    Raises:
        NotThere: no part is on the disk.
        FaultyListing: something is wrong with a part, or one is missing among others.
    """
    pairs: list[Pair] = []
    faults: list[Fault] = []
    errors: list[ValueError] = []
    for part in parts:
        try:
            pairs += part()
        except ValueError as error:
            errors.append(error)
            found, wrong = _taken_apart(error)
            pairs, faults = [*pairs, *found], [*faults, *wrong]
    if errors and not pairs and all(isinstance(error, NotThere) for error in errors):
        raise errors[0]
    if errors:
        raise FaultyListing(str(errors[0]), pairs, faults) from errors[0]
    return pairs


def list_with_faults(source: PairSource) -> tuple[list[Pair], list[Fault]]:
    """List the photographs of a split, each once, and what is missing beside them.

    Returns:
        The pairs whose files can be looked into (without labels where these are missing), and the faults.

    Raises:
        NotThere: nothing of the split is on the disk.
    """
    faults: list[Fault] = []
    try:
        pairs = source()
    except NotThere:
        raise
    except ValueError as error:
        pairs, faults = _taken_apart(error)
    pairs = list({(pair.image, pair.labels): pair for pair in pairs}.values())
    faults += labels_without_photograph(pairs)
    outside = {fault.path for fault in faults if fault.kind is Kind.OUTSIDE}
    unlabelled = {fault.path for fault in faults if fault.kind is Kind.NO_LABELS}
    readable = [pair for pair in pairs if not {pair.image, pair.labels} & outside]
    return [pair._replace(labels=None) if pair.image in unlabelled else pair for pair in readable], faults


def _taken_apart(error: ValueError) -> tuple[list[Pair], list[Fault]]:
    """Give the pairs and the faults of a listing that was refused."""
    if isinstance(error, FaultyListing):
        return list(error.pairs), list(error.faults)
    return [], [Fault(Kind.LISTING, None, str(error))]


def labels_without_photograph(pairs: Sequence[Pair]) -> Iterator[Fault]:
    """Find label files beside those of the pairs that belong to no photograph, neither of the split nor of another.

    Where labels lie and how their names end is read off the pairs: a path is its folder, the pair's name, an ending.
    """
    images = {parts for pair in pairs if (parts := _around(pair.image, pair))}
    labels = {parts for pair in pairs if pair.labels and (parts := _around(pair.labels, pair))}
    known = {pair.labels for pair in pairs}
    for folder, ending in sorted(labels):
        for path in sorted(set(Path(folder).rglob(f"[!.]*{ending}")) - known):
            name = path.relative_to(folder).as_posix().removesuffix(ending)
            if not any(Path(f"{place}{name}{other}").is_file() for place, other in images):
                message = f"label file '{path}' belongs to no photograph; add the photograph, or remove the label file"
                yield Fault(Kind.NO_PHOTOGRAPH, path, message)


def _around(path: Path, pair: Pair) -> tuple[str, str] | None:
    """Split a path into the folder that a pair's name begins in, and the ending behind it; None without the name."""
    before, found, behind = str(path).rpartition("/" + pair.name.removeprefix(f"{pair.condition}/"))
    return (f"{before}/", behind) if found and behind else None
