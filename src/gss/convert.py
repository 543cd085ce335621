"""`python -m gss.convert dalle WEIGHTS_DIR [OUTPUT]`: weights that others publish, as safetensors."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NoReturn

from gss.cli.command_line import one_sentence

DALLE_PLACE = "https://cdn.openai.com/dall-e/ (the links of github.com/openai/DALL-E)"


class _Parser(argparse.ArgumentParser):
    """Says a mistake as the other commands do: one sentence, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Ends the parsing of a command line with a message."""
        raise ValueError(f"{message}; see --help")


def convert(arguments: list[str] | None = None) -> None:
    """Converts the files that the arguments name, and prints what was written.

    Args:
        arguments: of the command line; None: of this process.

    Raises:
        ValueError: for any mistake in arguments or files.
    """
    chosen = _parser().parse_args(arguments)
    expected = dict(_named_sum(text) for text in chosen.sha256)
    output = chosen.output or chosen.folder / "dalle.safetensors"
    missing = [name for name in ("encoder.pkl", "decoder.pkl") if not (chosen.folder / name).is_file()]
    if missing:  # said here too, before seconds are spent on torch
        raise ValueError(
            f"there is no {' and no '.join(missing)} in {chosen.folder}: fetch what is missing from {DALLE_PLACE}"
        )
    from gss.tokenizer.dalle_conversion import convert_dalle

    weights = convert_dalle(chosen.folder, output, expected)
    for part, sha256 in weights.sources.items():
        held = [tensor for name, tensor in weights.state.items() if name.startswith(f"{part}.")]
        print(f"{part}.pkl: {sum(tensor.numel() for tensor in held):,} parameters, sha256 {sha256}")
    print(f"written: {output}")
    print(f"use it as: tokenizer=dalle tokenizer.weights={output}")


def main() -> None:
    """Console script `gss-convert`."""
    one_sentence(convert)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="gss-convert",
        description="Turns published weights into safetensors without executing anything that is in them.",
        epilog=f"dalle: encoder.pkl and decoder.pkl of OpenAI's DALL-E dVAE, from {DALLE_PLACE}.",
    )
    parser.add_argument("kind", choices=["dalle"], help="whose weights")
    parser.add_argument(
        "folder", metavar="WEIGHTS_DIR", type=Path, help="folder that holds encoder.pkl and decoder.pkl"
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, nargs="?", help="default: WEIGHTS_DIR/dalle.safetensors")
    parser.add_argument(
        "--sha256",
        metavar="PART=HEX",
        action="append",
        default=[],
        help="refuse the file of PART (encoder or decoder) unless it has this sum; may be given for each",
    )
    return parser


def _named_sum(text: str) -> tuple[str, str]:
    part, _, sha256 = text.partition("=")
    if len(sha256) != 64 or set(sha256.lower()) - set("0123456789abcdef"):
        raise ValueError(f"--sha256 {text}: expected PART=HEX with 64 hexadecimal digits")
    return part, sha256


if __name__ == "__main__":
    main()
