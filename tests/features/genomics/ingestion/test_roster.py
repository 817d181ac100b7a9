"""A file that is not a VCF stops the job, and the message names its digest, never its path."""

from collections.abc import Callable
from pathlib import Path

import pytest

from features.contract.errors import DataGateError
from features.contract.paths import Location
from features.contract.persons import PersonKeyer
from features.genomics.formats.header import Header
from features.genomics.formats.vcf import read_header
from features.genomics.ingestion.roster import block_name, read_roster
from features.raw_text import plan_splits

COLUMNS = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT"


def header(path: Path, digest: str = "abc") -> Header:
    root = Location.parse(str(path.parent))
    file = next(file for file in root.files() if file.path == path.name)
    return read_header(plan_splits(root, [(file, digest)], 1 << 20))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("##source=x\n", "line 1: expected ##fileformat=VCF"),
        (f"\ufeff##fileformat=VCFv4.3\n{COLUMNS}\tA-1\n", "line 1: a byte order mark"),
        ("##fileformat=VCFv4.3\n1\t5\n", "line 2: expected the #CHROM line before the first record"),
        ("##fileformat=VCFv4.3\n##x\n", "line 2: the file ends before its #CHROM line"),
        (f"##fileformat=VCFv4.3\n{COLUMNS}\n", "line 2: expected the columns"),
        (f"##fileformat=VCFv4.3\n{COLUMNS.replace('REF', 'Ref')}\tA-1\n", "line 2: expected the columns"),
        (f"##fileformat=VCFv4.3\n{COLUMNS}\tA-1\tA-2\tA-1\n", "line 2: 1 sample names come twice"),
    ],
)
def test_a_bad_header_stops_the_job(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "A-1.vcf"
    path.write_text(text)
    with pytest.raises(DataGateError, match=f"file abc, {message}") as error:
        header(path)
    assert "A-1" not in str(error.value)


def test_windows_line_ends_are_no_part_of_the_last_sample(write_vcf: Callable[..., Path]) -> None:
    assert header(write_vcf("a.vcf", ["A-1", "A-2"], [], end="\r\n")).names == ["A-1", "A-2"]


def test_a_refused_sample_is_told_of_and_can_be_found_in_the_file(
    write_vcf: Callable[..., Path], keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_vcf("a.vcf", ["A-1", "nobody", "A-2"], [])
    roster = read_roster([header(path)], keyer)
    assert "1 sample columns are left out: identity.pattern" in caplog.text
    ((digest, location),) = roster.refused
    offset, length = map(int, location.split("+"))
    assert path.read_bytes()[offset : offset + length] == b"nobody"
    assert digest == "abc"


def test_aliquots_of_one_person_are_merged_into_the_first(
    write_vcf: Callable[..., Path], keyer: PersonKeyer
) -> None:
    roster = read_roster([header(write_vcf("a.vcf", ["A-1-01B", "A-2", "a_1-02C"], []))], keyer)
    ((block, people),) = roster.people.items()
    assert people == [keyer.person_key("A-1"), keyer.person_key("A-2")]
    assert roster.merged == 1
    keep = roster.columns["abc"].keep
    assert keep is not None
    assert keep.tolist() == [0, 1]
    assert block == block_name(people, keyer)


def test_the_order_of_samples_is_part_of_the_block(keyer: PersonKeyer) -> None:
    assert block_name(["x", "y"], keyer) != block_name(["y", "x"], keyer)


def test_files_of_one_sample_list_are_one_block(write_vcf: Callable[..., Path], keyer: PersonKeyer) -> None:
    one, other = write_vcf("a.vcf", ["A-1", "A-2"], []), write_vcf("b.vcf", ["A-1", "A-2"], [])
    roster = read_roster([header(one, "one"), header(other, "other")], keyer)
    assert len(roster.people) == 1
    assert roster.columns["one"].block == roster.columns["other"].block


def test_a_person_in_two_blocks_stops_the_job(write_vcf: Callable[..., Path], keyer: PersonKeyer) -> None:
    one, other = write_vcf("a.vcf", ["A-1", "A-2"], []), write_vcf("b.vcf", ["A-2", "A-3"], [])
    with pytest.raises(DataGateError, match="file other: 1 of its 2 people are also in files with another"):
        read_roster([header(one, "one"), header(other, "other")], keyer)


def test_a_file_without_a_known_sample_stops_the_job(write_vcf: Callable[..., Path], keyer: PersonKeyer) -> None:
    with pytest.raises(DataGateError, match=r"file abc: identity\.pattern accepts none of its 1 sample names"):
        read_roster([header(write_vcf("a.vcf", ["nobody"], []))], keyer)
