"""The EBI validator's files, good and bad: by default each is refused as a whole by a clear word, or each of its
lines is accounted for; strictly, those that must fail do, and those that must pass do. None crashes a job."""

import hashlib
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.contract.errors import DataGateError
from features.contract.paths import FileStat, Location
from features.contract.settings import GenomicsSettings
from features.genomics.clean import Rule
from features.genomics.conformance.gate import IN_ORDER, TOGETHER, TWICE, declared, joined, read_part
from features.genomics.formats.header import Header
from features.genomics.formats.vcf import VcfPart, data_lines, read_header
from features.genomics.info import read_declared
from features.genomics.ingestion.candidates import KINDS, Work, layout_of, parse_part
from features.genomics.ingestion.roster import NOBODY, Columns
from features.raw_text import Split, plan_splits
from tests.command import SHARED

ARCHIVE = SHARED / "vcf_conformance/v4.1-v4.3.tar.gz"
NO_EVIDENCE = "No genotypes or allele frequencies"
"""What the validator asks of a submission to the EBI, and no version of the specification does."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    if not ARCHIVE.exists():
        pytest.skip(f"the validator's files are not at {ARCHIVE}")
    folder = tmp_path_factory.mktemp("conformance")
    shutil.unpack_archive(ARCHIVE, folder)
    return sorted(path for path in folder.rglob("*.vcf*") if path.is_file())


def opened(path: Path, target_bytes: int = 1 << 40) -> tuple[list[Split], Header]:
    root, stat = Location.parse(str(path.parent)), FileStat(path.name, path.stat().st_size, 0)
    splits = plan_splits(root, [(stat, path.name)], target_bytes)
    return splits, read_header(splits)


def lines_and_places(path: Path) -> tuple[int, int]:
    """How many records the file has, and how many gave a variant or a refusal by a known rule."""
    splits, header = opened(path)
    samples = len(header.names)
    columns = {path.name: Columns("block" if samples else NOBODY, samples, None)}
    fields = read_declared(header.info or [])
    genomics = GenomicsSettings(paths=["*"], build="GRCh37", measures=["DP", "GQ", "AD"])
    work = Work(
        [VcfPart(split, header.ends) for split in splits],
        columns,
        {path.name: 0},
        {path.name: layout_of(header, columns[path.name], genomics, fields, None, None)},
        {"block": np.zeros(samples, np.uint8)},
    )
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for kind, batch in parse_part(work, work.parts[0]):
        found[kind] += batch.to_pylist()
    counted = {row["rule"]: row["items"] for row in found["tally"]}
    rules = Counter(row["rule"] for row in found["refused"])
    assert rules == {rule: number for rule, number in counted.items() if rule} and rules.keys() <= set(Rule)
    assert len(found["variants"]) == (counted.get(None, 0) if samples else 0)
    return len(list(data_lines(splits[0], header.ends))), sum(row["lines"] for row in found["tally"])


def test_every_line_of_every_file_is_accounted_for_or_the_file_refused(files: list[Path]) -> None:
    refused = []
    for path in files:
        try:
            lines, places = lines_and_places(path)
        except DataGateError as error:
            refused.append(path)
            assert len(str(error)) > 30
        else:
            assert lines == places, path.name
    assert len(files) == 688
    assert not [path for path in refused if "passed" in path.parts]
    assert {path.parent.name for path in refused} == {"failed", "non_readable"}
    assert len(refused) < 30


def findings(path: Path, target_bytes: int = 1 << 40) -> list[tuple[int, str]]:
    """The lines of a file that the strict gate would refuse, without Spark."""
    splits, header = opened(path, target_bytes)
    fields = declared(splits)
    return joined(
        [read_part(splits[i:], fields, len(header.names), header.ends) for i in range(len(splits))]
    ).broken


def test_strictly_what_must_fail_fails_and_what_must_pass_passes(files: list[Path]) -> None:
    judged = 0
    for path in files:
        must_pass = "passed" in path.parts
        try:
            broken = findings(path)
        except DataGateError as error:
            assert not must_pass, (path.name, str(error))
            assert re.search(r"line \d+: |expected text with a header", str(error)), path.name
            judged += 1
            continue
        if must_pass:
            assert not broken, path.name
        elif NO_EVIDENCE.encode() not in path.read_bytes():
            assert broken, path.name
        judged += 1
    assert judged == 688


ABOUT = {
    "INFO": "INFO",
    "FORMAT": "FORMAT",
    "FILTER": "FILTER",
    "ID": "ID",
    "REF": "REF",
    "ALT": "ALT",
    "QUAL": "QUAL",
}


def test_a_record_is_refused_for_what_the_validator_refuses_it_for(files: list[Path]) -> None:
    """The files say in their header what is wrong; the column that we name is the one they name."""
    told = 0
    for path in (path for path in files if path.name.startswith("failed_body") and path.parent.name == "failed"):
        cause = re.search(r"CauseOfFailure=(\w+)( \w+)?", path.read_text())
        column = ABOUT.get(cause[1]) if cause else None
        if column is None or cause is None:
            continue
        key = (cause[2] or "").strip()
        wanted = f"{column} {key}" if re.fullmatch("[A-Z0-9]{2,}", key) else column
        (line, rule), *_ = findings(path)
        assert rule.startswith(wanted), (path.name, cause[0], rule)
        assert line > 3
        told += 1
    assert told > 120


def big(path: Path, lines: dict[int, str]) -> Path:
    """A file of 8,000 records in several splits, of which some are others."""
    head = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tA\tB"]
    names = [hashlib.sha256(str(i).encode()).hexdigest() for i in range(8000)]  # so that bgzip needs two blocks
    body = [
        "\t".join([str(1 + i // 4000), str(100 + 10 * i), name, *"CT.", "PASS", ".", "GT", "0/1", "0/0"])
        for i, name in enumerate(names)
    ]
    text = head + body
    for number, line in lines.items():
        text[number - 1] = line.replace(" ", "\t")
    path.write_text("\n".join(text) + "\n")
    return path


@pytest.mark.parametrize("codec", ["plain", "bgzip"])
def test_lines_are_numbered_and_their_order_judged_across_splits(tmp_path: Path, codec: str) -> None:
    path = big(tmp_path / "big.vcf", {})
    starts = np.cumsum([len(line) + 1 for line in path.read_text().splitlines()])
    border = int(np.searchsorted(starts, 1 << 17)) + 1  # the last line of the second split of a plain file
    wrong = {
        5: "1 120 . C T . PASS AC=x GT 0/1 0/0",
        border + 1: f"1 {100 + 10 * (border - 3)} . C T . PASS . GT 0/1 0/0",
        border + 3: f"1 {100 + 10 * (border - 4)} . C G . PASS . GT 0/1 0/0",
        6000: "1 70000 . C T . PASS . GT 0/1 0/0",
        8002: "2 80090 . C T . PASS . GT 0/1 0/5",
    }
    path = big(path, wrong)
    rules = [
        (5, "INFO AC: expected values of type Integer"),
        (border + 1, TWICE),
        (border + 3, IN_ORDER),
        (6000, TOGETHER),
        (6001, TOGETHER),
        (8002, "FORMAT GT: expected no allele beyond those of ALT"),
    ]
    if codec == "bgzip":
        if shutil.which("bgzip") is None:
            pytest.skip("bgzip is not installed")
        subprocess.run(["bgzip", "-f", str(path)], check=True)
        path = path.with_name("big.vcf.gz")
    assert len(opened(path, 1 << 16)[0]) > (1 if codec == "bgzip" else 5)
    assert findings(path, 1 << 16) == findings(path) == rules


def test_a_number_of_thousands_of_digits_breaks_a_rule(tmp_path: Path) -> None:
    """Python's int() refuses them with an error of its own."""
    path, nines = tmp_path / "nines.vcf", "9" * 5000
    header = ["##fileformat=VCFv4.3", "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT A"]
    records = [f"1 {nines} . C T . . . GT 0/1", f"1 5 . C T . . . GT 0/{nines}"]
    path.write_text("\n".join(line.replace(" ", "\t") for line in [*header, *records]) + "\n")
    assert [line for line, _ in findings(path, 1 << 16)] == [3, 4]
    info = f'##INFO=<ID=ZZ,Number={nines},Type=Integer,Description="z">\n'
    path.write_text(path.read_text().replace("#CHROM", info + "#CHROM"))
    with pytest.raises(DataGateError, match="line 2: expected Number to be a count"):
        findings(path, 1 << 16)
