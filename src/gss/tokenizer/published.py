"""Where published weights are found; light, so that a missing file is said before torch is imported."""

from __future__ import annotations

from pathlib import Path

DALLE_PLACE = "https://cdn.openai.com/dall-e/ (the links of github.com/openai/DALL-E)"


def find_dalle(folder: Path) -> dict[str, Path]:
    """OpenAI's two files, encoder.pkl and decoder.pkl, by part.

    Raises:
        ValueError: naming those that are not in the folder.
    """
    files = {part: folder / f"{part}.pkl" for part in ("encoder", "decoder")}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise ValueError(
            f"there is no {' and no '.join(missing)} in {folder}: fetch what is missing from {DALLE_PLACE}"
        )
    return files
