"""Genotypes with structure and linkage: every haplotype is a mosaic of ancestral haplotypes.

The copying model of Li and Stephens (Genetics 2003, 165:2213): along a chromosome a person copies one
ancestral haplotype of the own population, and at times switches to another. Nearby variants are
copied together (linkage), populations have their own panels (structure).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.simulation.people import ANCESTRIES, Flags, Floats, Ints

Alleles = NDArray[np.uint8]

CONTIGS = {"chr21": (14_000_000, 46_000_000), "chr22": (17_000_000, 50_000_000)}
CONTIG_LENGTHS = {"chr21": 46_709_983, "chr22": 50_818_468}
SITES = 600
FIRST_RSID = 9_000_001
PANEL_SITES = tuple(range(25, len(CONTIGS) * SITES, 50))

PANEL_HAPLOTYPES = 60
SEGMENT_BASES = 2_000_000
LINKAGE_BASES = 250_000
DRIFT = 0.06
ADMIXED = 0.1


@dataclass(frozen=True, slots=True)
class Contig:
    """One chromosome: `alleles` is 2 x samples x sites, 0 the reference, 1 and 2 the alternatives."""

    name: str
    positions: Ints
    rsids: tuple[str, ...]
    reference: tuple[str, ...]
    alternatives: tuple[str, ...]
    filters: tuple[str, ...]
    alleles: Alleles


def rsid(site: int) -> str:
    """The name of a site, counted over all contigs: the same under every seed."""
    return f"rs{FIRST_RSID + site}"


def draw_genomes(ancestry: Ints, rng: np.random.Generator) -> list[Contig]:
    """All contigs of the samples whose populations are given, without missing calls."""
    return [_draw_contig(number, ancestry, rng) for number in range(len(CONTIGS))]


def panel_dosages(contigs: list[Contig]) -> NDArray[np.float64]:
    """ALT counts at the published panel's sites, samples x 24."""
    counts = np.concatenate([contig.alleles.sum(axis=0) for contig in contigs], axis=1)
    return counts[:, list(PANEL_SITES)].astype(np.float64)


def missing_calls(shape: tuple[int, int], rng: np.random.Generator, share: float = 0.005) -> Flags:
    """Which calls the sequencer failed to make, samples x sites."""
    return rng.random(shape, dtype=np.float32) < share


def _draw_contig(number: int, ancestry: Ints, rng: np.random.Generator) -> Contig:
    name, (low, high) = list(CONTIGS.items())[number]
    sites = range(number * SITES, (number + 1) * SITES)
    positions = np.sort(low + 10 * rng.choice((high - low) // 10, SITES, replace=False))
    panel = _ancestral_panel(positions, _frequencies(sites, rng), rng)
    alleles = np.stack([_mosaic(panel, positions, ancestry, rng) for _ in range(2)])
    kinds = _site_kinds(sites, rng)
    alleles = _second_alternative(alleles, kinds == "multi", rng)
    reference, alternatives = _bases(kinds, rng)
    filters = tuple("LowQual" if kind == "filtered" else "PASS" for kind in kinds)
    return Contig(name, positions, tuple(map(rsid, sites)), reference, alternatives, filters, alleles)


def _frequencies(sites: range, rng: np.random.Generator) -> Floats:
    """ALT frequencies, populations x sites, drifted apart (Balding and Nichols, Genetica 1995)."""
    common = np.isin(sites, PANEL_SITES)
    ancestral = np.where(common, rng.uniform(0.25, 0.5, len(sites)), rng.beta(0.8, 1.6, len(sites)))
    ancestral = np.clip(ancestral, 0.03, 0.97)
    spread = (1 - DRIFT) / DRIFT
    return rng.beta(ancestral * spread, (1 - ancestral) * spread, (len(ANCESTRIES), len(sites)))


def _ancestral_panel(positions: Ints, frequencies: Floats, rng: np.random.Generator) -> Alleles:
    """Ancestral haplotypes, all populations below each other, x sites.

    A latent number wanders along each haplotype; where its rank is under the frequency, ALT is carried.
    """
    stays = np.exp(-np.diff(positions, prepend=positions[0]) / LINKAGE_BASES)
    shape = (len(ANCESTRIES), PANEL_HAPLOTYPES, len(positions))
    latent = rng.standard_normal(shape)
    for site in range(1, len(positions)):
        fresh = np.sqrt(1 - stays[site] ** 2)
        latent[:, :, site] = stays[site] * latent[:, :, site - 1] + fresh * latent[:, :, site]
    rank = (latent.argsort(axis=1).argsort(axis=1) + 0.5) / PANEL_HAPLOTYPES
    return (rank < frequencies[:, None, :]).astype(np.uint8).reshape(-1, len(positions))


def _mosaic(panel: Alleles, positions: Ints, ancestry: Ints, rng: np.random.Generator) -> Alleles:
    """One haplotype per sample, samples x sites, copied in segments of about two megabases."""
    shape = (len(ancestry), len(positions))
    gaps = np.diff(positions, prepend=positions[0])
    switches = rng.random(shape, dtype=np.float32) < 1 - np.exp(-gaps / SEGMENT_BASES)
    switches[:, 0] = True
    admixed = rng.random(shape, dtype=np.float32) < ADMIXED
    population = np.where(admixed, rng.integers(0, len(ANCESTRIES), shape), ancestry[:, None])
    template = population * PANEL_HAPLOTYPES + rng.integers(0, PANEL_HAPLOTYPES, shape)
    last_switch = np.maximum.accumulate(np.where(switches, np.arange(len(positions)), 0), axis=1)
    copied = np.take_along_axis(template, last_switch, axis=1)
    return panel[copied, np.arange(len(positions))]


def _site_kinds(sites: range, rng: np.random.Generator) -> NDArray[np.str_]:
    """What is special about a site; the published panel's sites are plain."""
    kinds = rng.choice(["plain", "multi", "filtered", "indel"], len(sites), p=[0.95, 0.01, 0.02, 0.02])
    return np.where(np.isin(sites, PANEL_SITES), "plain", kinds)


def _second_alternative(alleles: Alleles, multi: Flags, rng: np.random.Generator) -> Alleles:
    """At multi-allelic sites a third of the ALT copies are of the second ALT."""
    second = multi & (alleles == 1) & (rng.random(alleles.shape, dtype=np.float32) < 1 / 3)
    return np.where(second, 2, alleles).astype(np.uint8)


def _bases(kinds: NDArray[np.str_], rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """REF and ALT of every site; an indel loses the base after its anchor."""
    letters = ["".join(rng.permutation(list("ACGT"))) for _ in kinds]
    pairs = [_alleles(kind, order) for kind, order in zip(kinds, letters, strict=True)]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _alleles(kind: str, order: str) -> tuple[str, str]:
    if kind == "multi":
        return order[0], f"{order[1]},{order[2]}"
    if kind == "indel":
        return order[:2], order[0]
    return order[0], order[1]
