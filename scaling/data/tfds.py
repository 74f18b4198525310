"""Prepared TFDS data sets on this disk: where one is found by its name, and how one is prepared.

Called by the kinds of data, which read them without TensorFlow.
"""

import os
from pathlib import Path

from scaling.errors import SourceError


def tfds_dirs(root: Path) -> list[Path]:
    """Where prepared TFDS datasets are looked for, first to last."""
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return [Path(default).expanduser(), root / "tfds"]


def how_to_prepare(dataset: str) -> str:
    """The way out, where a data set is not there in a form that is read without TensorFlow."""
    return (
        "prepare it once with: python -c \"import tensorflow_datasets as tfds; tfds.builder('"
        f"{dataset}', file_format='array_record').download_and_prepare()\""
    )


def find_dataset(dataset: str, folders: list[Path]) -> Path:
    """The newest version of a data set, `name[/config][:version]`, in the first of the folders that
    has it. Raises SourceError.
    """
    named, _, version = dataset.partition(":")
    for folder in folders:
        home = folder / named
        versions = _versions(home)
        configs = [c for c in home.iterdir() if _versions(c)] if home.is_dir() else []
        if not versions and len(configs) > 1:
            raise SourceError(
                f'source "tfds:{dataset}" has several configs '
                f"({', '.join(sorted(c.name for c in configs))}); write tfds:{named}/<config>"
            )
        if not versions and configs:
            versions = _versions(configs[0])
        if version:
            versions = [v for v in versions if v.name == version]
        if versions:
            return versions[-1]
    raise SourceError(
        f'source "tfds:{dataset}" is not prepared in {" or ".join(map(str, folders))} (nothing is '
        f"downloaded by itself); {how_to_prepare(named)}, or set TFDS_DATA_DIR to where it is"
    )


def _versions(home: Path) -> list[Path]:
    if not home.is_dir():
        return []
    found = [path.parent for path in home.glob("[0-9]*.[0-9]*.[0-9]*/dataset_info.json")]
    return sorted(found, key=lambda path: [int(n) for n in path.name.split(".")])
