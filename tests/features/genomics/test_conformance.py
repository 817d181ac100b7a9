"""The EBI validator's files, good and bad: each is refused as a whole by a clear word, or each of its lines is
accounted for; none crashes a job. (Which of them are read is not yet what the validator says.)"""

import tarfile
from pathlib import Path

import numpy as np
import pytest

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.settings import GenomicsSettings
from features.genomics.candidates import Work, parse_split
from features.genomics.clean import Rule
from features.genomics.read import data_lines, read_header
from features.genomics.roster import Columns
from features.raw_text import plan_splits

ARCHIVE = Path(__file__).parents[4] / "shared" / "data" / "vcf_conformance" / "v4.1-v4.3.tar.gz"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if not ARCHIVE.exists():
        pytest.skip(f"the validator's files are not at {ARCHIVE}")
    folder = tmp_path_factory.mktemp("conformance")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return sorted(path for path in folder.rglob("*.vcf*") if path.is_file())


def lines_and_places(path: Path) -> tuple[int, int]:
    """How many records the file has, and how many gave a variant or a refusal by a known rule."""
    root, stat = Location.parse(str(path.parent)), FileStat(path.name, path.stat().st_size, 0)
    splits = plan_splits(root, [(stat, "digest")], 1 << 40)
    samples = len(read_header(splits).names)
    columns, sexes = {"digest": Columns("block", samples, None)}, {"block": np.zeros(samples, np.uint8)}
    genomics = GenomicsSettings(paths=["*"], build="GRCh37")
    work = Work(splits, columns, {"digest": 0}, sexes, None, genomics)
    rows = [row for batch in parse_split(work, splits[0]) for row in batch.to_pylist()]
    assert all(row["rule"] is None or row["rule"] in set(Rule) for row in rows)
    assert all((row["rule"] is None) == (row["variant_key"] is not None) for row in rows)
    return len(list(data_lines(splits[0]))), len({row["offset"] for row in rows})


def test_every_line_of_every_file_is_accounted_for_or_the_file_refused(files: list[Path]) -> None:
    refused = 0
    for path in files:
        try:
            lines, places = lines_and_places(path)
        except DataGateError as error:
            refused += 1
            assert len(str(error)) > 30
        else:
            assert lines == places, path.name
    assert len(files) == 688
    assert refused < len(files) * 0.6
