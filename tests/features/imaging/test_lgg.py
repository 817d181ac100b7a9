"""The real brain MRI: 110 people, five slices of FLAIR and of T1 after contrast."""

import pytest
from pyspark.sql import SparkSession

from features.contract.config import load_settings
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.runs import open_delta
from features.imaging.ingest import ingest_imaging
from tests.command import REPOSITORY, SHARED

LGG = SHARED / "lgg"
pytestmark = pytest.mark.skipif(
    not LGG.is_dir(), reason=f"no {LGG}: the data of real people is not in the repository"
)


def test_all_110_imaged_people_have_their_series(spark: SparkSession, lake: Location) -> None:
    settings = load_settings(str(REPOSITORY / "conf" / "lgg.yaml"), raw=str(LGG), lake=lake.uri)
    keyer = PersonKeyer(bytes(range(32)), settings.identity)
    files = [file for file in Location(settings.raw).files() if file.path.endswith(".dcm")]
    written = ingest_imaging(spark, lake, settings, keyer, files)
    found = open_delta(lake, "series", written.tables["series"])
    assert found is not None
    series = found.to_pyarrow_table().to_pylist(maps_as_pydicts="strict")
    folders = {keyer.person_key(path.name) for path in (LGG / "dicom").iterdir() if path.is_dir()}
    assert (len(folders), {row["person_key"] for row in series}) == (110, folders)
    assert {row["series_description"] for row in series} == {"FLAIR", "T1post"}
    assert sum(row["n_images"] for row in series) == len(files) == written.counts["images"]
    assert written.counts["balances"]["imaging"]["quarantined"] == {}
