"""One DICOM file to one image: pixels a network can take, and a header that identifies nobody."""

import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from features.contract.persons import PersonKeyer

Pixels = NDArray[Any]

MOST_BYTES = 512 << 20
LONGEST_TEXT = 64
# A value is copied only if it is named here; the free texts among them lose what names the person.
HEADER = (
    "Modality",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "MagneticFieldStrength",
    "RepetitionTime",
    "EchoTime",
    "SliceThickness",
    "SpacingBetweenSlices",
    "KVP",
    "PhotometricInterpretation",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "RescaleSlope",
    "RescaleIntercept",
    "WindowCenter",
    "WindowWidth",
)
IDENTIFYING = ("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber")
TIMES = (("AcquisitionDate", "AcquisitionTime"), ("SeriesDate", "SeriesTime"), ("StudyDate", "StudyTime"))


class Rule(StrEnum):
    """Why a file is refused, in the order in which they are looked at."""

    UNREADABLE = "unreadable"
    NO_PATIENT_ID = "no_patient_id"
    NO_TIME = "no_time"
    PIXELS = "pixels"


class Refusal(Exception):  # noqa: N818  it is an answer, not an error
    """This file is quarantined under this rule."""

    def __init__(self, rule: Rule) -> None:
        super().__init__(rule.value)
        self.rule = rule


@dataclass(frozen=True, slots=True)
class Image:
    """An image with its keys. `pixels` are `shape` = [rows, columns] stored values, little endian,
    C order, bright = high; `spacing` in mm between rows and columns; `content` tells copies apart."""

    image_key: str
    series_key: str
    person_key: str
    instance_number: int
    time: datetime
    modality: str
    series_description: str | None
    header: dict[str, str]
    pixels: bytes
    dtype: str
    shape: list[int]
    spacing: list[float] | None
    content: str


def clean_image(dataset: Dataset, keyer: PersonKeyer) -> Image:
    """The image in a dataset that was read whole; raises Refusal."""
    instance, series = (_text(dataset, name) for name in ("SOPInstanceUID", "SeriesInstanceUID"))
    if not (instance and series) or pixel_bytes(dataset) == 0:
        raise Refusal(Rule.UNREADABLE)
    person_key = keyer.person_key(_text(dataset, "PatientID") or None)
    if person_key is None:
        raise Refusal(Rule.NO_PATIENT_ID)
    time = taken_at(dataset)
    pixels = stored_pixels(dataset)
    names = identifying_words(dataset)
    data = pixels.tobytes()
    return Image(
        image_key=keyer.digest("image", instance),
        # With the person in it, a series can never belong to two people, whatever the scanner wrote.
        series_key=keyer.digest("series", f"{person_key}:{series}"),
        person_key=person_key,
        instance_number=_instance_number(dataset),
        time=time,
        modality=without_words(_text(dataset, "Modality"), names) or "unknown",
        series_description=without_words(_text(dataset, "SeriesDescription"), names),
        header=header(dataset, names),
        pixels=data,
        dtype=pixels.dtype.name,
        shape=list(pixels.shape),
        spacing=_spacing(dataset),
        content=hashlib.sha256(person_key.encode() + data).hexdigest(),
    )


def taken_at(dataset: Dataset) -> datetime:
    """Acquisition, else series, else study; UTC, since DICOM has local time and no zone."""
    for date, time in TIMES:
        if found := parse_time(_text(dataset, date), _text(dataset, time)):
            return found
    raise Refusal(Rule.NO_TIME)


def parse_time(date: str, time: str) -> datetime | None:
    """DICOM's DA and TM (PS3.5, table 6.2-1); midnight where the time is no time."""
    day = date.replace(".", "")
    if not re.fullmatch(r"(19|[2-9]\d)\d{6}", day):
        return None
    clock = re.match(r"(\d{2})(\d{2})?(\d{2})?(?:\.(\d{1,6}))?", time)
    times = ["{}{:0>2}{:0>2}.{}".format(*clock.groups("0"))] if clock else []
    for text in (*times, "000000.0"):
        try:
            return datetime.strptime(day + text, "%Y%m%d%H%M%S.%f").replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def pixel_bytes(dataset: Dataset) -> int:
    """How many bytes of pixels there are; 0 when fewer than the header says."""
    data = dataset.get("PixelData") or b""
    wanted = _wanted_bytes(dataset)
    short = len(data) < wanted and not _is_compressed(dataset)
    return 0 if short else len(data)


def stored_pixels(dataset: Dataset) -> Pixels:
    """[rows, columns] stored values, before any rescaling; MONOCHROME1 turned over. Raises Refusal."""
    if not _is_supported(dataset):
        raise Refusal(Rule.PIXELS)
    try:
        pixels = np.asarray(dataset.pixel_array)
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError, OSError) as error:
        # No decoder for the transfer syntax, or one that cannot make sense of the bytes.
        raise Refusal(Rule.PIXELS) from error
    if pixels.ndim != 2:
        raise Refusal(Rule.PIXELS)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        pixels = turned_over(pixels, int(dataset.get("BitsStored") or dataset.BitsAllocated))
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("<"), copy=False))


def turned_over(pixels: Pixels, bits: int) -> Pixels:
    """The lowest value becomes the highest of as many bits."""
    if np.issubdtype(pixels.dtype, np.signedinteger):
        return ~pixels
    return (((1 << bits) - 1) - np.minimum(pixels, (1 << bits) - 1)).astype(pixels.dtype)


def header(dataset: Dataset, names: Iterable[str]) -> dict[str, str]:
    """The allowed fields that are there, as short texts."""
    found = {name: without_words(_text(dataset, name), names) for name in HEADER}
    return {name: text for name, text in found.items() if text}


def identifying_words(dataset: Dataset) -> set[str]:
    """The words of the fields that identify, lower case, of three letters or more."""
    texts = " ".join(_text(dataset, name, longest=None) for name in IDENTIFYING)
    return {word for word in re.split(r"[\W_]+", texts.lower()) if len(word) >= 3}


def without_words(text: str, words: Iterable[str]) -> str | None:
    """The text, or None when it is empty or holds one of the words."""
    return None if not text or any(word in text.lower() for word in words) else text


def _is_supported(dataset: Dataset) -> bool:
    """One frame, one sample a pixel, whole bytes, and not absurdly large."""
    return (
        dataset.get("PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2")
        and int(dataset.get("SamplesPerPixel") or 1) == 1
        and int(dataset.get("NumberOfFrames") or 1) == 1
        and int(dataset.BitsAllocated) in (8, 16, 32)
        and 0 < _wanted_bytes(dataset) <= MOST_BYTES
    )


def _wanted_bytes(dataset: Dataset) -> int:
    sizes = (dataset.get("Rows"), dataset.get("Columns"), dataset.get("BitsAllocated"))
    rows, columns, bits = (int(size or 0) for size in sizes)
    samples, frames = (int(dataset.get(name) or 1) for name in ("SamplesPerPixel", "NumberOfFrames"))
    return rows * columns * samples * frames * bits // 8


def _is_compressed(dataset: Dataset) -> bool:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return bool(syntax is not None and syntax.is_transfer_syntax and syntax.is_compressed)


def _instance_number(dataset: Dataset) -> int:
    number = _text(dataset, "InstanceNumber")
    return int(number) if re.fullmatch(r"-?\d{1,9}", number) else 0


def _spacing(dataset: Dataset) -> list[float] | None:
    values = [float(value) for value in dataset.get("PixelSpacing") or []]
    return values if len(values) == 2 and all(0 < value < math.inf for value in values) else None


def _text(dataset: Dataset, name: str, longest: int | None = LONGEST_TEXT) -> str:
    value = dataset.get(name)
    return "" if value is None else str(value).strip().strip("\0")[:longest]
