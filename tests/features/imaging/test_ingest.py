"""A small raw zone of DICOM files, dirt and all."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pyspark.sql import SparkSession

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import open_delta
from features.contract.settings import IdentitySettings, Settings
from features.imaging.ingest import ingest_imaging
from features.lake import Written

KEYER = PersonKeyer(
    bytes(range(32)), IdentitySettings(namespace="tests", case="upper", pattern=r"^([A-Z]+-[0-9]+)")
)
Done = tuple[Location, Written]


def write(path: Path, patient_id: str | None, instance: int, shade: int = 0, series: str = "1.2.3") -> None:
    """A grey 4 x 4 image, taken in March 2015."""
    dataset = Dataset()
    if patient_id is not None:
        dataset.PatientID = patient_id
    dataset.PatientName, dataset.PatientBirthDate = "Planted^Name", "19500101"
    dataset.StudyDate, dataset.Modality, dataset.SeriesDescription = f"201503{instance:02d}", "MR", "FLAIR"
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, f"{series}.{instance}"
    dataset.SOPClassUID, dataset.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2"
    dataset.InstanceNumber, dataset.SamplesPerPixel = instance, 1
    dataset.PhotometricInterpretation, dataset.PixelRepresentation = "MONOCHROME2", 0
    dataset.Rows = dataset.Columns = 4
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelData = 7, np.full(16, shade, np.uint8).tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def settings(raw: Path) -> Settings:
    task = {
        "name": "t",
        "cohort": {"index_date": "2020-01-01"},
        "outcome": {"name": "o", "kind": "binary", "code": "DEATH", "horizon_days": 1},
        "features": {},
        "scoring": {"as_of": "2020-01-01"},
    }
    study: dict[str, Any] = {"name": "t", "raw": f"file://{raw}", "lake": f"file://{raw}/../lake", "tasks": [task]}
    study |= {"identity": {"namespace": "tests"}, "clinical": {"sources": [], "latest": "2023-12-31"}}
    return Settings.model_validate(study | {"imaging": {"paths": ["*/*.dcm"]}})


@pytest.fixture(scope="module")
def done(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Done:
    root = tmp_path_factory.mktemp("imaging")
    raw = root / "raw"
    write(raw / "a" / "1.dcm", "A-1", 2, shade=20)
    write(raw / "a" / "2.dcm", "a_1-01B", 1, shade=10)
    write(raw / "b" / "1.dcm", "A-2", 3, shade=30, series="1.2.9")
    write(raw / "z" / "same.dcm", "A-1", 2, shade=20)
    write(raw / "z" / "other_pixels.dcm", "A-1", 1, shade=99)
    write(raw / "z" / "other_person.dcm", "A-2", 4)
    write(raw / "z" / "nobody.dcm", None, 5)
    write(raw / "z" / "cut.dcm", "A-3", 6)
    (raw / "z" / "cut.dcm").write_bytes((raw / "z" / "cut.dcm").read_bytes()[:-3])
    (raw / "z" / "note.dcm").write_text("Planted^Name was here\n")
    (raw / "z" / "empty.dcm").touch()
    lake = Location.parse(str(root / "lake"))
    return lake, ingest_imaging(spark, lake, settings(raw), KEYER, list(Location.parse(str(raw)).files()))


def table(done: Done, name: str) -> list[dict[str, Any]]:
    found = open_delta(done[0], name, done[1].tables[name])
    assert found is not None
    rows: list[dict[str, Any]] = found.to_pyarrow_table().to_pylist(maps_as_pydicts="strict")
    return rows


def test_the_first_file_of_an_instance_is_used_and_the_others_merged(done: Done) -> None:
    shades = {row["image_key"]: row["pixels"][0] for row in table(done, "images")}
    assert shades == {
        KEYER.digest("image", "1.2.3.2"): 20,
        KEYER.digest("image", "1.2.3.1"): 10,
        KEYER.digest("image", "1.2.9.3"): 30,
        KEYER.digest("image", "1.2.3.4"): 0,
    }
    assert done[1].counts["images_conflicting"] == 1


def test_a_series_has_its_first_time_its_images_and_its_header(done: Done) -> None:
    (row,) = (row for row in table(done, "series") if row["person_key"] == KEYER.person_key("A-1"))
    assert row["n_images"] == 2
    assert (row["time"].day, row["modality"], row["series_description"]) == (1, "MR", "FLAIR")
    assert row["header"]["Rows"] == "4"


def test_a_series_never_belongs_to_two_people(done: Done) -> None:
    owners = {(row["series_key"], row["person_key"]) for row in table(done, "images")}
    assert len({series for series, _ in owners}) == len(owners) == 3
    assert {row["series_key"] for row in table(done, "series")} == {series for series, _ in owners}


def test_every_bad_file_is_refused_by_its_rule(done: Done) -> None:
    refused = {row["source_digest"]: row["rule"] for row in table(done, "quarantine/ingest_imaging")}
    assert refused == {
        KEYER.path_digest("z/nobody.dcm"): "no_patient_id",
        KEYER.path_digest("z/cut.dcm"): "unreadable",
        KEYER.path_digest("z/note.dcm"): "unreadable",
        KEYER.path_digest("z/empty.dcm"): "unreadable",
    }


def test_nothing_is_lost(done: Done) -> None:
    assert done[1].counts["balances"]["imaging"] == {
        "records": 10,
        "expanded": 0,
        "used": 4,
        "merged": 2,
        "quarantined": {"no_patient_id": 1, "unreadable": 3},
    }
    assert Counter(row["job"] for row in table(done, "quarantine/ingest_imaging")) == {"ingest_imaging": 4}


def test_no_name_birth_date_or_id_is_anywhere_in_the_tables(done: Done) -> None:
    files = [path for path in Path(done[0].path).rglob("*") if path.is_file()]
    stored = (
        b"".join(path.read_bytes() for path in files) + repr([table(done, n) for n in done[1].tables]).encode()
    )
    assert not any(word in stored for word in (b"Planted", b"19500101", b"A-1", b"a_1", b"1.2.3", b"note.dcm"))


def test_no_files_is_a_data_gate(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(DataGateError, match=r"imaging\.paths: no raw file matches"):
        ingest_imaging(spark, Location.parse(str(tmp_path)), settings(tmp_path), KEYER, [])
