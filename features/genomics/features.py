"""A person's genome as numbers: ALT counts of chosen variants (dosages, where there are any), how many a gene
carries, and polygenic scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as sf

from features.contract.errors import ConfigError, DataGateError
from features.contract.settings import GenomicFeatures, OutcomeSettings
from features.genomics.dosages import DTYPE, in_alts
from features.genomics.packing import MISSING, unpack
from features.genomics.polygenic.own import OWN_SCORE
from features.lake import few_rows

SAMPLES_PER_BYTE = 4
CHUNK_BYTES = 256  # 1,024 people: small enough for a task, large enough to be worth its shuffle row


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns of `x_genomics`: first ALT counts, then burdens.

    `expected` is the number of variants under each rsid (a split multi-allelic site has several);
    `absent_is_reference`: a call that is not there means no ALT (somatic genotypes).
    """

    expected: tuple[int, ...]
    burdens: int
    log_last: bool
    absent_is_reference: bool

    @property
    def width(self) -> int:
        return len(self.expected) + self.burdens


def genomic_vocabulary(features: GenomicFeatures) -> list[str]:
    """The names of the columns of `x_genomics`, in order."""
    burdens = [f"{gene}_burden" for gene in features.genes]
    names = [*features.variants, *burdens, *(["total_burden"] if features.total_burden else []), *features.scores]
    return [*names, *([OWN_SCORE] if features.own_score else [])]


def check_variants(variants: DataFrame, features: GenomicFeatures, outcome: OutcomeSettings) -> dict[str, int]:
    """The number of variants under each chosen rsid.

    Raises DataGateError for an rsid the table does not have, ConfigError for one in a gene that
    defines the outcome.
    """
    chosen = variants.filter(sf.col("rsid").isin(features.variants)).groupBy("rsid")
    found = {
        r["rsid"]: r for r in chosen.agg(sf.count("*").alias("n"), sf.collect_set("gene").alias("genes")).collect()
    }
    unknown = [rsid for rsid in features.variants if rsid not in found]
    if unknown:
        raise DataGateError(
            f"features.genomics.variants: {', '.join(unknown)}: no such rsid among the variants; was it left "
            "out by genomics.quality (riskloom show qc_excluded)?"
        )
    leaked = [rsid for rsid, row in found.items() if set(row["genes"]) & set(outcome.genes)]
    if leaked:
        names = ", ".join(sorted(leaked))
        raise ConfigError(
            f"features.genomics.variants: {names} lies in a gene that defines the outcome {outcome.name} "
            "and cannot be its feature"
        )
    return {rsid: found[rsid]["n"] for rsid in features.variants}


def genomic_features(
    index: DataFrame,
    variants: DataFrame,
    genotypes: DataFrame,
    samples: DataFrame,
    features: GenomicFeatures,
    expected: dict[str, int],
    somatic: bool,
) -> DataFrame:
    """`person_key, x_genomics, has_genomics` of the people in `index` who have a genome.

    `expected` comes from `check_variants`. A missing call of a chosen variant is NaN, or 0 where
    the genotypes are somatic; in a burden it counts as not carried.
    """
    burdens = len(features.genes) + features.total_burden
    counts = tuple(expected[rsid] for rsid in features.variants)
    layout = Layout(counts, burdens, features.total_burden, somatic)
    wanted = _contributions(variants, features)
    vectors = person_major(genotypes, wanted, layout)
    people = samples.join(index.select("person_key"), "person_key")
    joined = people.join(vectors, ["sample_block", "sample_index"], "left")
    nothing = _literal(_rows(np.zeros((layout.width, 1)), np.zeros((layout.width, 1)), layout)[0])
    return joined.select(
        "person_key", sf.coalesce("x", nothing).alias("x_genomics"), sf.lit(True).alias("has_genomics")
    )


def check_scores(matches: DataFrame, variants: DataFrame, scores: Sequence[str], outcome: OutcomeSettings) -> None:
    """ConfigError for a score that weighs a variant in a gene that defines the outcome."""
    inside = variants.filter(sf.col("gene").isin(outcome.genes)).select("variant_key")
    weighed = matches.filter(sf.col("score").isin(*scores)).join(inside, "variant_key").select("score")
    leaked = sorted(row["score"] for row in weighed.distinct().collect())
    if leaked:
        raise ConfigError(
            f"features.genomics.scores: {', '.join(leaked)} weighs variants of genes that define the outcome "
            f"{outcome.name} and cannot be its feature"
        )


def with_scores(vectors: DataFrame, polygenic_scores: DataFrame, scores: Sequence[str]) -> DataFrame:
    """`vectors` with the totals of these scores behind what `x_genomics` has; NaN for who has none.

    Raises DataGateError for a score that the table does not have.
    """
    known = {row["score"] for row in polygenic_scores.select("score").distinct().collect()}
    unknown = [score for score in scores if score not in known]
    if unknown:
        raise DataGateError(
            f"features.genomics.scores: {', '.join(unknown)}: no such score in the polygenic_scores table, which "
            f"has {', '.join(sorted(known))}; one with too few matched lines is left out there"
        )
    entries = sf.map_from_entries(sf.collect_list(sf.struct("score", sf.col("total").cast("float"))))
    totals = (
        polygenic_scores.filter(sf.col("score").isin(*scores)).groupBy("person_key").agg(entries.alias("totals"))
    )
    own = sf.array(*(sf.coalesce(sf.col("totals")[score], sf.lit(float("nan")).cast("float")) for score in scores))
    joined = vectors.join(totals, "person_key", "left")
    return joined.withColumn("x_genomics", sf.concat("x_genomics", own)).drop("totals")


def carriers(
    variants: DataFrame, genotypes: DataFrame, samples: DataFrame, outcome: OutcomeSettings, somatic: bool
) -> DataFrame:
    """`person_key, carries`, one row per person with a genome: a non-silent variant in an outcome gene."""
    genes = GenomicFeatures(genes=outcome.genes, silent_consequences=outcome.silent_consequences)
    burden = genomic_features(samples, variants, genotypes, samples, genes, {}, somatic)
    carried = sf.aggregate("x_genomics", sf.lit(0.0).cast("float"), lambda total, one: total + one)
    return burden.select("person_key", (carried > 0).alias("carries"))


def person_major(genotypes: DataFrame, contributions: DataFrame, layout: Layout) -> DataFrame:
    """`sample_block, sample_index, x`: one shuffle of the selected variants, still packed.

    `contributions` (`variant_key, place, burden`) is broadcast: it grows with the vocabulary, not
    with people. Places past a block's last sample are its padding; `samples` does not have them.
    """
    selected = genotypes.select("variant_key", "sample_block", "calls", "dosages")
    selected = selected.join(sf.broadcast(contributions), "variant_key")
    last = ((sf.length("calls") - 1) / CHUNK_BYTES).cast("int")
    pieces = sf.transform(sf.sequence(sf.lit(0), last), _piece)
    exploded = selected.select("sample_block", "place", "burden", sf.posexplode(pieces).alias("chunk", "piece"))
    chunks = exploded.select("sample_block", "place", "burden", "chunk", "piece.*")
    schema = "sample_block string, sample_index int, x array<float>"
    return chunks.groupBy("sample_block", "chunk").applyInPandas(_chunk_rows(layout), schema)


def _piece(i: Column) -> Column:
    """Calls and dosages of the same people."""
    sizes = {"calls": CHUNK_BYTES, "dosages": CHUNK_BYTES * SAMPLES_PER_BYTE * np.dtype(DTYPE).itemsize}
    return sf.struct(
        *(sf.col(name).substr(i * size + 1, sf.lit(size)).alias(name) for name, size in sizes.items())
    )


def _chunk_rows(layout: Layout) -> Callable[[pd.DataFrame], pd.DataFrame]:
    def rows(chunk: pd.DataFrame) -> pd.DataFrame:
        total, called = _sums(chunk, layout)
        start = int(chunk["chunk"].iloc[0]) * CHUNK_BYTES * SAMPLES_PER_BYTE
        values = _rows(total, called, layout)
        places = np.arange(start, start + len(values), dtype=np.int32)
        return pd.DataFrame(
            {"sample_block": chunk["sample_block"].iloc[0], "sample_index": places, "x": list(values)}
        )

    return rows


def _sums(chunk: pd.DataFrame, layout: Layout) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """ALT counts or carried variants, and variants called, each of shape (width, people)."""
    people = len(chunk["calls"].iloc[0]) * SAMPLES_PER_BYTE
    total, called = np.zeros((layout.width, people)), np.zeros((layout.width, people))
    columns = (chunk[name] for name in ("place", "burden", "calls", "dosages"))
    for place, burden, calls, dosages in zip(*columns, strict=True):
        alts = np.full(people, np.nan)
        if dosages is None or burden:
            codes = unpack(calls, SAMPLES_PER_BYTE * len(calls))
            alts = np.where(codes == MISSING, np.nan, codes > 0 if burden else codes)
        else:
            known = in_alts(np.frombuffer(dosages, DTYPE))
            alts[: len(known)] = known
        total[place] += np.nan_to_num(alts)
        called[place] += ~np.isnan(alts)
    return total, called


def _rows(
    total: npt.NDArray[np.float64], called: npt.NDArray[np.float64], layout: Layout
) -> npt.NDArray[np.float32]:
    """Person-major values of shape (people, width); a count with a variant not called is NaN."""
    counts = len(layout.expected)
    values = total.T.copy()
    if not layout.absent_is_reference:
        values[:, :counts][called.T[:, :counts] < np.array(layout.expected)] = np.nan
    if layout.log_last:
        values[:, -1] = np.log1p(values[:, -1])
    return values.astype(np.float32)


def _contributions(variants: DataFrame, features: GenomicFeatures) -> DataFrame:
    """`variant_key, place, burden`: into which columns a variant counts; one scan of `variants`."""
    spark = variants.sparkSession
    first_gene = len(features.variants)
    by_rsid = _places(spark, "rsid", features.variants, 0)
    by_gene = _places(spark, "gene", features.genes, first_gene)
    silent = sf.coalesce(sf.col("consequence").isin(features.silent_consequences), sf.lit(False))
    counted = (sf.size("filters") == 0) & ~silent
    total = sf.lit(first_gene + len(features.genes) if features.total_burden else None).cast("int")
    places = [
        _contribution(sf.col("rsid_place"), burden=False),
        _contribution(sf.when(counted, sf.col("gene_place")), burden=True),
        _contribution(sf.when(counted, total), burden=True),
    ]
    joined = variants.join(by_rsid, "rsid", "left").join(by_gene, "gene", "left")
    exploded = joined.select("variant_key", sf.explode(sf.array(*places)).alias("to"))
    return exploded.select("variant_key", "to.place", "to.burden").filter(sf.col("place").isNotNull())


def _places(spark: SparkSession, key: str, names: Sequence[str], first: int) -> DataFrame:
    rows = [(name, first + i) for i, name in enumerate(names)]
    return sf.broadcast(few_rows(spark, rows, **{key: "string", f"{key}_place": "int"}))


def _contribution(place: Column, burden: bool) -> Column:
    return sf.struct(place.alias("place"), sf.lit(burden).alias("burden"))


def _literal(values: npt.NDArray[np.float32]) -> Column:
    return sf.array([sf.lit(float(value)) for value in values]).cast("array<float>")
