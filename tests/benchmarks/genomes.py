"""Genomes beside plink2: a VCF to the lake's tables with full QC, then from the packed calls QC again, kinship and
principal components.

The calls are those of the 1000 Genomes' 2,504 people, written many times at other places and for other people,
until the VCF is larger than 2 GB; a hundred people lose a tenth of their calls and some lines do not pass, so
that every rule of QC has something to do. Each side is a command of its own, one after the other in each round.
What a Spark session takes to start is measured in the same round, shown by itself, and not counted.
"""

import gzip
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.claims import Row

HOME = Path("build/bench/genomes")
CALLS = Path(__file__).parents[3] / "shared/data/thousand_genomes/kg2504_23770snp.GRCh37.vcf.gz"
BYTES = 2 << 30
ROUNDS = 3
RISKLOOM = str(Path(sys.executable).parent / "riskloom")
LOST = "./.\t" * 100
LIMITS = {"sample_call_rate": 0.95, "variant_call_rate": 0.98, "allele_frequency": 0.01, "hwe_mid_p": 1e-6}
START = """
from features.contract.settings import SparkSettings
from features.lake import spark_session
spark_session(SparkSettings(), "start").range(1).count()
"""


def run() -> list[Row]:
    """The ratios, what the tables weigh beside the VCF, and what was not counted."""
    if shutil.which("plink2") is None or shutil.which("bgzip") is None:
        raise SystemExit("plink2 and bgzip are missing: apt-get install plink2 tabix")
    shutil.rmtree(HOME, ignore_errors=True)
    vcf, more = HOME / "raw/genomes.vcf.gz", HOME / "raw/more.vcf.gz"
    size, variants = write_vcf(vcf, BYTES, 0)
    write_vcf(more, BYTES // 10, 100 * (variants + 1))
    rounds = [_round(vcf, more) for _ in range(ROUNDS)]
    name = words("plink2", "--version").split("(")[0].strip()
    what = f"{variants:,} variants of 2,504 people, {size / 1e9:.1f} GB of VCF"
    packed = sum(file.stat().st_size for file in (HOME / "lake/genotypes").rglob("*.parquet"))
    weight = packed / (vcf.stat().st_size + more.stat().st_size)
    start = median(found["start"] for found in rounds)
    return [
        Row("a Spark session's start, not counted below", "shown", f"{start:.1f} s", True),
        _row(
            f"{what} to variants, genotypes and samples, beside {name} --freq --hardy midp --missing", rounds, 0, 4
        ),
        _row(f"QC again from the packed calls, beside {name} from its pgen", rounds, 1, 3),
        _row(f"kinship of all pairs from the packed calls, beside {name} --make-king-table", rounds, 2, None),
        _row(
            f"pruning, ten components and everyone placed, beside {name} --indep-pairwise and --pca",
            rounds,
            3,
            None,
        ),
        _more(rounds),
        Row("the genotypes table beside the VCF.gz", "at most 1.2", f"{weight:.2f}", weight <= 1.2),
    ]


def write_vcf(vcf: Path, least: int, after: int) -> tuple[int, int]:
    """The VCF of so many bytes or more, by bgzip, at places after this one; its size before, and its number of
    variants."""
    with gzip.open(CALLS, "rt") as stored:
        lines = stored.read().splitlines()
    header = [line for line in lines if line.startswith("#")]
    records = [line.split("\t", 9) for line in lines if not line.startswith("#")]
    copies = -(-least // sum(map(len, lines)))
    vcf.parent.mkdir(parents=True, exist_ok=True)
    size = 0
    with vcf.open("wb") as out:
        bgzip = subprocess.Popen(["bgzip", "--threads", "2"], stdin=subprocess.PIPE, stdout=out)
        assert bgzip.stdin
        bgzip.stdin.write("".join(f"{line}\n" for line in header).encode())
        for number, (chrom, _, _, *rest, stored_calls) in enumerate(records):
            rest[3] = "q10" if number % 50 == 0 else "PASS"
            calls = LOST + stored_calls[len(LOST) :] if number % 10 == 0 else stored_calls
            for copy in range(copies):
                # A call is three letters and a tab: the first `copy` people come last.
                turned = f"{calls[4 * copy :]}\t{calls[: 4 * copy]}".strip("\t")
                place = after + 100 * (number * copies + copy + 1)
                line = "\t".join([chrom, str(place), f"v{place}", *rest, turned]) + "\n"
                size += bgzip.stdin.write(line.encode())
        bgzip.stdin.close()
        if bgzip.wait():
            raise SystemExit("bgzip failed")
    return size, len(records) * copies


def _round(vcf: Path, more: Path) -> dict[str, float]:
    """Seconds of each command, one after the other."""
    shutil.rmtree(HOME / "lake", ignore_errors=True)
    own = ["--config", "conf/demo.yaml", "--raw", str(HOME / "raw"), "--lake", str(HOME / "lake")]
    settings = {
        "genomics.paths": json.dumps([vcf.name]),
        "genomics.build": "GRCh37",
        "genomics.scores": "null",
        "genomics.relatives": "{most_variants: 1000000}",
        "genomics.ancestry": "{components: 10}",
        "genomics.quality": json.dumps({f"minimum_{name}": limit for name, limit in LIMITS.items()}),
        "identity.pattern": "'^(.+)$'",
    }
    for key, value in settings.items():
        own += ["--set", f"{key}={value}"]
    plink, reports = (
        ["plink2", "--threads", "2", "--out", str(HOME / "plink")],
        ["--freq", "--hardy", "midp", "--missing"],
    )
    limits = ["--var-filter", "--mind", f"{1 - LIMITS['sample_call_rate']:g}"]
    limits += ["--geno", f"{1 - LIMITS['variant_call_rate']:g}", "--maf", f"{LIMITS['allele_frequency']:g}"]
    limits += ["--hwe", f"{LIMITS['hwe_mid_p']:g}", "midp"]
    found = {"start": seconds([sys.executable, "-c", START])}
    found["plink2 0"] = seconds([*plink, "--vcf", str(vcf), *reports])
    found["ours 0"] = seconds([RISKLOOM, "ingest_genomics", *own]) - found["start"]
    seconds([*plink, "--vcf", str(vcf), "--make-pgen"])
    found["plink2 1"] = seconds([*plink, "--pfile", str(HOME / "plink"), *limits, *reports])
    found["ours 1"] = seconds([RISKLOOM, "qc_genomes", *own]) - found["start"]
    king = ["--make-king-table", "--king-table-filter", "0.0884"]
    found["plink2 2"] = seconds([*plink, "--pfile", str(HOME / "plink"), *limits, *king])
    found["ours 2"] = seconds([RISKLOOM, "relate_genomes", *own]) - found["start"]
    common = [*limits, "--autosome", "--indep-pairwise", "500kb", "0.2"]
    common[common.index("--maf") + 1] = "0.05"
    axes = ["--extract", str(HOME / "plink.prune.in"), "--pca", "10"]
    found["plink2 3"] = seconds([*plink, "--pfile", str(HOME / "plink"), *common])
    found["plink2 3"] += seconds([*plink, "--pfile", str(HOME / "plink"), *axes])
    found["ours 3"] = seconds([RISKLOOM, "infer_ancestry", *own]) - found["start"]
    both = ["--set", f"genomics.paths={json.dumps([vcf.name, more.name])}"]
    found["more"] = seconds([RISKLOOM, "ingest_genomics", *own, *both]) - found["start"]
    sys.stderr.write(json.dumps({name: round(seconds, 1) for name, seconds in found.items()}) + "\n")
    return found


def _row(what: str, rounds: list[dict[str, float]], number: int, limit: float | None) -> Row:
    ratios = [found[f"ours {number}"] / found[f"plink2 {number}"] for found in rounds]
    ours, theirs = (median(found[f"{side} {number}"] for found in rounds) for side in ("ours", "plink2"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {ours:.1f} s beside {theirs:.1f} s)"
    if limit is None:
        return Row(what, "shown", figure, True)
    return Row(what, f"at most {limit:g} times its time", figure, median(ratios) <= limit)


def _more(rounds: list[dict[str, float]]) -> Row:
    ratios = [found["more"] / found["ours 0"] for found in rounds]
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    what = "a tenth as many variants more of the same people, read alone, beside the first ingest"
    return Row(what, "at most 0.5", figure, median(ratios) <= 0.5)


def seconds(command: list[str]) -> float:
    started = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return time.monotonic() - started


def words(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
