"""Small fundus-like photographs whose bright lesions carry risk, as DICOM files.

The retina's own brightness, size, place and shading vary from person to person, so that the mean of
the pixels says little; how much lesion there is must be seen.
"""

import io
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from features.simulation.people import EPOCH, Floats, Ints, iso

Pixels = NDArray[np.uint8]

SIZE = 32
MOST_LESIONS = 12
OPHTHALMIC_PHOTOGRAPHY_8_BIT = "1.2.840.10008.5.1.4.1.1.77.1.5.1"


@dataclass(frozen=True, slots=True)
class Photographs:
    """`burden`: summed brightness of the lesions (1 is a typical one); `pixels`: images x 32 x 32."""

    burden: Floats
    pixels: Pixels


def draw_photographs(count: int, rng: np.random.Generator) -> Photographs:
    """Images and the lesion burden that each of them shows."""
    lesions = np.minimum(rng.poisson(rng.gamma(3, 4 / 3, count)), MOST_LESIONS)
    image = np.repeat(np.arange(count), lesions)
    brightness = rng.uniform(0.8, 1.2, len(image))
    centre = SIZE / 2 - 0.5 + rng.uniform(-1.5, 1.5, (count, 2))
    radius = rng.uniform(11, 14, count)
    canvas = _retinas(centre, radius, rng)
    places = _places(centre[image], radius[image], rng)
    _paint(canvas, image, places, brightness)
    canvas += rng.normal(0, 8, canvas.shape)
    burden = np.bincount(image, brightness, count).astype(np.float64)
    return Photographs(burden, np.clip(canvas, 0, 255).astype(np.uint8))


def draw_uid(rng: np.random.Generator) -> str:
    """A random UID below 2.25 (DICOM PS3.5, annex B.2)."""
    return f"2.25.{int.from_bytes(rng.bytes(15))}"


def dicom_file(
    pixels: Pixels, patient_id: str | None, birth: int, taken: int, uids: tuple[str, str, str]
) -> bytes:
    """One image as a DICOM file, explicit VR little endian; `uids` of study, series and instance.

    The name and the birth date in the header are planted: they must never be seen downstream.
    """
    header = _pixel_module(pixels)
    if patient_id is not None:
        header.PatientID = patient_id
    header.PatientName = f"Planted^Name{birth}"
    header.PatientBirthDate = iso(birth).replace("-", "")
    header.StudyDate = iso(taken).replace("-", "")
    header.StudyTime = f"{8 + taken % 10:02d}{birth % 60:02d}00"
    header.Modality = "OP"
    header.SeriesDescription = "FUNDUS"
    header.SOPClassUID = OPHTHALMIC_PHOTOGRAPHY_8_BIT
    header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID = uids
    header.file_meta = _file_meta(uids[2])
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def taken_days(count: int, index_date: date, rng: np.random.Generator) -> Ints:
    """Days since 1970-01-01, within the two years before the index date."""
    return (index_date - EPOCH).days - rng.integers(14, 730, count)


def _retinas(centre: Floats, radius: Floats, rng: np.random.Generator) -> Floats:
    """Soft-edged discs of uneven brightness, images x 32 x 32."""
    count = len(radius)
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    down, right = rows - centre[:, 0, None, None], columns - centre[:, 1, None, None]
    inside: Floats = 1 / (1 + np.exp((np.hypot(down, right) - radius[:, None, None]) / 1.2))
    brightness, tilt_down, tilt_right = (
        rng.uniform(low, high, (count, 1, 1)) for low, high in ((50, 90), (-1.2, 1.2), (-1.2, 1.2))
    )
    retinas: Floats = 10 + inside * (brightness + tilt_down * down + tilt_right * right)
    return retinas


def _places(centre: Floats, radius: Floats, rng: np.random.Generator) -> Floats:
    """A point well inside each disc, uniform over its area, lesions x (row, column)."""
    distance = 0.75 * radius * np.sqrt(rng.random(len(radius)))
    angle = rng.uniform(0, 2 * np.pi, len(radius))
    places: Floats = centre + distance[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1)
    return places


def _paint(canvas: Floats, image: Ints, places: Floats, brightness: Floats) -> None:
    """Add each lesion, a blob three pixels wide, to its image."""
    nearest = places.round().astype(np.int64)
    for down in range(-2, 3):
        for right in range(-2, 3):
            pixel = nearest + np.array([down, right])
            squared = ((pixel - places) ** 2).sum(axis=1)
            glow = 140 * brightness * np.exp(-squared / (2 * 0.9**2))
            np.add.at(canvas, (image, pixel[:, 0], pixel[:, 1]), glow)


def _pixel_module(pixels: Pixels) -> Dataset:
    header = Dataset()
    header.SamplesPerPixel = 1
    header.PhotometricInterpretation = "MONOCHROME2"
    header.Rows, header.Columns = pixels.shape
    header.PixelSpacing = [0.3, 0.3]
    header.BitsAllocated = header.BitsStored = 8
    header.HighBit = 7
    header.PixelRepresentation = 0
    header.PixelData = pixels.tobytes()
    return header


def _file_meta(instance_uid: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = OPHTHALMIC_PHOTOGRAPHY_8_BIT
    meta.MediaStorageSOPInstanceUID = instance_uid
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta
