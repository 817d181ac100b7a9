"""New files beside what was ingested: the tables are those of a full rebuild; no row of calls is written again."""

import logging
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import FileStat, Location
from features.contract.persons import PersonKeyer
from features.contract.runs import Run, Runs
from features.contract.settings import GenomicsSettings, SampleSexes, Settings
from features.genomics.ingestion import batch
from features.genomics.ingestion.earlier import Earlier, file_stats, outdated
from features.genomics.ingestion.ingest import ingest_genomics
from features.genomics.ingestion.roster import Roster
from features.genomics.packing import unpack
from features.genomics.spans import Spans, widened
from features.lake import Written, data_files
from tests.features.genomics.conftest import TABLES, writer

Frames = dict[str, pd.DataFrame]
BATCH_A, BATCH_B = [f"A-{number}" for number in range(7)], [f"B-{number}" for number in range(10)]
SITES = [
    ("1", 100, "A", "C"),
    ("1", 200, "A", "G,T"),
    ("1", 300, "AT", "A"),
    ("1", 400, "C", "G"),
    ("2", 100, "G", "A"),
    ("2", 250, "C", "T"),
    ("X", 2_000_000, "A", "G"),
    ("X", 3_000_000, "A", "G"),
    ("X", 4_000_000, "C", "T"),
    ("X", 5_000_000, "C", "G"),
    ("Y", 3_000_000, "A", "T"),
    ("MT", 100, "T", "C"),
]
PLAIN = GenomicsSettings(paths=["*.vcf"], build="GRCh38", gene_field="GENE", consequence_field="VC")
SEXED = PLAIN.model_copy(
    update={"sexes": SampleSexes(path="sexes.tsv", id="id", sex="sex", values={"m": "male", "f": "female"})}
)


def test_people_are_told_by_parts(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_AT_ONCE", 3)
    keys = {"a": [f"{number:064}" for number in range(8)], "b": [f"{number:064}" for number in range(8, 11)]}
    sexes = {"a": np.array([0, 1, 2, 2, 1, 0, 1, 2], np.uint8), "b": np.array([2, 1, 0], np.uint8)}
    roster = Roster(columns={}, people=keys, refused=[])
    found = batch.Batch(roster, sexes, None).people(spark).collect()
    names = ["unknown", "male", "female"]
    expected = [
        (block, index, key, names[sexes[block][index]]) for block in keys for index, key in enumerate(keys[block])
    ]
    assert sorted(map(tuple, found)) == expected


@dataclass
class Lake:
    """A lake whose ingests are published, each beside the one before."""

    spark: SparkSession
    raw: Path
    folder: Path
    keyer: PersonKeyer
    rows: list[Run] = field(default_factory=list)

    @property
    def location(self) -> Location:
        return Location.parse(str(self.folder))

    def ingest(self, genomics: GenomicsSettings = PLAIN, basis: str = "b") -> Written:
        root = Location.parse(str(self.raw))
        settings = Settings.model_construct(
            name="tests", raw=root.uri, lake=self.location.uri, identity=self.keyer.identity, genomics=genomics
        )
        files = [file for file in root.files() if any(Path(file.path).match(glob) for glob in genomics.paths)]
        runs = Runs(tuple(self.rows))
        written = ingest_genomics(self.spark, self.location, settings, self.keyer, files, runs, basis)
        now, tables = datetime.now(UTC), {name: str(version) for name, version in written.tables.items()}
        name = str(len(self.rows))
        self.rows.append(
            Run(name, "ingest_genomics", now, "c", name, "v", {}, tables, counts=written.counts, finished=now)
        )
        return written

    def tables(self, written: Written) -> Frames:
        """The tables, in an order of their own."""
        found = {}
        for name in TABLES:
            frame = DeltaTable(f"{self.location.uri}/{name}", version=written.tables[name]).to_pandas()
            frame["filters"] = frame["filters"].map(tuple) if "filters" in frame else None
            found[name] = frame.sort_values([c for c in KEYS if c in frame.columns]).reset_index(drop=True)
        return found


KEYS = ("variant_key", "sample_block", "sample_index", "source_digest", "location")
NewLake = Callable[[], Lake]


@pytest.fixture
def new_lake(spark: SparkSession, raw: Path, tmp_path: Path, keyer: PersonKeyer) -> NewLake:
    def make() -> Lake:
        return Lake(spark, raw, tmp_path / f"lake{len(list(tmp_path.glob('lake*')))}", keyer)

    return make


def records(people: Sequence[str], sites: Sequence[tuple[str, int, str, str]], seed: int) -> list[str]:
    """Random calls, few of them ALT, some missing; IDs, FILTER and genes that hang on the seed too."""
    random, lines = np.random.default_rng(seed), []
    for contig, position, ref, alts in sites:
        alleles = [".", *map(str, range(alts.count(",") + 2))]
        shares = np.array([0.05, 0.75, *[0.2] * (len(alleles) - 2)])
        drawn = random.choice(alleles, (len(people), 2), p=shares / shares.sum())
        calls = ["./." if "." in pair else "/".join(sorted(pair)) for pair in drawn]
        said = (
            random.choice(["rs1", "rs2", "."]),
            random.choice(["PASS", "q10", "s50;q10"]),
            random.choice(["GENE=G1;VC=a", "GENE=G2", "."]),
        )
        lines.append(f"{contig} {position} {said[0]} {ref} {alts} . {said[1]} {said[2]} GT {' '.join(calls)}")
    return lines


def alone(place: str, people: Sequence[str]) -> str:
    """A variant of the first of these people."""
    return f"{place} . A C . . . GT 0/1 {' '.join(['0/0'] * (len(people) - 1))}"


def rebuilt(new_lake: NewLake, incremental: Lake, written: Written, genomics: GenomicsSettings = PLAIN) -> Frames:
    """The tables of a full rebuild, which are those that were `written`, as are its counts."""
    whole = new_lake()
    anew = whole.ingest(genomics)
    expected, found = whole.tables(anew), incremental.tables(written)
    for name, frame in expected.items():
        pd.testing.assert_frame_equal(found[name], frame, obj=name, check_exact=True)
    same = [name for name in anew.counts if name != "blocks"]
    assert {name: written.counts[name] for name in same} == {name: anew.counts[name] for name in same}
    assert written.counts["blocks"].keys() == anew.counts["blocks"].keys()
    for block, told in anew.counts["blocks"].items():
        assert written.counts["blocks"][block] | {"files": None} == told | {"files": None}
        assert sorted(written.counts["blocks"][block]["files"]) == sorted(told["files"])
    return expected


def kept(lake: Lake, first: Written, second: Written, table: str = "genotypes") -> bool:
    """Whether each file of the table's first version is one of the second."""
    before, after = (data_files(lake.location, table, w.tables[table]) for w in (first, second))
    return before.items() <= after.items()


def write_sexes(raw: Path, men: Sequence[str] = (*BATCH_A[:3], *BATCH_B[4:])) -> None:
    rows = [f"{person}\t{'m' if person in men else 'f'}" for person in (*BATCH_A, *BATCH_B)]
    (raw / "sexes.tsv").write_text("\n".join(["id\tsex", *rows, ""]))


@pytest.mark.parametrize("later", ["b.vcf", "0.vcf"])
def test_a_new_batch_of_samples_is_a_new_block(raw: Path, new_lake: NewLake, later: str) -> None:
    write_vcf, lake = writer(raw), new_lake()
    write_sexes(raw)
    batches = [[*people, "nobody", f"{people[0]}-02"] for people in (BATCH_A, BATCH_B)]
    first_lines, second_lines = records(batches[0], SITES[:9], 1), records(batches[1], SITES[2:], 2)
    write_vcf("a.vcf", batches[0], [*first_lines, alone("2 900", batches[0]), "2 950 . A C . . . GT 0/1"])
    first = lake.ingest(SEXED)
    write_vcf(later, batches[1], [*second_lines, alone("2 800", batches[1]), "2 950 . A C . . . GT 0/1"])
    second = lake.ingest(SEXED)
    assert (second.counts["samples_refused"], second.counts["samples_merged"]) == (2, 2)
    assert kept(lake, first, second)
    tables = rebuilt(new_lake, lake, second, SEXED)
    assert set(tables["samples"]["sex"]) == {"male", "female"}
    assert tables["samples"]["n_singletons"].sum() and tables["samples"]["x_inbreeding"].notna().any()
    blocks = second.counts["blocks"].values()
    assert sorted((b["samples"], b["variants"], b["absent"], b["absent_is_reference"]) for b in blocks) == [
        (7, 11, 4, 0),
        (10, 11, 4, 0),
    ]


def test_a_new_chromosome_of_the_same_samples_is_new_rows(raw: Path, new_lake: NewLake) -> None:
    write_vcf, lake = writer(raw), new_lake()
    write_sexes(raw)
    write_vcf("b.vcf", BATCH_B, records(BATCH_B, SITES, 3))
    write_vcf("a2.vcf", BATCH_A, records(BATCH_A, SITES[4:6], 4))
    first = lake.ingest(SEXED)
    write_vcf("a1.vcf", BATCH_A, records(BATCH_A, SITES[:4], 5))
    write_vcf("aX.vcf", BATCH_A, records(BATCH_A, SITES[6:], 6))
    (raw / "sites.vcf").write_text(
        "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n1\t100\t.\tA\tC\t.\t.\t.\n"
    )
    second = lake.ingest(SEXED)
    assert kept(lake, first, second)
    assert not kept(lake, first, second, "variants")  # those people now have what the others had
    rebuilt(new_lake, lake, second, SEXED)
    (raw / "sites2.vcf").write_text((raw / "sites.vcf").read_text())
    third = lake.ingest(SEXED)
    assert third.tables["genotypes"] == second.tables["genotypes"]  # nothing was appended
    rebuilt(new_lake, lake, third, SEXED)


def test_a_chromosome_that_is_new_to_everyone_leaves_earlier_variants_as_they_are(
    raw: Path, new_lake: NewLake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor are they read to find that out."""
    write_vcf, lake = writer(raw), new_lake()
    write_sexes(raw)
    for name, people in (("a1.vcf", BATCH_A), ("b1.vcf", BATCH_B)):
        write_vcf(name, people, records(people, SITES[:6], len(people)))
    first = lake.ingest(SEXED)
    for name, people in (("aX.vcf", BATCH_A), ("bX.vcf", BATCH_B)):
        write_vcf(name, people, records(people, SITES[6:], len(people) + 1))
    with monkeypatch.context() as patch:
        patch.delattr(Earlier, "has_none_of")
        second = lake.ingest(SEXED)
    assert kept(lake, first, second, "variants")
    rebuilt(new_lake, lake, second, SEXED)
    write_vcf("a3.vcf", BATCH_A, [alone("3 100", BATCH_A), alone("3 200", BATCH_A)])
    write_vcf("b3.vcf", BATCH_B, [alone("3 200", BATCH_B)])
    third = lake.ingest(SEXED)
    assert kept(lake, second, third) and kept(lake, second, third, "variants")
    rebuilt(new_lake, lake, third, SEXED)
    write_vcf("b4.vcf", BATCH_B, [alone("3 100", BATCH_B), alone("4 100", BATCH_B)])
    fourth = lake.ingest(SEXED)
    assert kept(lake, third, fourth) and not kept(lake, third, fourth, "variants")  # the others had one of these
    rebuilt(new_lake, lake, fourth, SEXED)


def anew(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Why all genomes were read anew, once for each time."""
    told = [record.getMessage() for record in caplog.records]
    return [text.partition(": ")[2] for text in told if text.startswith("all genomes are read anew")]


def test_where_new_files_change_what_stands_all_are_read_anew(
    raw: Path, new_lake: NewLake, keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "riskloom")
    write_vcf, lake = writer(raw), new_lake()
    write_sexes(raw)
    write_vcf("a0.vcf", BATCH_A, records(BATCH_A, SITES[10:], 1))
    write_vcf("a5.vcf", BATCH_A, records(BATCH_A, SITES[:6], 1))
    write_vcf("b.vcf", BATCH_B, records(BATCH_B, SITES, 2))
    lake.ingest(SEXED)

    def reason(expected: str, genomics: GenomicsSettings = SEXED, basis: str = "b") -> Written:
        caplog.clear()
        written = lake.ingest(genomics, basis)
        assert len(anew(caplog)) == 1 and re.fullmatch(expected, anew(caplog)[0])
        return written

    write_vcf("a1.vcf", BATCH_A, records(BATCH_A, SITES[5:], 3))  # before a5.vcf, so that its calls count
    written = reason(
        f"file {keyer.path_digest('a1.vcf')} has variants that an earlier file of the same samples has too"
    )
    rebuilt(new_lake, lake, written, SEXED)
    write_vcf("a1.vcf", BATCH_A, records(BATCH_A, SITES[5:9], 4))
    reason(f"1 files have changed, {keyer.path_digest('a1.vcf')} among them")
    (raw / "a1.vcf").unlink()
    reason(f"1 files are no longer there, {keyer.path_digest('a1.vcf')} among them")
    joint = SEXED.model_copy(update={"jointly_called": ["b.vcf"]})
    reason("other batches are said to be called jointly", joint)
    reason("other batches are said to be called jointly")
    write_sexes(raw, BATCH_A)
    reason(r"the record has another sex now of 10 samples that were ingested earlier")
    sexes = (raw / "sexes.tsv").read_text().splitlines()
    (raw / "sexes.tsv").write_text("\n".join([*sexes[:-2], ""]))  # of the last two nothing is recorded now
    reason(r"the record has another sex now of 2 samples that were ingested earlier")
    (raw / "b.bcf").write_text((raw / "a5.vcf").read_text())
    reason(
        "a new file has the name of an earlier one, but for its end",
        SEXED.model_copy(update={"paths": ["*.vcf", "*.bcf"]}),
    )


def test_what_a_later_file_repeats_is_merged(
    raw: Path, new_lake: NewLake, keyer: PersonKeyer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "riskloom")
    write_vcf, lake = writer(raw), new_lake()
    write_vcf("a.vcf", BATCH_A, records(BATCH_A, SITES[:6], 1))
    first = lake.ingest()
    write_vcf("b.vcf", BATCH_A, [*records(BATCH_A, SITES[4:], 2), *records(BATCH_A, SITES[6:7], 3)])
    second = lake.ingest()
    assert kept(lake, first, second) and not anew(caplog)
    assert second.counts["balances"][keyer.path_digest("b.vcf")]["merged"] == 3
    rebuilt(new_lake, lake, second)


def test_a_record_of_sexes_that_says_the_same_of_those_who_are_there_changes_nothing(
    raw: Path, new_lake: NewLake
) -> None:
    lake = new_lake()
    write_sexes(raw)
    writer(raw)("a.vcf", BATCH_A, records(BATCH_A, SITES, 1))
    first = lake.ingest(SEXED)
    with (raw / "sexes.tsv").open("a") as file:
        file.write("C-1\tm\n")
    second = lake.ingest(SEXED)
    assert (second.tables, second.counts) == (first.tables, first.counts)


def test_nobody_is_in_an_earlier_batch_and_a_new_one(raw: Path, new_lake: NewLake, keyer: PersonKeyer) -> None:
    write_vcf, lake = writer(raw), new_lake()
    write_vcf("a.vcf", BATCH_A, records(BATCH_A, SITES, 1))
    lake.ingest()
    people = [*BATCH_B, *BATCH_A[:2]]
    write_vcf("b.vcf", people, records(people, SITES, 1))
    told = f"file {keyer.path_digest('b.vcf')}: 2 of its people are also in files ingested earlier"
    with pytest.raises(DataGateError, match=told):
        lake.ingest()


def merged_by_bcftools(raw: Path, *arguments: str) -> pd.DataFrame:
    """What `bcftools merge` makes of all VCFs: counts of each variant."""
    packed = [str(path.with_suffix(".gz")) for path in sorted(raw.glob("*.vcf"))]
    for path in packed:
        filters = "".join(f'\n##FILTER=<ID={name},Description="reason">' for name in ("q10", "s50"))
        text = Path(path).with_suffix(".vcf").read_text().replace("\n", f"{filters}\n", 1)
        subprocess.run(["bcftools", "view", "-Oz", "-o", path], input=text.encode(), check=True)
        subprocess.run(["bcftools", "index", path], check=True)
    form = "%CHROM:%POS:%REF:%ALT[\t%GT]\n"
    merged = subprocess.run(
        ["bcftools", "merge", "-m", "none", *arguments, *packed, "-Ou"], check=True, capture_output=True
    )
    told = subprocess.run(["bcftools", "query", "-f", form], input=merged.stdout, check=True, capture_output=True)
    rows = {}
    for line in told.stdout.decode().splitlines():
        key, *calls = line.split("\t")
        counted = dict.fromkeys(("n_hom_ref", "n_het", "n_hom_alt", "n_missing"), 0)
        for call in calls:
            counted["n_missing" if "." in call else ("n_hom_ref", "n_het", "n_hom_alt")[call.count("1")]] += 1
        rows[f"GRCh38:{key}"] = counted
    return pd.DataFrame.from_dict(rows, orient="index").sort_index()


ONE_ALT = [site for site in SITES if "," not in site[3] and site[0] in "12"]


@pytest.mark.parametrize("joint", [False, True])
def test_a_site_that_a_batch_lacks_is_missing_unless_all_were_called_together(
    raw: Path, new_lake: NewLake, joint: bool
) -> None:
    """`bcftools merge --missing-to-ref` is the oracle. It fills in other contigs too, so both batches have all."""
    write_vcf, lake = writer(raw), new_lake()
    genomics = PLAIN.model_copy(update={"jointly_called": ["*.vcf"] if joint else []})
    write_vcf("a.vcf", BATCH_A, records(BATCH_A, ONE_ALT[1:], 1))
    first = lake.ingest(genomics)
    write_vcf("b.vcf", BATCH_B, records(BATCH_B, [*ONE_ALT[:2], *ONE_ALT[4:]], 2))
    second = lake.ingest(genomics)
    assert kept(lake, first, second)
    tables = rebuilt(new_lake, lake, second, genomics)
    expected = merged_by_bcftools(raw, *(["--missing-to-ref"] if joint else []))
    pd.testing.assert_frame_equal(
        tables["variants"].set_index("variant_key")[list(expected)].sort_index(), expected, check_names=False
    )
    blocks = sorted(
        (b["variants"], b["absent"], b["absent_is_reference"]) for b in second.counts["blocks"].values()
    )
    sites = len(ONE_ALT)
    assert blocks == ([(sites, 1, 1), (sites, 2, 2)] if joint else [(sites - 2, 2, 0), (sites - 1, 1, 0)])


def test_a_chromosome_whose_file_has_not_come_is_missing_even_where_all_were_called_together(
    raw: Path, new_lake: NewLake
) -> None:
    write_vcf, lake = writer(raw), new_lake()
    joint = PLAIN.model_copy(update={"jointly_called": ["*.vcf"]})
    write_vcf("a.vcf", BATCH_A, records(BATCH_A, SITES, 1))
    write_vcf("b1.vcf", BATCH_B, records(BATCH_B, SITES[:1], 2))
    first = lake.ingest(joint)
    variants = rebuilt(new_lake, lake, first, joint)["variants"].set_index("variant_key")
    assert variants.loc["GRCh38:1:200:A:G", "n_missing"] <= len(BATCH_A)
    assert variants.loc["GRCh38:2:100:G:A", "n_missing"] >= len(BATCH_B)
    write_vcf("b2.vcf", BATCH_B, records(BATCH_B, SITES[4:5], 3))
    second = lake.ingest(joint)
    assert kept(lake, first, second)
    tables = rebuilt(new_lake, lake, second, joint)
    filled = tables["genotypes"].set_index("variant_key").loc["GRCh38:2:250:C:T"].set_index("n_hom_ref")
    assert unpack(filled.loc[len(BATCH_B), "calls"], len(BATCH_B)).tolist() == [0] * len(BATCH_B)
    # Called where it had been filled in: the call counts, so the rows are made anew.
    write_vcf("b3.vcf", BATCH_B, records(BATCH_B, SITES[5:6], 4))
    rebuilt(new_lake, lake, lake.ingest(joint), joint)


def test_what_is_new_alone_may_fill_in_what_is_not(raw: Path, new_lake: NewLake) -> None:
    """A site that no earlier file has, on a contig of which another batch has one: the new one is REF there."""
    write_vcf, lake = writer(raw), new_lake()
    joint = PLAIN.model_copy(update={"jointly_called": ["*.vcf"]})
    write_vcf("a.vcf", BATCH_A, records(BATCH_A, SITES[:5], 1))
    write_vcf("b1.vcf", BATCH_B, records(BATCH_B, SITES[:1], 2))
    first = lake.ingest(joint)
    write_vcf("b2.vcf", BATCH_B, records(BATCH_B, SITES[5:6], 3))
    second = lake.ingest(joint)
    assert kept(lake, first, second)
    rebuilt(new_lake, lake, second, joint)


def test_a_refused_line_is_not_taken_for_reference(raw: Path, new_lake: NewLake, keyer: PersonKeyer) -> None:
    write_vcf = writer(raw)
    write_vcf("a.vcf", BATCH_A[:1], ["1 100 . A C . . . GT 0/1", "1 200 . A C . . . GT 0/1"])
    write_vcf("b.vcf", BATCH_B[:1], ["1 100 . A C,<DEL> . . . GT 0/1", "1 200 . A C . . . GT ./1"])
    told = (
        f"file {keyer.path_digest('b.vcf')}: 1 of its lines were refused \\(half_call 1\\), and genomics.jointly_c"
    )
    with pytest.raises(DataGateError, match=told):
        new_lake().ingest(PLAIN.model_copy(update={"jointly_called": ["*"]}))
    new_lake().ingest(PLAIN.model_copy(update={"jointly_called": ["a.vcf"]}))


def test_a_batch_is_called_jointly_as_a_whole(raw: Path, new_lake: NewLake, keyer: PersonKeyer) -> None:
    write_vcf = writer(raw)
    write_vcf("a1.vcf", BATCH_A, records(BATCH_A, SITES[:4], 1))
    write_vcf("a2.vcf", BATCH_A, records(BATCH_A, SITES[4:], 1))
    with pytest.raises(ConfigError, match=f"it does not name file {keyer.path_digest('a2.vcf')}"):
        new_lake().ingest(PLAIN.model_copy(update={"jointly_called": ["a1*"]}))
    with pytest.raises(ConfigError, match=r"no file of genomics.paths matches c\*"):
        new_lake().ingest(PLAIN.model_copy(update={"jointly_called": ["a*", "c*"]}))


def test_who_is_not_called_at_a_place_is_not_taken_for_reference_there(raw: Path, new_lake: NewLake) -> None:
    write_vcf, lake = writer(raw), new_lake()
    write_vcf("a.vcf", BATCH_A[:1], ["1 200 . A G,T . . . GT 1/2", "1 300 . A G,T . . . GT 1/2"])
    people = BATCH_B[:2]
    write_vcf("b.vcf", people, ["1 200 . A G . . . GT 0/1 ./.", "1 300 . A G . . . GT 0/1 0/0"])
    joint = PLAIN.model_copy(update={"jointly_called": ["*"]})
    variants = lake.tables(lake.ingest(joint))["variants"].set_index("variant_key")
    assert variants.loc["GRCh38:1:200:A:T", ["n_hom_ref", "n_missing"]].tolist() == [0, 2]
    assert variants.loc["GRCh38:1:300:A:T", ["n_hom_ref", "n_missing"]].tolist() == [2, 0]


def test_who_is_not_called_in_a_deletion_is_not_taken_for_reference_of_its_bases(
    raw: Path, new_lake: NewLake
) -> None:
    """Of a site's ALTs one may lie further right, when it is as short as it can be."""
    write_vcf, lake = writer(raw), new_lake()
    write_vcf("a.vcf", BATCH_A[:1], ["1 300 . CAA C,CAG . . . GT 1/2", "1 400 . C T . . . GT 0/1"])
    people = BATCH_B[:2]
    write_vcf("b.vcf", people, ["1 300 . CAA C . . . GT 0/1 ./.", "1 401 . A T . . . GT 0/1 ./."])
    joint = PLAIN.model_copy(update={"jointly_called": ["*"]})
    variants = lake.tables(lake.ingest(joint))["variants"].set_index("variant_key")
    assert variants.loc["GRCh38:1:302:A:G", ["n_hom_ref", "n_missing"]].tolist() == [0, 2]
    assert variants.loc["GRCh38:1:400:C:T", ["n_hom_ref", "n_missing"]].tolist() == [2, 0]


@pytest.mark.parametrize(
    ("alt", "calls", "refused"), [("*", "0/1 ./.", 1), ("*", "0/1 0/0", 0), ("*,T", "1/2 ./.", 0)]
)
def test_a_line_of_symbolic_alts_tells_who_is_not_called_there(
    raw: Path, new_lake: NewLake, alt: str, calls: str, refused: int
) -> None:
    write_vcf = writer(raw)
    write_vcf("a.vcf", BATCH_A[:1], ["1 100 . A G . . . GT 0/1"])
    write_vcf("b.vcf", BATCH_B[:2], [f"1 100 . A {alt} . . . GT {calls}", "1 500 . A G . . . GT 0/1 0/0"])
    joint = PLAIN.model_copy(update={"jointly_called": ["*"]})
    if refused:
        with pytest.raises(DataGateError, match=r"symbolic_uncalled 1\), and genomics.jointly_called would make"):
            new_lake().ingest(joint)
    else:
        lake = new_lake()
        variants = lake.tables(lake.ingest(joint))["variants"].set_index("variant_key")
        assert variants.loc["GRCh38:1:100:A:G", "n_missing"] == (2 if "./." in calls else 0)


def test_dosages_of_earlier_files_count(raw: Path, new_lake: NewLake) -> None:
    write_vcf, lake = writer(raw), new_lake()
    dosed = PLAIN.model_copy(update={"dosages": "DS"})
    for name, people, at in (("a.vcf", BATCH_A, 100), ("b.vcf", BATCH_B, 101), ("c.vcf", BATCH_A, 102)):
        calls = [f"0/1:{(number + at % 7) % 5 / 4}" for number in range(len(people))]
        lines = [
            f"1 {place} . A C . . . GT:DS {' '.join(calls)}" for place in (100 if at < 102 else 300, at + 100)
        ]
        write_vcf(name, people, lines)
        written = lake.ingest(dosed)
    tables = rebuilt(new_lake, lake, written, dosed)
    assert tables["variants"]["mach_r2"].notna().sum() > 2
    assert len({run.counts["samples"] for run in lake.rows}) == 2


@pytest.mark.parametrize(
    ("spans", "apart"),
    [
        ({"2": [1, 99]}, True),
        ({"1": [1, 9]}, True),
        ({"1": [21, 30]}, True),
        ({"1": [1, 10]}, False),
        ({"1": [20, 30]}, False),
        ({"1": [12, 13]}, False),
        ({"2": [1, 99], "1": [1, 30]}, False),
        ({}, True),
    ],
)
def test_variants_of_other_positions_than_earlier_ones_are_apart(
    spans: Spans, apart: bool, spark: SparkSession
) -> None:
    none = spark.range(0)
    earlier = Earlier(none, none, none, {}, {"spans": {"1": [10, 20], "X": [1, 1]}})
    assert earlier.is_apart(spans) == apart
    both = widened(earlier.spans, spans)
    assert both.keys() == earlier.spans.keys() | spans.keys()
    assert all(
        both[on] == [min(own[0] for own in told), max(own[1] for own in told)]
        for on, told in {on: [own[on] for own in (earlier.spans, spans) if on in own] for on in both}.items()
    )


@pytest.mark.parametrize(
    ("earlier", "later", "related"),
    [
        ("c.bgen", "c.sample", True),
        ("c.bin", "c.bin.sample", True),
        ("nodot", "nodot.sample", True),
        ("batch.1/one", "batch.1/other", False),
        ("one", "other", False),
        ("chr1.vcf.gz", "chr2.vcf.gz", False),
    ],
)
def test_a_file_that_comes_later_to_a_fileset_makes_it_another(
    keyer: PersonKeyer, earlier: str, later: str, related: bool
) -> None:
    files = [FileStat(path, 1, 1) for path in (earlier, later)]
    counts = {"basis": "b", "files": file_stats(files[:1], keyer)}
    assert (outdated(counts, "b", files, keyer) is not None) == related
