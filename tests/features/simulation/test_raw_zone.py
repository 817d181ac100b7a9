import csv
import gzip
import hashlib
import io
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from typer.testing import CliRunner

from features.contract.config import load_settings
from features.contract.errors import ConfigError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.simulation.disease import GENOMIC_WEIGHTS
from features.simulation.genomes import PANEL_SITES, rsid
from features.simulation.raw_zone import MARKER, Truth, load_risk, load_truth, simulate
from features.simulation.records import OUTCOME
from jobs.cli.main import app


@pytest.fixture(scope="module")
def truth(raw: Path) -> Truth:
    found = load_truth(Location.parse(str(raw)))
    assert found is not None
    return found


def digests(root: Path) -> dict[str, str]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows_of(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_text())))[1:]


def variant_lines(raw: Path) -> list[list[str]]:
    texts = [gzip.decompress(file.read_bytes()).decode() for file in sorted(raw.glob("genomics/*.vcf.gz"))]
    return [line.split("\t") for text in texts for line in text.splitlines() if not line.startswith("#")]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(Location.parse(str(tmp_path / name / "raw")), people=120, seed=seed)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert first == again
    assert not {path for path, digest in first.items() if other.get(path) == digest}


def test_a_second_run_leaves_the_zone_alone_and_another_seed_replaces_it(tmp_path: Path) -> None:
    root = Location.parse(str(tmp_path / "raw"))
    simulate(root, people=120)
    written = (tmp_path / "raw" / MARKER).stat().st_mtime_ns
    simulate(root, people=120)
    assert (tmp_path / "raw" / MARKER).stat().st_mtime_ns == written
    before = digests(tmp_path / "raw" / "imaging")
    simulate(root, people=120, seed=2)
    assert not before.keys() & digests(tmp_path / "raw" / "imaging").keys()


def test_files_of_somebody_else_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "patients.csv").write_text("id\n1\n")
    with pytest.raises(ConfigError, match="no simulation wrote"):
        simulate(Location.parse(str(tmp_path / "raw")), people=120)
    told = CliRunner().invoke(app, ["simulate", "--raw", str(tmp_path / "raw"), "--people", "120"])
    assert told.exit_code == 2
    assert (tmp_path / "raw" / "patients.csv").exists()


def test_planted_variant_dirt_is_there(raw: Path, truth: Truth) -> None:
    lines = variant_lines(raw)
    width = max(map(len, lines))
    whole = [line for line in lines if len(line) == width]
    placed = [line for line in whole if re.fullmatch("[0-9]+", line[1])]
    named = [line for line in placed if re.fullmatch("[ACGT]+", line[3]) and re.fullmatch("[ACGT,]+", line[4])]
    called = [line for line in named if all(re.fullmatch("[012.]/[012.]", call) for call in line[9:])]
    copies = len(called) - len({tuple(line[:5]) for line in called})
    assert truth.planted["ingest_genomics"] == {
        "columns": len(lines) - len(whole),
        "position": len(whole) - len(placed),
        "allele": len(placed) - len(named),
        "genotype": len(named) - len(called),
        "merged": copies,
    }
    assert len(called) - copies == truth.counts["variants"]


def broken_rule(row: list[str], identifier: str | None) -> str | None:
    """What a reader with common sense would find wrong with a row of either clinical file."""
    if len(row) != 6:
        return "columns"
    if identifier is None:
        return "identifier"
    if not re.fullmatch("(19|20)[0-9]{2}-[0-9]{2}-[0-9]{2}", row[1]) or "02-30" in row[1] or row[1] > "2030":
        return "date"
    number = row[3] if "//" in row[2] else ""
    if number and (not re.fullmatch("[0-9.]+", number) or float(number) > 300):
        return "value"
    return None


def test_planted_clinical_dirt_is_there(raw: Path, truth: Truth) -> None:
    found: Counter[str] = Counter()
    keyer = PersonKeyer(b"k" * 32, load_settings("conf/demo.yaml").identity)
    kept: set[tuple[str | None, ...]] = set()
    for row in rows_of(raw / "clinical" / "persons.csv") + rows_of(raw / "clinical" / "events.csv"):
        identifier = keyer.normalise(row[0])
        rule = broken_rule(row, identifier)
        if rule is None:
            record = (identifier, *row[1:])
            found["merged"] += record in kept
            kept.add(record)
        else:
            found[rule] += 1
    assert found == truth.planted["ingest_clinical"]
    assert len(kept) == truth.counts["people"] + truth.counts["events"]


def test_planted_image_dirt_is_there(raw: Path, truth: Truth) -> None:
    found: Counter[str] = Counter()
    instances: list[str] = []
    for file in raw.glob("imaging/*/*.dcm"):
        try:
            header = dcmread(file)
            assert header.pixel_array.shape == (32, 32)
        except (InvalidDicomError, AttributeError, ValueError, EOFError):
            found["unreadable"] += 1
            continue
        if "PatientID" not in header:
            found["no_patient_id"] += 1
        else:
            instances.append(header.SOPInstanceUID)
    found["merged"] = len(instances) - len(set(instances))
    assert found == truth.planted["ingest_imaging"]
    assert len(set(instances)) == truth.counts["with_image"]


def test_images_name_their_patient_and_were_taken_before_the_index(raw: Path) -> None:
    known = set(load_risk(Location.parse(str(raw)))["source_id"].to_pylist())
    for file in sorted(raw.glob("imaging/*/*.dcm"))[:40]:
        if file.read_bytes()[128:132] != b"DICM" or file.stat().st_size < 1000:
            continue
        header = dcmread(file, force=True)
        assert header.StudyDate < "20200101"
        assert header.SeriesDescription == "FUNDUS"
        assert str(header.PatientName).startswith("Planted")
        if "PatientID" in header:
            assert header.PatientID.upper().replace("_", "-") in known


def test_the_truth_lies_beside_the_raw_zone_and_sums_up(raw: Path) -> None:
    risk = load_risk(Location.parse(str(raw))).to_pydict()
    assert not list(raw.rglob("*truth*"))
    parts = np.array([risk["genomic"], risk["clinical"], risk["imaging"]]).sum(axis=0)
    intercept = load_truth(Location.parse(str(raw))).weights["intercept"]  # type: ignore[union-attr]
    np.testing.assert_allclose(risk["logit"], intercept + parts)


def test_the_demo_configuration_knows_this_raw_zone(raw: Path) -> None:
    settings = load_settings("conf/demo.yaml", raw=str(raw))
    task = settings.task("t2d")
    assert task.outcome.code == OUTCOME
    assert task.features.genomics is not None
    assert task.features.genomics.variants == [rsid(site) for site in PANEL_SITES]
    assert set(GENOMIC_WEIGHTS) < set(PANEL_SITES)
    codes = {row[2] for row in rows_of(raw / "clinical" / "events.csv") if len(row) == 6}
    mapped = {value for event in settings.clinical.sources[1].events for value in event.when_values}
    assert mapped == codes
