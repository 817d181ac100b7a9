"""A score that was developed on the study's own cohort is told of."""

from pathlib import Path

import pytest

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.contract.settings import ScoreDevelopment
from features.genomics.polygenic.development import developed_here

HEADER = '"Polygenic Score (PGS) ID","Stage of PGS Development","Cohort(s)","Additional Information"\n'
OURS = ScoreDevelopment(path="samples.csv", cohorts=["UKB", "FinnGen"])


def found(raw: Path, keyer: PersonKeyer, *scores: str) -> dict[str, list[str]]:
    return developed_here(Location.parse(str(raw)), OURS, keyer, scores)


def test_each_cohort_of_each_row_of_a_score_counts(
    tmp_path: Path, keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "samples.csv").write_text(
        HEADER
        + 'PGS000001,Variant associations (GWAS),"ABCFS, BCAC",\n'
        + 'PGS000002,Variant associations (GWAS),"BCAC|ukb","two\nlines, UKBB"\n'
        + "PGS000002,Score development/training,FINNGEN,\n"
        + "PGS000003,Score development/training,UKB,\n"
        + "PGS000004,Score development/training,UKBB,\n"
    )
    assert found(tmp_path, keyer, "PGS000001", "PGS000002", "PGS000004") == {"PGS000002": ["FinnGen", "UKB"]}
    assert [record.getMessage()[:60] for record in caplog.records] == [
        "score PGS000002: it was developed on FinnGen, UKB, whose peo"
    ]
    assert found(tmp_path, keyer) == {}


@pytest.mark.parametrize("text", ["", "PGS,Cohort\n", HEADER + '"PGS1,UKB\n', HEADER + "PGS1,UKB\n", "\xff"])
def test_another_file_is_told_of(tmp_path: Path, keyer: PersonKeyer, text: str) -> None:
    (tmp_path / "samples.csv").write_text(text, encoding="latin-1")
    with pytest.raises(DataGateError, match=r"genomics\.scores\.development: file \w+: expected a CSV file with"):
        found(tmp_path, keyer, "PGS000001")


def test_a_missing_file_is_told_of(tmp_path: Path, keyer: PersonKeyer) -> None:
    with pytest.raises(DataGateError, match=r"genomics\.scores\.development\.path: samples\.csv is not below"):
        found(tmp_path, keyer, "PGS000001")
