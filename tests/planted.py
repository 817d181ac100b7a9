"""What the simulated raw zone knows of persons, and whether any of it got out."""

import re
from collections.abc import Mapping
from pathlib import Path

import pyarrow.parquet as pq
from pydicom import dcmread

# A person's id in any of the spellings that the raw files use, and the path of a person's images.
IDENTIFYING = re.compile(rb"(?i)RLM[-_]?[0-9]{6}|imaging/[0-9]+/")
PIXELS = ("pixels", "calls", "x_imaging")


def leaks(texts: Mapping[str, bytes], raw: Path) -> set[tuple[str, bytes]]:
    """(where, what) for each planted id, image path or patient's name in these texts."""
    names = planted_names(raw)
    found = {(where, name) for where, text in texts.items() for name in names if name in text}
    return found | {(where, match) for where, text in texts.items() for match in IDENTIFYING.findall(text)}


def planted_names(raw: Path) -> set[bytes]:
    """The patients' names in the DICOM headers."""
    headers = (dcmread(file, force=True, stop_before_pixels=True) for file in sorted(raw.glob("imaging/*/*.dcm")))
    names = {str(header.get("PatientName", "")).encode() for header in headers} - {b""}
    assert len(names) > 10
    return names


def readable(file: Path) -> bytes:
    """A file's bytes; of Parquet, its values, which compression would hide."""
    if file.suffix != ".parquet":
        return file.read_bytes()
    hidden = [name for name in pq.read_schema(file).names if name in PIXELS]
    return str(pq.read_table(file).drop_columns(hidden).to_pylist()).encode()
