"""A hundred polygenic scores beside one, and both beside plink2: scoring files of the same variants with other
weights, for the 1000 Genomes' 2,504 people as `genomes` writes them.

Each side is a command of its own, one after the other in each round. What a Spark session takes to start is
measured in the same round, and not counted.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd

from tests.benchmarks.calls import session, stage, write_vcf
from tests.benchmarks.claims import Row
from tests.benchmarks.measure import Measured, measure

HOME = Path("build/bench/scores")
VARIANTS = 100_000
SCORES = 100
ROUNDS = 3
COPIES = 5
"""Of the stored variants: what passes of them are as many as VARIANTS, or more."""


def run() -> list[Row]:
    """The ratio, and what was not limited: beside plink2, and in memory."""
    if shutil.which("plink2") is None:
        raise SystemExit("plink2 is missing: apt-get install plink2")
    shutil.rmtree(HOME, ignore_errors=True)
    vcf = HOME / "raw/genomes.vcf.gz"
    write_vcf(vcf, COPIES)
    plink = ["plink2", "--silent", "--threads", "2", "--out", str(HOME / "plink")]
    measure([*plink, "--vcf", str(vcf), "--var-filter", "--make-pgen"])
    _write_scores()
    _stage("ingest_genomics", "*")
    rounds = [_round(plink) for _ in range(ROUNDS)]
    version = subprocess.run(["plink2", "--version"], capture_output=True, text=True, check=True).stdout
    name = version.split("(")[0].strip()
    ratios = [found["all"] / found["one"] for found in rounds]
    one, every, start = (median(found[key] for found in rounds) for key in ("one", "all", "start"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {every:.1f} s beside {one:.1f} s)"
    many = f"{SCORES} scores of {VARIANTS:,} variants"
    return [
        Row("a Spark session's start, not counted below", "shown", f"{start:.1f} s", True),
        Row(f"{many} beside one", "at most 2 times its time", figure, median(ratios) <= 2),
        _beside(f"one score beside {name} --score", rounds, "one"),
        _beside(f"{many} beside {name} --score", rounds, "all"),
        Row(f"memory of {many}", "shown", _memory(rounds, "all"), True),
        Row("memory of one", "shown", _memory(rounds, "one"), True),
    ]


def _write_scores() -> None:
    """The files of the catalogue's columns, and for plink2 all of their weights side by side."""
    with (HOME / "plink.pvar").open() as stored:
        rows = [line.split("\t")[:5] for line in stored if not line.startswith("#")]
    sites = pd.DataFrame(rows[:VARIANTS], columns=["CHROM", "POS", "ID", "REF", "ALT"])
    if len(sites) < VARIANTS:
        raise SystemExit(f"the VCF has {len(sites):,} variants that pass, fewer than {VARIANTS:,}")
    of_alt = np.arange(VARIANTS) % 2 == 0
    effect, other = np.where(of_alt, sites["ALT"], sites["REF"]), np.where(of_alt, sites["REF"], sites["ALT"])
    weights = np.random.default_rng(1).normal(0, 0.01, (VARIANTS, SCORES)).round(6)
    names = [f"score{number:03}" for number in range(SCORES)]
    beside = pd.DataFrame({"ID": sites["ID"], "A1": effect}).join(pd.DataFrame(weights, columns=names))
    beside.to_csv(HOME / "weights.tsv", sep="\t", index=False)
    lines = pd.DataFrame(
        {
            "rsID": sites["ID"],
            "chr_name": sites["CHROM"],
            "chr_position": sites["POS"],
            "effect_allele": effect,
            "other_allele": other,
        }
    )
    for name, weight in zip(names, weights.T, strict=True):
        with (HOME / f"raw/{name}.txt").open("w") as out:
            out.write("#genome_build=GRCh37\n")
            lines.assign(effect_weight=weight).to_csv(out, sep="\t", index=False)


def _stage(name: str, files: str) -> Measured:
    settings = {
        "genomics.paths": json.dumps(["genomes.vcf.gz"]),
        "genomics.scores": json.dumps({"paths": [f"{files}.txt"], "keep_ambiguous": True}),
        "genomics.relatives": "null",
        "genomics.ancestry": "null",
        "genomics.quality": "null",
    }
    return measure(stage(name, HOME, settings))


def _round(plink: list[str]) -> dict[str, float]:
    """Seconds of each command, one after the other, and the gigabytes of ours."""
    found = {"start": measure(session({})).seconds}
    scored = [
        *plink,
        "--pfile",
        str(HOME / "plink"),
        "--score",
        str(HOME / "weights.tsv"),
        "1",
        "2",
        "header-read",
    ]
    for side, weights, files in (("one", "3", "score000"), ("all", f"3-{SCORES + 2}", "*")):
        found[f"plink2 {side}"] = measure([*scored, "--score-col-nums", weights]).seconds
        ours = _stage("score_genomes", files)
        found |= {side: ours.seconds - found["start"], f"memory {side}": ours.peaks.tree_bytes / 1e9}
    sys.stderr.write(json.dumps({name: round(value, 1) for name, value in found.items()}) + "\n")
    return found


def _beside(what: str, rounds: list[dict[str, float]], side: str) -> Row:
    ratios = [found[side] / found[f"plink2 {side}"] for found in rounds]
    ours, theirs = (median(found[key] for found in rounds) for key in (side, f"plink2 {side}"))
    figure = f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}; {ours:.1f} s beside {theirs:.1f} s)"
    return Row(what, "shown", figure, True)


def _memory(rounds: list[dict[str, float]], side: str) -> str:
    return f"{max(found[f'memory {side}'] for found in rounds):.1f} GB at most, with Java's"
