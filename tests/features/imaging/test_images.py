"""DICOM files, one by one: what is taken from them, and what is refused."""

import io
import random
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGLSLossless

from features.contract.persons import PersonKeyer
from features.imaging.clean import Refusal, parse_time
from features.imaging.read import read_image

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def dicom(pixels: np.ndarray = PIXELS, syntax: str = ExplicitVRLittleEndian, **fields: Any) -> bytes:
    """A file whose fields can be changed, or left out with None."""
    dataset = Dataset()
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    bits = pixels.dtype.itemsize * 8
    whole = {
        "PatientID": "A-1",
        "PatientName": "Planted^Name",
        "PatientBirthDate": "19500101",
        "StudyDate": "20150302",
        "Modality": "MR",
        "SeriesDescription": "FLAIR",
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.4",
        "SOPInstanceUID": "1.2.3.4.5",
        "InstanceNumber": 7,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(np.issubdtype(pixels.dtype, np.signedinteger)),
        "PixelSpacing": [0.5, 0.25],
        "PixelData": pixels.tobytes(),
    }
    for name, value in (whole | fields).items():
        if value is not None:
            setattr(dataset, name, value)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = whole["SOPClassUID"]
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4.5"
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == JPEGLSLossless:
        dataset["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def rule(data: bytes, keyer: PersonKeyer) -> str:
    with pytest.raises(Refusal) as refusal:
        read_image(data, keyer)
    return refusal.value.rule.value


def test_an_image_keeps_its_stored_values_shape_spacing_and_time(keyer: PersonKeyer) -> None:
    image = read_image(dicom(AcquisitionDate="20150301", AcquisitionTime="101530.25"), keyer)
    assert (image.pixels, image.dtype, image.shape) == (PIXELS.tobytes(), "uint8", [3, 4])
    assert image.spacing == [0.5, 0.25]
    assert image.time == datetime(2015, 3, 1, 10, 15, 30, 250_000, tzinfo=UTC)
    assert (image.instance_number, image.modality, image.series_description) == (7, "MR", "FLAIR")
    assert image.person_key == keyer.person_key("a_1-01B")


def test_sixteen_bit_and_signed_values_stay_what_they_are(keyer: PersonKeyer) -> None:
    for kind in ("<u2", "<i2"):
        values = np.array([[1, 2], [300, 4000]], dtype=kind)
        image = read_image(dicom(values, RescaleSlope="2", RescaleIntercept="-1024"), keyer)
        assert np.array_equal(np.frombuffer(image.pixels, kind).reshape(2, 2), values)
        assert (image.header["RescaleSlope"], image.header["RescaleIntercept"]) == ("2", "-1024")


def test_monochrome1_is_turned_over_so_that_bright_is_high(keyer: PersonKeyer) -> None:
    values = np.array([[0, 4095]], dtype="<u2")
    image = read_image(dicom(values, PhotometricInterpretation="MONOCHROME1", BitsStored=12, HighBit=11), keyer)
    assert np.frombuffer(image.pixels, "<u2").tolist() == [4095, 0]


def test_nothing_that_identifies_is_kept_even_in_free_text(keyer: PersonKeyer) -> None:
    fields = {"SeriesDescription": "T1 planted, repeat", "Manufacturer": "NAME & Sons", "StationName": "Ward 7"}
    image = read_image(dicom(PatientAddress="Planted Street 1", OperatorsName="Dr^Secret", **fields), keyer)
    assert image.series_description is None
    text = repr(image).lower()
    assert not any(word in text for word in ("planted", "name &", "19500101", "secret", "ward 7", "a-1", "1.2.3"))
    assert image.header["Modality"] == "MR"


@pytest.mark.parametrize("cut", [0, 100, 140, 200, 400, -10, -1])
def test_a_cut_file_is_unreadable(cut: int, keyer: PersonKeyer) -> None:
    assert rule(dicom()[:cut], keyer) == "unreadable"


def test_text_named_dcm_is_unreadable(keyer: PersonKeyer) -> None:
    assert rule(b"This file was lost in the migration.\n" * 20, keyer) == "unreadable"


@pytest.mark.parametrize("patient_id", [None, "", "   ", "???", "unknown"])
def test_a_file_without_an_accepted_id_belongs_to_nobody(patient_id: str | None, keyer: PersonKeyer) -> None:
    assert rule(dicom(PatientID=patient_id), keyer) == "no_patient_id"


@pytest.mark.parametrize("date", [None, "", "soon", "18991231", "20150230"])
def test_a_file_without_a_day_has_no_time(date: str | None, keyer: PersonKeyer) -> None:
    assert rule(dicom(StudyDate=date), keyer) == "no_time"


def test_colour_frames_and_foreign_syntaxes_are_unsupported_pixels(keyer: PersonKeyer) -> None:
    colour = np.zeros((2, 2, 3), dtype=np.uint8)
    assert rule(dicom(colour, SamplesPerPixel=3, PhotometricInterpretation="RGB"), keyer) == "pixels"
    assert rule(dicom(np.zeros((2, 2, 2), np.uint8), NumberOfFrames=2), keyer) == "pixels"
    fragment = b"\xfe\xff\x00\xe0\x00\x00\x00\x00\xfe\xff\x00\xe0\x04\x00\x00\x00abcd\xfe\xff\xdd\xe0\0\0\0\0"
    assert rule(dicom(syntax=JPEGLSLossless, PixelData=fragment), keyer) == "pixels"
    assert rule(dicom(syntax=DeflatedExplicitVRLittleEndian), keyer) == "pixels"


def test_a_header_that_promises_gigabytes_allocates_none(keyer: PersonKeyer) -> None:
    assert rule(dicom(Rows=65535, Columns=65535), keyer) == "unreadable"


def test_damaged_bytes_are_an_image_or_a_refusal_never_a_crash(keyer: PersonKeyer) -> None:
    whole, chance = dicom(), random.Random(1)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            data[chance.randrange(128, len(data))] = chance.randrange(256)
        try:
            assert read_image(bytes(data), keyer).shape
        except Refusal as refusal:
            assert refusal.rule


def test_partial_times_count_from_midnight() -> None:
    assert parse_time("20150302", "10") == datetime(2015, 3, 2, 10, tzinfo=UTC)
    assert parse_time("2015.03.02", "9961") == datetime(2015, 3, 2, tzinfo=UTC)
    assert parse_time("20150302", "") == datetime(2015, 3, 2, tzinfo=UTC)
