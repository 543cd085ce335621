"""The dVAE's weights as `python -m gss.convert dalle` writes them: one safetensors file that executes nothing.

Format `gss-dalle/1`: tensors named as in `gss.tokenizer.dalle_network`, under `encoder.` and `decoder.`; the header's
metadata holds one JSON text under `gss` with the layout, the SHA-256 of the two files it was made from, and that of the
tensors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor

from gss.registry import differences
from gss.tensor_file import read_tensors, write_tensors
from gss.tokenizer.dalle_network import DVAELayout
from gss.tokenizer.published import DALLE_PLACE

FORMAT = "gss-dalle/1"
HOW_TO_GET = (
    f"tokenizer=dalle needs OpenAI's dVAE: put encoder.pkl and decoder.pkl from {DALLE_PLACE} into one FOLDER, run "
    "`python -m gss.convert dalle FOLDER`, and give tokenizer.weights=FOLDER/dalle.safetensors"
)


@dataclass(frozen=True)
class DalleWeights:
    """The weights and where they come from.

    Args:
        layout: sizes of the networks.
        sources: SHA-256 in hex of the files read, under `encoder` and `decoder`.
        state: tensors by name, float32.
    """

    layout: DVAELayout
    sources: dict[str, str]
    state: dict[str, Tensor]

    def save(self, path: Path) -> None:
        """Writes a file that `load` reads, whole or not at all."""
        header = {"format": FORMAT, "layout": asdict(self.layout), "sources": self.sources, "tensors": self._digest()}
        write_tensors(path, header, self.state)

    @classmethod
    def load(cls, path: str | Path) -> DalleWeights:
        """Reads a converted file and checks its tensors against the recorded hash.

        Raises:
            ValueError: if the file is missing, damaged, or something else.
        """
        if not Path(path).is_file():
            raise ValueError(f"there is no file tokenizer.weights={path}; {HOW_TO_GET}")
        try:
            header, state = read_tensors(path)
        except ValueError as error:
            raise ValueError(f"tokenizer.weights={path} cannot be read ({error}); {HOW_TO_GET}") from error
        if header.get("format") != FORMAT:
            raise ValueError(f"tokenizer.weights={path} is not a converted dVAE; {HOW_TO_GET}")
        weights = cls(DVAELayout(**header["layout"]), dict(header["sources"]), state)
        if weights._digest() != header["tensors"]:
            raise ValueError(f"tokenizer.weights={path} is damaged: its tensors do not have the recorded SHA-256")
        return weights

    def check_matches(self, layout: DVAELayout, sources: Mapping[str, str] | None) -> None:
        """Refuses weights of another layout, or made from other files than expected.

        Args:
            layout: what the tokenizer's settings ask for.
            sources: SHA-256 in hex by `encoder` and `decoder`, as `tokenizer.sha256` gives them; None: any.

        Raises:
            ValueError: naming every difference with both values.
        """
        found, wanted = (
            {f"tokenizer.{key}": size for key, size in asdict(sizes).items()} for sizes in (self.layout, layout)
        )
        if differing := differences(found, wanted, "in the weights"):
            raise ValueError(f"tokenizer.weights does not fit: {differing}")
        check_sources(self.sources, sources or {}, "tokenizer.sha256")

    def _digest(self) -> str:
        """SHA-256 in hex over names, shapes and values of all tensors."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.state.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().flatten().numpy().data)
        return digest.hexdigest()


def check_sources(found: Mapping[str, str], expected: Mapping[str, str], key: str) -> None:
    """Compares SHA-256 sums in hex by file; `key` is where the expected ones were given.

    Raises:
        ValueError: for a file whose sum is another, or for one that does not exist.
    """
    for name, wanted in expected.items():
        if name not in found:
            raise ValueError(f"{key} names {name!r}: give sums for {' and '.join(found)}")
        if str(wanted).lower() != found[name]:
            raise ValueError(f"{name}.pkl has SHA-256 {found[name]} but {key} expects {wanted}: fetch the file again")
