import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from features.contract.config import load_settings
from features.genomics.hwe import hwe_p
from features.simulation.bgzip import bgzip
from features.simulation.genomes import Contig, draw_genomes, missing_calls, panel_dosages
from features.simulation.vcf import vcf_header, vcf_lines

ANCESTRY = np.random.default_rng(0).integers(0, 3, 600)


@pytest.fixture(scope="module")
def contig() -> Contig:
    return draw_genomes(ANCESTRY, np.random.default_rng(1))[0]


def squared_correlation(contig: Contig, distance: int, ancestry: int = 0) -> float:
    """Mean r2 between common variants of one population, so many sites apart."""
    dosages = (contig.alleles[:, ancestry == ANCESTRY] > 0).sum(axis=0)
    common = dosages[:, np.abs(dosages.mean(axis=0) - 1) < 0.8]
    r = np.corrcoef(common.T)
    return float((np.diagonal(r, distance) ** 2).mean())


def test_neighbours_are_in_linkage_and_far_variants_are_not(contig: Contig) -> None:
    assert squared_correlation(contig, 1) > 0.2
    assert squared_correlation(contig, 100) < 0.03


def test_populations_differ_in_frequency(contig: Contig) -> None:
    frequency = np.stack([contig.alleles[:, population == ANCESTRY].mean(axis=(0, 1)) for population in range(3)])
    assert 0.02 < float(frequency.var(axis=0).mean()) * 2 / float((frequency * (1 - frequency)).mean()) < 0.4


def test_a_few_sites_are_multi_allelic_and_a_few_did_not_pass(contig: Contig) -> None:
    assert 0 < sum("," in alternative for alternative in contig.alternatives) < 20
    assert 0 < sum(text != "PASS" for text in contig.filters) < 40
    named = np.array([alternative.count(",") + 1 for alternative in contig.alternatives])
    assert (contig.alleles.max(axis=(0, 1)) <= named).all()


@pytest.mark.skipif(shutil.which("bcftools") is None, reason="bcftools is not installed")
def test_bcftools_reads_the_genotypes_we_drew(contig: Contig, tmp_path: Path) -> None:
    missing = missing_calls(contig.alleles.shape[1:], np.random.default_rng(2))
    samples = [f"S{n}" for n in range(len(ANCESTRY))]
    file = tmp_path / "chr21.vcf.gz"
    file.write_bytes(bgzip(vcf_header(samples) + b"\n".join(vcf_lines(contig, missing)) + b"\n"))
    query = ["bcftools", "query", "-f", r"%POS[\t%GT]\n", file]
    rows = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [int(row.split("\t")[0]) for row in rows] == contig.positions.tolist()
    first, second = np.sort(contig.alleles[:, :, 5], axis=0)
    drawn = [f"{a}/{b}" for a, b in zip(first, second, strict=True)]
    expected = ["./." if gone else call for gone, call in zip(missing[:, 5], drawn, strict=True)]
    assert rows[5].split("\t")[1:] == expected


def test_the_limits_of_the_demo_leave_the_variants_that_it_uses() -> None:
    """In 4,000 people a test of HWE sees three populations in one, which in the few of other tests it does not."""
    settings = load_settings("conf/demo.yaml")
    assert settings.genomics and settings.genomics.quality and settings.genomics.quality.minimum_hwe_mid_p
    ancestry = np.random.default_rng(5).choice(3, 3600, p=[0.61, 0.25, 0.14])
    dosages = panel_dosages(draw_genomes(ancestry, np.random.default_rng(6)))
    counts = np.stack([(dosages == copies).sum(0) for copies in range(3)], axis=1).astype(np.int64)
    _, mid_p = hwe_p(np.hstack([counts, np.zeros_like(counts[:, :2])]))
    assert mid_p.min() < 1e-9  # what a study of one population may ask for
    assert mid_p.min() > 1e5 * settings.genomics.quality.minimum_hwe_mid_p
