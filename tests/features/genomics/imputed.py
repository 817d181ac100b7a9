"""Imputed genomes in sight of the tests that read them: men have one copy of X, some values are missing."""

from pathlib import Path

import numpy as np

NAMES = [f"A-{i}" for i in range(45)]
SEXES = np.array(["1", "2"]).repeat([20, 25])
PLACES = [
    *(("1", 1000 + i) for i in range(60)),
    *(("X", 200_000 + i) for i in range(10)),
    *(("X", 5_000_000 + i) for i in range(40)),
    *(("Y", 6_000_000 + i) for i in range(10)),
    *(("MT", 300 + i) for i in range(10)),
]
HEADER = """##fileformat=VCFv4.3
##contig=<ID=1>
##contig=<ID=X>
##contig=<ID=Y>
##contig=<ID=MT>
##FORMAT=<ID=GT,Number=1,Type=String,Description="genotype">
"""
KEYS = {
    "DS": '##FORMAT=<ID=DS,Number=A,Type=Float,Description="dosage">\n',
    "GP": '##FORMAT=<ID=GP,Number=G,Type=Float,Description="probabilities">\n',
}


def one_copy(chrom: str, at: int, sex: str) -> bool:
    return chrom in ("Y", "MT") or (chrom == "X" and at > 2_699_520 and sex == "1")


def records(key: str, seed: int = 3) -> list[str]:
    """Records of GT and DS, or GT and GP, at PLACES; of a few samples one of both is missing, or the other."""
    rng = np.random.default_rng(seed)
    return [
        f"{chrom} {at} {chrom}_{at} A C . PASS . GT:{key} {' '.join(_columns(rng, key, chrom, at))}"
        for chrom, at in PLACES
    ]


def _columns(rng: np.random.Generator, key: str, chrom: str, at: int) -> list[str]:
    frequency, sure = rng.uniform(0.05, 0.6), rng.choice([0.05, 0.5, 3])
    found = []
    for sex in SEXES:
        one, lost = one_copy(chrom, at, sex), rng.uniform()
        copies = rng.beta(frequency * sure, (1 - frequency) * sure, 1 if one else 2)
        gt = "|".join(str(int(copy > 0.5)) for copy in copies)
        if key == "DS":
            value = f"{copies.sum():.3f}"
        elif one:
            value = f"{1 - copies[0]:.4f},{copies[0]:.4f}"
        else:
            none, both = (1 - copies).prod(), copies.prod()
            value = f"{none:.4f},{1 - none - both:.4f},{both:.4f}"
        if chrom == "Y" and sex == "2":
            lost = 0
        found.append(
            ("." if one else "./.")
            if lost < 0.04
            else f"{gt}:."
            if lost < 0.06
            else gt
            if lost < 0.08
            else f"{gt}:{value}"
        )
    return found


def write(folder: Path, key: str) -> Path:
    """A VCF of `records`, and sexes.psam beside it."""
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT", *NAMES]
    lines = ["\t".join(columns), *(record.replace(" ", "\t") for record in records(key))]
    path = folder / f"{key}.vcf"
    path.write_text(HEADER + KEYS[key] + "\n".join(lines) + "\n")
    write_sexes(folder)
    return path


def write_sexes(folder: Path) -> None:
    rows = [f"{name}\t{sex}\n" for name, sex in zip(NAMES, SEXES, strict=True)]
    (folder / "sexes.psam").write_text("#IID\tSEX\n" + "".join(rows))


def dosage(column: str, key: str, one: bool) -> float:
    """The dosage of a column of `records` as a second formula has it, NaN where nothing is known."""
    gt, _, value = column.partition(":")
    if value in ("", "."):
        return float("nan") if "." in gt else sum(map(int, gt.split("|"))) * (2 if one else 1)
    numbers = [float(number) for number in value.split(",")]
    if key == "DS":
        return numbers[0] * (2 if one else 1)
    alts = [0, 2] if one else [0, 1, 2]
    return sum(p * n for p, n in zip(numbers, alts, strict=True)) / sum(numbers)
