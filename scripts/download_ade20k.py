"""Downloads ADE20K's scene parsing benchmark, and unpacks it where `data=ade20k` looks for it.

    python scripts/download_ade20k.py [--test] [--root FOLDER] [--url URL] [--sha256 HEX] [--keep]

The archive of 20210 + 2000 images with labels has about 0.9 GB; `--test` gets the test images instead. A
download that broke off is resumed by the same command; once the files are there, the command does nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, NoReturn

from ade20k.archives import require_absent, unpack
from ade20k.download import Checksum, fetch
from gss.cli.command_line import one_sentence
from gss.cli.configuration import data_folder
from gss.data.ade20k import FOLDER, TEST_FOLDERS


class Archive(NamedTuple):
    """A published archive: its address and sum, the folder in it, and the places that show it to be unpacked."""

    url: str
    sha1: str
    folder: str
    shown_by: tuple[str, ...]


# The benchmark publishes no sums; these are those of scripts/datasets/ade20k.py in github.com/dmlc/gluon-cv.
ADDRESS = "http://data.csail.mit.edu/places/ADEchallenge"
TRAINING = Archive(
    f"{ADDRESS}/ADEChallengeData2016.zip", "219e1696abb36c8ba3a3afe7fb2f4b4606a897c7", FOLDER, (f"{FOLDER}/images",)
)
TEST = Archive(f"{ADDRESS}/release_test.zip", "e05747892219d10e9243933371a497e905a4860c", "release_test", TEST_FOLDERS)


def download(arguments: list[str] | None = None) -> None:
    """Downloads and unpacks what the arguments name, if it is not there.

    Raises:
        ValueError: for any mistake in the arguments, and for what goes wrong on the way.
    """
    chosen = parser().parse_args(arguments)
    archive = TEST if chosen.test else TRAINING
    root = chosen.root or Path(data_folder()) / "ade20k"
    there = [root / place for place in archive.shown_by if (root / place).is_dir()]
    if there:
        print(f"nothing to do, '{there[0]}' is there; python -m gss.data verify data=ade20k checks it")
        return
    require_absent(root / archive.folder)
    file = root / archive.url.rpartition("/")[2]
    checksum = Checksum("sha256", chosen.sha256) if chosen.sha256 else Checksum("sha1", archive.sha1)
    print(f"downloading {chosen.url or archive.url} to '{file}'")
    fetch(chosen.url or archive.url, file, checksum)
    print(f"unpacking to '{root / archive.folder}'")
    unpack(file, root / archive.folder, archive.folder)
    if not chosen.keep:
        file.unlink()
    print(f"ready: data=ade20k data.root={root}")


class Parser(argparse.ArgumentParser):
    """Says a mistake as the other commands do: one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the parsing of a command line with a message."""
        raise ValueError(f"{message}; see --help")


def parser() -> argparse.ArgumentParser:
    options = Parser(prog="download_ade20k.py", description=__doc__.split("\n")[0])
    options.add_argument("--test", action="store_true", help="the test images (release_test.zip) instead")
    options.add_argument("--root", type=Path, help="default: the folder ade20k in $GSS_DATA, data or ../shared/data")
    options.add_argument("--url", help="another place to get the archive from")
    options.add_argument("--sha256", metavar="HEX", help="what the archive must hash to, instead of the known SHA-1")
    options.add_argument("--keep", action="store_true", help="keep the archive once it is unpacked")
    return options


if __name__ == "__main__":
    one_sentence(download)
