from __future__ import annotations

import importlib
import sys

import pytest

from gss.assembly.build import build_tokenizer


@pytest.mark.parametrize("name", ["vqgan", "kl"])
def test_without_diffusers_the_sentence_names_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as if it were not installed
    with pytest.raises(ValueError, match=r"diffusers, which is not installed: pip install 'gss\[diffusers\]'"):
        build_tokenizer(name, network={})


def test_the_tokenizers_are_imported_without_diffusers(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for module in [module for module in sys.modules if module.startswith(("gss.tokenizer", "gss.assembly"))]:
        monkeypatch.delitem(sys.modules, module)
    importlib.import_module("gss.assembly.build")
    assert "gss.tokenizer.diffusers" in sys.modules
