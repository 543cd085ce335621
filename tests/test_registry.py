"""What the configuration says, held against what there is."""

from __future__ import annotations

import pytest

from gss.registry import differences, lookup, one_of

HEADS = {"tied": 1, "free": 2}


def test_a_name_stands_for_its_entry() -> None:
    assert lookup(HEADS, "head.token", "free") == 2
    assert one_of(("whole", "window"), "inference.name", "window") == "window"


@pytest.mark.parametrize("name", ["loose", "", None, ["tied"]])
def test_an_unknown_name_is_refused_with_key_value_and_options(name: str) -> None:
    with pytest.raises(ValueError, match=r"^unknown head\.token=") as caught:
        lookup(HEADS, "head.token", name)
    assert str(caught.value) == f"unknown head.token={name!r}: one of tied, free"
    with pytest.raises(ValueError, match=r"^unknown head\.token=.*: one of tied, free$"):
        one_of(HEADS, "head.token", name)


def test_every_difference_is_told_with_both_values() -> None:
    found = {"stride": 8, "name": "patches", "levels": [2, 3]}
    wanted = {"stride": 4, "name": "patches", "more": 1}
    assert differences(found, wanted, "in the artefact") == (
        "stride is 8 in the artefact but 4 in the configuration; "
        "levels is [2, 3] in the artefact but None in the configuration"
    )


def test_there_is_nothing_to_tell_where_all_is_the_same() -> None:
    assert differences({"stride": 8}, {"stride": 8, "more": 1}, "there") == ""
    assert differences({}, {}, "there") == ""
