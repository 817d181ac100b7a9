"""A person's history as numbers: aggregates of what had happened, and was known, at the index."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as sf

from features.cohort.cohort import age_years
from features.contract.errors import DataGateError
from features.contract.settings import ClinicalFeature

WITHOUT_EVENT = {"count": 0.0, "any": 0.0}


def clinical_vocabulary(features: Sequence[ClinicalFeature]) -> list[str]:
    """The names of the columns of `x_clinical`, in order."""
    return [feature.name for feature in features]


def clinical_features(
    index: DataFrame, persons: DataFrame, events: DataFrame, features: Sequence[ClinicalFeature]
) -> DataFrame:
    """`person_key, x_clinical, has_clinical, n_usable, n_hidden` of the people in `index`.

    An event is usable when both its time and the time its source had it are at or before
    `index_time`; it is hidden when only the first is. `x_clinical` is array<float>, NaN = missing.
    """
    history = _summaries(index, events, features)
    described = index.join(persons.select("person_key", "birth_date", "sex"), "person_key", "left")
    joined = described.join(history, "person_key", "left")
    values = [_value(feature, place) for place, feature in enumerate(features)]
    described_by = [value.isNotNull() for feature, value in zip(features, values, strict=True) if not feature.code]
    usable = sf.coalesce("n_usable", sf.lit(0))
    return joined.select(
        "person_key",
        sf.array([sf.coalesce(value.cast("float"), _missing()) for value in values]).alias("x_clinical"),
        sf.greatest(usable > 0, sf.lit(False), *described_by).alias("has_clinical"),
        usable.alias("n_usable"),
        sf.coalesce("n_hidden", sf.lit(0)).alias("n_hidden"),
    )


def check_hidden(frame: DataFrame, maximum: float, task: str) -> dict[str, int]:
    """The counts of usable and hidden events; too many hidden mean `available_at` is not to be trusted."""
    usable, hidden = frame.agg(sf.sum("n_usable"), sf.sum("n_hidden")).collect()[0]
    counts = {"usable_events": usable or 0, "hidden_events": hidden or 0}
    share = counts["hidden_events"] / max(1, sum(counts.values()))
    if share > maximum:
        raise DataGateError(
            f"task {task}: {share:.1%} of the events before the index ({counts['hidden_events']}) were not yet "
            f"available then, above features.maximum_hidden_share = {maximum}; check known_at and lag_days of "
            "the clinical sources (a first bulk load may carry its own date everywhere), or raise the share"
        )
    return counts


def _summaries(index: DataFrame, events: DataFrame, features: Sequence[ClinicalFeature]) -> DataFrame:
    """One scan of the events for all features: columns `f0`, `f1`, ... by place, and the two counts."""
    codes = sorted({feature.code for feature in features if feature.code})
    past = index.join(events.filter(sf.col("code").isin(codes)), "person_key")
    past = past.filter(sf.col("time") <= sf.col("index_time"))
    known = sf.col("available_at") <= sf.col("index_time")
    columns = [_aggregate(f, known).alias(f"f{place}") for place, f in enumerate(features) if f.code]
    counts = [sf.count_if(known).alias("n_usable"), sf.count_if(~known).alias("n_hidden")]
    return past.groupBy("person_key").agg(*columns, *counts)


def _aggregate(feature: ClinicalFeature, known: Column) -> Column:
    used = known & (sf.col("code") == sf.lit(feature.code))
    if feature.window_days:
        used &= sf.col("time") >= sf.col("index_time") - sf.expr(f"interval {feature.window_days} days")
    number = sf.when(used, sf.nanvl("numeric_value", sf.lit(None).cast("double")))
    text = sf.when(used, sf.col("text_value"))
    columns = {
        "last": _last(number),
        "mean": _mean(number),
        "count": sf.count_if(used),
        "any": sf.max(used).cast("int"),
        "is": (_last(text) == sf.lit(feature.text)).cast("int"),
    }
    return columns[feature.aggregate]


def _last(value: Column) -> Column:
    """The value of the latest event that has one; `record_id` decides between equal times."""
    return sf.max_by(value, sf.when(value.isNotNull(), sf.struct("time", "record_id")))


def _mean(value: Column) -> Column:
    """Summed in ascending order, so that the digits do not depend on how Spark met the rows."""
    values = sf.array_sort(sf.collect_list(value))
    total = sf.aggregate(values, sf.lit(0.0), lambda total, one: total + one)
    return sf.when(sf.size(values) > 0, total / sf.size(values))


def _value(feature: ClinicalFeature, place: int) -> Column:
    if feature.aggregate == "age":
        return age_years()
    if feature.aggregate == "sex":
        return sf.when(sf.col("sex") == "male", 1.0).when(sf.col("sex") == "female", 0.0)
    return sf.coalesce(sf.col(f"f{place}").cast("double"), sf.lit(WITHOUT_EVENT.get(feature.aggregate)))


def _missing() -> Column:
    return sf.lit(float("nan")).cast("float")
