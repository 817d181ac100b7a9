"""Features of every modality beside each person; an absent modality is zeros of full length."""

from datetime import date, timedelta
from math import prod

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.assembly.inputs import EVERY_VARIANT, GENOMICS, SCORES
from features.assembly.study import Study
from features.clinical.features import check_hidden, clinical_features, clinical_vocabulary
from features.cohort.cohort import midnight
from features.contract.settings import FeatureSettings, GenomicFeatures, ImagingFeatures
from features.genomics.features import (
    check_scores,
    check_variants,
    genomic_features,
    genomic_vocabulary,
    with_scores,
)
from features.genomics.polygenic.own import OWN_SCORE
from features.imaging.features import choose_slices, image_shape, imaging_features

Counts = dict[str, int]


def vocabulary(features: FeatureSettings) -> dict[str, list[str]]:
    """The columns of each vector modality that the task uses, in order."""
    found = {}
    if features.genomics:
        found["genomics"] = genomic_vocabulary(features.genomics)
    if features.clinical:
        found["clinical"] = clinical_vocabulary(features.clinical)
    return found


def modality_types(features: FeatureSettings) -> dict[str, pa.DataType]:
    """The modalities that the task uses and the types of their `x_` columns."""
    types: dict[str, pa.DataType] = {name: pa.list_(pa.float32()) for name in vocabulary(features)}
    return types | ({"imaging": pa.binary()} if features.imaging else {})


def row_bytes(features: FeatureSettings) -> int:
    """About how large a row is before compression."""
    vectors = sum(4 * len(names) for names in vocabulary(features).values())
    return 128 + vectors + (prod(image_shape(features.imaging)) if features.imaging else 0)


def with_features(people: DataFrame, study: Study, as_of: date | None = None) -> tuple[DataFrame, Counts]:
    """`people` (`person_key, index_time, reason, ...`) with `x_` and `has_` of each modality; the counts.

    People with a `reason` get zeros. With `as_of`, not even `baseline` images taken later count.
    """
    index = people.filter(sf.col("reason").isNull()).select("person_key", "index_time")
    frame, counts = people, Counts()
    if study.task.features.genomics:
        frame = _attach(frame, _genomics(index, study, study.task.features.genomics), "genomics", study)
    if study.task.features.clinical:
        found, more = _clinical(index, study)
        frame, counts = _attach(frame, found, "clinical", study), counts | more
    if study.task.features.imaging:
        found, more = _imaging(index, study, study.task.features.imaging, as_of)
        frame, counts = _attach(frame, found, "imaging", study), counts | more
    return frame, counts


def _genomics(index: DataFrame, study: Study, chosen: GenomicFeatures) -> DataFrame:
    variants, genotypes, samples = (study.inputs[name] for name in GENOMICS)
    expected = check_variants(variants, chosen, study.task.outcome)
    found = genomic_features(index, variants, genotypes, samples, chosen, expected, study.somatic)
    if chosen.scores:
        totals, matches = (study.inputs[name] for name in SCORES)
        check_scores(matches, study.inputs[EVERY_VARIANT], chosen.scores, study.task.outcome)
        found = with_scores(found, totals, chosen.scores)
    return with_scores(found, study.own_scores.totals, [OWN_SCORE]) if study.own_scores else found


def _clinical(index: DataFrame, study: Study) -> tuple[DataFrame, Counts]:
    features, inputs = study.task.features, study.inputs
    found = study.keep(clinical_features(index, inputs["persons"], inputs["events"], features.clinical))
    return found, check_hidden(found, features.maximum_hidden_share, study.task.name)


def _imaging(
    index: DataFrame, study: Study, chosen: ImagingFeatures, as_of: date | None
) -> tuple[DataFrame, Counts]:
    series, images = study.inputs["series"], study.inputs["images"]
    if as_of is not None:
        series = series.filter(sf.col("time") < midnight(as_of + timedelta(days=1)))
    slices = study.keep(choose_slices(index, series, images, chosen))
    after = slices.filter("after_index").count()
    return imaging_features(slices, images, chosen), {"images_after_index": after}


def _attach(frame: DataFrame, found: DataFrame, modality: str, study: Study) -> DataFrame:
    x, has = f"x_{modality}", f"has_{modality}"
    joined = frame.join(found.select("person_key", x, has), "person_key", "left")
    present = sf.coalesce(has, sf.lit(False))
    value = sf.when(present, sf.col(x)).otherwise(_zeros(modality, study.task.features))
    return joined.withColumn(x, value).withColumn(has, present)


def _zeros(modality: str, features: FeatureSettings) -> Column:
    if features.imaging and modality == "imaging":
        return sf.lit(bytearray(prod(image_shape(features.imaging))))
    return sf.array_repeat(sf.lit(0.0).cast("float"), len(vocabulary(features)[modality]))
