"""`python -m gss.data verify data=NAME`: every file of a data set looked into, and all that is wrong said at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from gss.atomic_files import write_json
from gss.cli.configuration import instantiate, to_plain

if TYPE_CHECKING:
    from gss.data.datamodule import SegmentationDataModule
    from gss.data.pairs import Fault
    from gss.data.survey import Survey

MOST_FAULTS = 5  # of a kind and split that are shown; `verify.json` has all
MOST_SIZES = 4
IGNORED, UNDECLARED = "(ignored)", "(undeclared)"  # rows of the table that are no classes


def verify(config: DictConfig) -> dict[str, Any]:
    """Looks into every image and label file of a data set, and of the data sets elsewhere that belong to it.

    Args:
        config: `conf/verify.yaml`, composed and resolved.

    Returns:
        What `verify.json` holds: `splits`, for each what `Survey.to_dict` gives; `not_there`, splits without files and
        why; `remedies` by kind of fault; the number of faults as `objective`; `exit_code`, 1 if there is a fault.

    Raises:
        ValueError: no data set or an unknown split is named, or nothing of the data set is there.
    """
    if config.get("data") is None:
        raise ValueError("no data set was given: say data=NAME, as in `python -m gss.data verify data=camvid`")
    data, folder = instantiate(config.data), Path(config.paths.run)
    plain = to_plain(config)
    chosen = plain["split"] if isinstance(plain["split"], list | None) else [str(plain["split"])]
    surveys, absent = _survey(data, chosen)
    remedies = _remedies(surveys, plain["data"])
    print(*_told(surveys, absent), sep="\n")
    _show_frequencies(surveys, data, folder / "class_frequencies.png")
    print(*_faults_told(surveys, remedies), sep="\n")
    num_faults = sum(len(found.faults) for found in surveys.values())
    result = {
        "data": data.name,
        "splits": {split: found.to_dict() for split, found in surveys.items()},
        "not_there": absent,
        "remedies": remedies,
        "objective": num_faults,
        "exit_code": int(num_faults > 0),
    }
    write_json(folder / "verify.json", result)
    print(f"report: {folder / 'verify.json'}")
    return result


def _survey(data: SegmentationDataModule, chosen: list[str] | None) -> tuple[dict[str, Survey], dict[str, str]]:
    """What each chosen split (None: all) holds by name, and why others are not there; elsewhere: `SET/SPLIT`."""
    from gss.data.pairs import NotThere
    from gss.data.survey import survey_split

    for split in chosen or ():
        if split not in data.splits:
            known = ", ".join(data.splits)
            raise ValueError(f"split={split} is not a split of data set '{data.name}', which has {known}")
    surveys: dict[str, Survey] = {}
    absent: dict[str, str] = {}
    for prefix, one in {"": data, **{f"{name}/": other for name, other in data.elsewhere.items()}}.items():
        for split in (name for name in one.splits if chosen is None or name in chosen):
            title = f"{prefix}{split}"
            try:
                surveys[title] = survey_split(one.splits[split], one.label_space, title)
            except NotThere as error:
                if chosen is not None:
                    raise
                absent[title] = str(error)
    if not surveys:
        raise ValueError(next(iter(absent.values()), f"data set '{data.name}' has no split"))
    return surveys, absent


def _told(surveys: Mapping[str, Survey], absent: Mapping[str, str]) -> Iterator[str]:
    """Counts and sizes of each split, a line each."""
    for split, found in surveys.items():
        num_labels = found.labels.total()
        files = f"{num_labels} label files" if num_labels else "no labels"
        yield f"{split}: {found.images.total()} images, {files}"
        for condition, count in sorted(found.images.items()):
            if condition:
                yield f"  {condition}: {count} images, {found.labels[condition]} label files"
        sizes = [f"{h}x{w} ({count})" for (h, w), count in found.sizes.most_common(MOST_SIZES)]
        more = len(found.sizes) - len(sizes)
        yield f"  height x width: {', '.join(sizes) or 'none'}" + (f" and {more} other sizes" if more else "")
    yield from (f"{split}: not looked into: {reason}" for split, reason in absent.items())


def _show_frequencies(surveys: Mapping[str, Survey], data: SegmentationDataModule, target: Path) -> None:
    """Prints the table of the splits that have labels, and draws the picture."""
    from rich import get_console

    from gss.display.class_frequencies import draw_frequencies
    from gss.display.tables import frequency_table
    from gss.labels import IGNORE

    labelled = {split: found for split, found in surveys.items() if found.pixels}
    if not labelled:
        return
    shares = {split: found.class_shares for split, found in labelled.items()}
    rows = {name: {split: of_class[name] for split, of_class in shares.items()} for name in data.label_space.names}
    rows[IGNORED] = {split: found.share(IGNORE) for split, found in labelled.items()}
    if any(found.ids(None) for found in labelled.values()):
        rows[UNDECLARED] = {split: found.share(None) for split, found in labelled.items()}
    title = f"{data.name}: share of the pixels that show a class; in brackets: of all pixels"
    get_console().print(frequency_table(rows, _ids(labelled, data.label_space.names), title))
    colours = dict(zip(data.label_space.names, data.label_space.colours, strict=True))
    heading = f"{data.name}: share of each class in the pixels that show one, logarithmic"
    draw_frequencies(shares, colours, heading).save(target, optimize=True)
    print(f"picture: {target}")


def _ids(surveys: Mapping[str, Survey], names: Sequence[str]) -> dict[str, str]:
    """The ids that were found in label files, in words, by row of the table."""
    from gss.labels import IGNORE, brief_ids

    rows: dict[str, int | None] = {name: train for train, name in enumerate(names)}
    rows |= {IGNORED: IGNORE, UNDECLARED: None}
    found = {row: {raw for survey in surveys.values() for raw in survey.ids(train)} for row, train in rows.items()}
    return {row: brief_ids(sorted(ids)) or "-" for row, ids in found.items()}


def _remedies(surveys: Mapping[str, Survey], data: Mapping[str, Any]) -> dict[str, str]:
    """What to do about each kind of fault that was found."""
    from gss.data.pairs import REMEDIES, Kind
    from gss.labels import brief_ids

    remedies = {kind: REMEDIES[kind] for kind in Kind if any(_of_kind(found, kind) for found in surveys.values())}
    undeclared = sorted({raw for found in surveys.values() for raw in found.ids(None)})
    if undeclared and "ignore_ids" in data["label_space"]:
        ignored = ",".join(map(str, sorted({*data["label_space"]["ignore_ids"], *undeclared})))
        remedies[Kind.IDS] = (
            f"if {brief_ids(undeclared)} mean unlabelled: 'data.label_space.ignore_ids=[{ignored}]'; if they are "
            "classes, add their names to data.label_space.names; else replace the files"
        )
    return {str(kind): remedy for kind, remedy in remedies.items()}


def _of_kind(survey: Survey, kind: str) -> list[Fault]:
    return [fault for fault in survey.faults if fault.kind == kind]


def _faults_told(surveys: Mapping[str, Survey], remedies: Mapping[str, str]) -> Iterator[str]:
    """The faults by kind, some of each split in full, and the remedy."""
    if not remedies:
        yield "no fault was found"
    for kind, remedy in remedies.items():
        for split, faults in ((split, _of_kind(found, kind)) for split, found in surveys.items()):
            if faults:
                yield f"fault: {len(faults)} {kind} in {split}"
                yield from (f"  {fault.message}" for fault in faults[:MOST_FAULTS])
                if len(faults) > MOST_FAULTS:
                    yield f"  and {len(faults) - MOST_FAULTS} more"
        yield f"  remedy: {remedy}"
