"""`python -m gss.convert`: what it says before torch is imported is what the tokenizer says."""

from __future__ import annotations

import pytest

from gss.convert import DALLE_PLACE, convert
from gss.tokenizer import dalle_weights


def test_missing_files_are_named_as_the_tokenizer_names_them(tmp_path):
    (tmp_path / "encoder.pkl").touch()
    with pytest.raises(ValueError, match=r"there is no decoder\.pkl in") as said:
        convert(["dalle", str(tmp_path)])
    with pytest.raises(ValueError, match="no decoder") as expected:
        dalle_weights.find_dalle(tmp_path)
    assert str(said.value) == str(expected.value)
    assert dalle_weights.DALLE_PLACE == DALLE_PLACE
