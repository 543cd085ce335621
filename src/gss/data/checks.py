"""What the numbers and names of a data module must be, each checked before a file is touched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gss.labels import LabelSpace, first_difference


def checked_size(size: Sequence[int]) -> tuple[int, int]:
    """Refuse anything but two positive whole numbers."""
    if len(size) != 2 or any(type(side) is not int or side < 1 for side in size):  # `type`: True is no size
        raise ValueError(f"size needs two whole numbers above 0 (height, width), got {size}; mend data.size")
    return size[0], size[1]


def check_batches(native: bool, eval_batch_size: int) -> None:
    """Refuse batches of photographs that need not have one size."""
    if native and eval_batch_size != 1:
        raise ValueError(
            f"eval_batch_size is {eval_batch_size}, but data.native=true serves photographs at their own sizes, one "
            "at a time; mend data.eval_batch_size"
        )


def check_elsewhere(own_name: str, own: LabelSpace, elsewhere: Mapping[str, LabelSpace]) -> None:
    """Refuse data sets elsewhere, by name, whose classes are not those of the own one."""
    for name, other in elsewhere.items():
        rule = f"data.elsewhere.{name} must be another data set of the same classes"
        if name == own_name:
            raise ValueError(f"{rule}, and not '{own_name}' itself; take it out, or give it another name")
        if other.names != own.names:
            raise ValueError(
                f"{rule}: '{own_name}' has {len(own.names)} and '{name}' has {len(other.names)}, and "
                f"{first_difference(own.names, other.names)}; take it out"
            )


def at_least(least: int, name: str, value: int) -> int:
    """Refuse anything but whole numbers from the smallest sensible one on."""
    if type(value) is not int or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}; mend data.{name}")
    return value
