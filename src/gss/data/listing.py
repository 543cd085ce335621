"""A split listed with all that is wrong with it, where a training would stop at the first fault."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gss.data.faults import Fault, FaultyListing, Kind, NotThere
from gss.data.pairs import Pair, PairSource


def list_with_faults(source: PairSource) -> tuple[list[Pair], list[Fault]]:
    """List the photographs of a split, and what is missing beside them.

    Returns:
        The pairs whose files can be looked into (without labels where these are missing), and the faults.

    Raises:
        NotThere: nothing of the split is on the disk.
    """
    pairs, faults = _listed(source)
    faults += labels_without_photograph(pairs)
    outside = {fault.path for fault in faults if fault.kind is Kind.OUTSIDE}
    unlabelled = {fault.path for fault in faults if fault.kind is Kind.NO_LABELS}
    readable = [pair for pair in pairs if not {pair.image, pair.labels} & outside]
    return [pair._replace(labels=None) if pair.image in unlabelled else pair for pair in readable], faults


def _listed(source: PairSource) -> tuple[list[Pair], list[Fault]]:
    """Call the source, and take a refusal apart."""
    try:
        return list(source()), []
    except FaultyListing as listing:
        return list(listing.pairs), list(listing.faults)
    except NotThere:
        raise
    except ValueError as error:
        return [], [Fault(Kind.LISTING, None, str(error))]


def labels_without_photograph(pairs: Sequence[Pair]) -> Iterator[Fault]:
    """Find label files beside those of the pairs that belong to no photograph, neither of the split nor of another.

    Where labels lie and how their names end is read off the pairs: a path is its folder, the pair's name, an ending.
    """
    images = {parts for pair in pairs if (parts := _around(pair.image, pair.name))}
    labels = {parts for pair in pairs if pair.labels and (parts := _around(pair.labels, pair.name))}
    known = {pair.labels for pair in pairs}
    for folder, ending in sorted(labels):
        for path in sorted(set(Path(folder).rglob(f"[!.]*{ending}")) - known):
            name = path.relative_to(folder).as_posix().removesuffix(ending)
            if not any(Path(f"{place}{name}{other}").is_file() for place, other in images):
                message = f"label file '{path}' belongs to no photograph; add the photograph, or remove the label file"
                yield Fault(Kind.NO_PHOTOGRAPH, path, message)


def _around(path: Path, name: str) -> tuple[str, str] | None:
    """Split a path into the folder that a pair's name begins in, and the ending behind it; None without the name."""
    before, found, behind = str(path).rpartition(f"/{name}")
    return (f"{before}/", behind) if found and behind else None
