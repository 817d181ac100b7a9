"""A task's own polygenic score: made of the outcomes of the people in `train`, for everyone with a genome."""

from dataclasses import replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as sf

from features.assembly.inputs import ANCESTRY, EVERY_SAMPLE, FAMILIES, GENOMICS
from features.assembly.study import Study
from features.cohort.cohort import age_years
from features.cohort.outcome import positive_column
from features.cohort.split import uniform
from features.contract.settings import GenomicsSettings
from features.genomics.blocks import row_bytes, sexes_by_block
from features.genomics.polygenic.own import PARTS, Genomes, own_scores
from features.lake import bounded_arrow_batches


def with_own_score(study: Study, cohort: DataFrame) -> Study:
    """The study with its own scores, if it wants any; `cohort` has `person_key, index_time, split, y_...`. No
    variant of a gene that defines the outcome has a part in them."""
    wanted = study.task.features.genomics and study.task.features.genomics.own_score
    if not wanted or not study.settings.genomics:
        return study
    variants, genotypes, samples = (study.inputs[name] for name in GENOMICS)
    if study.task.outcome.genes:
        variants = variants.filter(sf.coalesce(~sf.col("gene").isin(study.task.outcome.genes), sf.lit(True)))
    every_sample, build = study.inputs[EVERY_SAMPLE], study.settings.genomics.build
    genomes = Genomes(variants, genotypes, samples, every_sample, build)
    with bounded_arrow_batches(study.spark, row_bytes(genotypes, sexes_by_block(every_sample))):
        found = own_scores(_training(study, cohort, study.settings.genomics), genomes, wanted)
        totals = study.keep(found.totals)
        totals.count()  # while batches are bounded
    return replace(study, own_scores=replace(found, totals=totals))


def _training(study: Study, cohort: DataFrame, genomics: GenomicsSettings) -> DataFrame:
    """`person_key, outcome, covariates, part` of the people in `train`; covariates that are not known are null. A
    family is of one part, if it is of one split."""
    described = study.inputs["persons"].select("person_key", "birth_date", "sex")
    people = cohort.filter(sf.col("split") == "train").join(described, "person_key", "left")
    is_male = sf.when(sf.col("sex") == "male", 1.0).when(sf.col("sex") == "female", 0.0)
    covariates = sf.array(age_years(), is_male)
    if genomics.ancestry:
        components = study.inputs[ANCESTRY].select("person_key", "components")
        people = people.join(components, "person_key", "left")
        covariates = sf.concat(covariates, "components")
    unit = sf.col("person_key")
    if study.task.split.relatives_together:
        people = people.join(study.inputs[FAMILIES].select("person_key", "family"), "person_key", "left")
        unit = sf.coalesce("family", "person_key")
    place = uniform("own_score", study.task.split.seed, "unit")
    return people.withColumns({"unit": unit, "covariates": covariates}).select(
        "person_key",
        sf.col(positive_column(study.task.outcome)).cast("double").alias("outcome"),
        "covariates",
        sf.floor(place * PARTS).cast("int").alias("part"),
    )
