"""Genomes beside plink2 and Hail: a VCF of more than 2 GB to the lake's tables with full QC; then from the packed
calls QC again, kinship and principal components, beside plink2.

Each side is a command of its own, one after the other in each round. What a Spark session takes to start and
to end is measured in the same round, shown by itself, and not counted; nor is what Hail's takes.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.benchmarks.calls import PEOPLE, session, stage, write_vcf
from tests.benchmarks.claims import Row

HOME = Path("build/bench/genomes")
HAIL = Path("build/peers/hail/bin/python")
COPIES = 9
ROUNDS = 3
LIMITS = {"sample_call_rate": 0.95, "variant_call_rate": 0.98, "allele_frequency": 0.01, "hwe_mid_p": 1e-6}


def run() -> list[Row]:
    """The ratios, what the tables weigh beside the VCF, and what was not counted."""
    if shutil.which("plink2") is None:
        raise SystemExit("plink2 is missing: apt-get install plink2")
    if not HAIL.exists():
        raise SystemExit(f"{HAIL} is missing: run `make peers`")
    shutil.rmtree(HOME, ignore_errors=True)
    vcf, more = HOME / "raw/genomes.vcf.gz", HOME / "raw/more.vcf.gz"
    size, variants = write_vcf(vcf, COPIES)
    write_vcf(more, 1, after=100 * (variants + 1))
    rounds = [_round(vcf, more) for _ in range(ROUNDS)]
    name = _words("plink2", "--version").split("(")[0].strip()
    what = f"{variants:,} variants of {PEOPLE:,} people, {size / 1e9:.1f} GB of VCF"
    packed = sum(file.stat().st_size for file in (HOME / "lake/genotypes").rglob("*.parquet"))
    weight = packed / (vcf.stat().st_size + more.stat().st_size)
    start = median(found["start"] for found in rounds)
    return [
        Row("a Spark session's start, not counted below", "shown", f"{start:.1f} s", True),
        _row(
            f"{what} to variants, genotypes and samples, beside {name} --freq --hardy midp --missing", rounds, 0, 4
        ),
        _hail(rounds),
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


def _round(vcf: Path, more: Path) -> dict[str, float]:
    """Seconds of each command, one after the other."""
    shutil.rmtree(HOME / "lake", ignore_errors=True)
    settings = {
        "genomics.paths": json.dumps([vcf.name]),
        "genomics.relatives": "{most_variants: 1000000}",
        "genomics.ancestry": "{components: 10}",
        "genomics.quality": json.dumps({f"minimum_{name}": limit for name, limit in LIMITS.items()}),
    }
    plink, reports = (
        ["plink2", "--threads", "2", "--out", str(HOME / "plink")],
        ["--freq", "--hardy", "midp", "--missing"],
    )
    limits = ["--var-filter", "--mind", f"{1 - LIMITS['sample_call_rate']:g}"]
    limits += ["--geno", f"{1 - LIMITS['variant_call_rate']:g}", "--maf", f"{LIMITS['allele_frequency']:g}"]
    limits += ["--hwe", f"{LIMITS['hwe_mid_p']:g}", "midp"]
    found = {"start": _seconds(session({}))}
    found["plink2 0"] = _seconds([*plink, "--vcf", str(vcf), *reports])
    found["ours 0"] = _seconds(stage("ingest_genomics", HOME, settings)) - found["start"]
    found["hail"] = _hail_seconds(vcf)
    _seconds([*plink, "--vcf", str(vcf), "--make-pgen"])
    found["plink2 1"] = _seconds([*plink, "--pfile", str(HOME / "plink"), *limits, *reports])
    found["ours 1"] = _seconds(stage("qc_genomes", HOME, settings)) - found["start"]
    king = ["--make-king-table", "--king-table-filter", "0.0884"]
    found["plink2 2"] = _seconds([*plink, "--pfile", str(HOME / "plink"), *limits, *king])
    found["ours 2"] = _seconds(stage("relate_genomes", HOME, settings)) - found["start"]
    common = [*limits, "--autosome", "--indep-pairwise", "500kb", "0.2"]
    common[common.index("--maf") + 1] = "0.05"
    axes = ["--extract", str(HOME / "plink.prune.in"), "--pca", "10"]
    found["plink2 3"] = _seconds([*plink, "--pfile", str(HOME / "plink"), *common])
    found["plink2 3"] += _seconds([*plink, "--pfile", str(HOME / "plink"), *axes])
    found["ours 3"] = _seconds(stage("infer_ancestry", HOME, settings)) - found["start"]
    both = settings | {"genomics.paths": json.dumps([vcf.name, more.name])}
    found["more"] = _seconds(stage("ingest_genomics", HOME, both)) - found["start"]
    sys.stderr.write(json.dumps({name: round(seconds, 1) for name, seconds in found.items()}) + "\n")
    return found


def _row(what: str, rounds: list[dict[str, float]], number: int, limit: float | None) -> Row:
    ratios = [found[f"ours {number}"] / found[f"plink2 {number}"] for found in rounds]
    ours, theirs = (median(found[f"{side} {number}"] for found in rounds) for side in ("ours", "plink2"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {ours:.1f} s beside {theirs:.1f} s)"
    if limit is None:
        return Row(what, "shown", figure, True)
    return Row(what, f"at most {limit:g} times its time", figure, median(ratios) <= limit)


def _hail(rounds: list[dict[str, float]]) -> Row:
    ratios = [found["hail"] / found["ours 0"] for found in rounds]
    ours, theirs = (median(found[side] for found in rounds) for side in ("ours 0", "hail"))
    version = _words(str(HAIL), "-c", "from importlib.metadata import version; print(version('hail'))").strip()
    figure = f"{median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}; {theirs:.1f} s beside {ours:.1f} s)"
    what = f"Hail {version} beside it: the same VCF by import_vcf, variant_qc and sample_qc to tables"
    return Row(what, "at least 5 times our time", figure, median(ratios) >= 5)


def _more(rounds: list[dict[str, float]]) -> Row:
    ratios = [found["more"] / found["ours 0"] for found in rounds]
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    what = "a tenth as many variants more of the same people, read alone, beside the first ingest"
    return Row(what, "at most 0.5", figure, median(ratios) <= 0.5)


def _hail_seconds(vcf: Path) -> float:
    """What it says itself, below the log of its start."""
    said = _words(str(HAIL), "-m", "tests.benchmarks.peer_hail", str(vcf), str(HOME / "hail"))
    return float(said.splitlines()[-1])


def _seconds(command: list[str]) -> float:
    started = time.monotonic()
    _words(*command)
    return time.monotonic() - started


def _words(*command: str) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {ended.returncode}: {ended.stderr[-2000:]}")
    return ended.stdout
