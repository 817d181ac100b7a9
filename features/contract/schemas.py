"""Every table of the lake, declared once: columns in order, what may not be null, what must hold."""

from dataclasses import dataclass, field

import pyarrow as pa

TIMESTAMP = pa.timestamp("us", tz="UTC")
MICROSECONDS_PER_DAY = 86_400_000_000


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `path` below the lake, Arrow schema (nullable as declared), CHECKs by name (SQL)."""

    path: str
    schema: pa.Schema
    checks: dict[str, str] = field(default_factory=dict)


def _schema(*columns: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    """Columns are NOT NULL unless a third item says True (nullable)."""
    return pa.schema([pa.field(c[0], c[1], nullable=len(c) == 3 and c[2]) for c in columns])


RUNS = Table(
    "runs",
    _schema(
        ("run_id", pa.string()),
        ("job", pa.string()),
        ("started", TIMESTAMP),
        ("finished", TIMESTAMP),
        ("status", pa.string()),
        ("exit_code", pa.int32()),
        ("config_digest", pa.string()),
        ("input_digest", pa.string()),
        ("code_version", pa.string()),
        ("read", pa.map_(pa.string(), pa.int64())),
        ("wrote", pa.map_(pa.string(), pa.string())),
        ("digests", pa.map_(pa.string(), pa.string())),
        ("counts", pa.string()),
        ("message", pa.string()),
    ),
    {"known_status": "status IN ('succeeded', 'failed')"},
)

_SPREAD = pa.struct(
    [
        *((name, pa.int64()) for name in ("n", "sum", "square_sum", "min", "max")),
        ("mean", pa.float64()),
        ("sd", pa.float64()),
    ]
)
_READS = pa.struct([*((name, pa.int64()) for name in ("n", "alt", "total")), ("alt_share", pa.float64())])
_MEASURES = [("dp", _SPREAD, True), ("gq", _SPREAD, True), ("het_reads", _READS, True)]
"""Of depths and qualities, and of the reads of heterozygous calls."""

VARIANTS = Table(
    "variants",
    _schema(
        ("variant_key", pa.string()),
        ("build", pa.string()),
        ("contig", pa.string()),
        ("position", pa.int64()),
        ("ref", pa.string()),
        ("alt", pa.string()),
        ("rsid", pa.string(), True),
        ("filters", pa.list_(pa.string())),
        ("gene", pa.string(), True),
        ("consequence", pa.string(), True),
        ("n_hom_ref", pa.int64()),
        ("n_het", pa.int64()),
        ("n_hom_alt", pa.int64()),
        ("n_missing", pa.int64()),
        ("n_het_haploid", pa.int64()),
        ("allele_count", pa.float64()),
        ("allele_number", pa.int64()),
        ("allele_frequency", pa.float64(), True),
        ("call_rate", pa.float64(), True),
        ("hwe_exact_p", pa.float64(), True),
        ("hwe_mid_p", pa.float64(), True),
        ("mean_excess", pa.float64(), True),
        ("mach_r2", pa.float64(), True),
        ("impute_info", pa.float64(), True),
        ("info", pa.map_(pa.string(), pa.list_(pa.float64())), True),
        ("info_text", pa.map_(pa.string(), pa.list_(pa.string())), True),
        *_MEASURES,
    ),
    {"one_based": "position >= 1", "counts": "allele_count <= allele_number"},
)

GENOTYPES = Table(
    "genotypes",
    _schema(
        ("variant_key", pa.string()),
        ("sample_block", pa.string()),
        ("calls", pa.binary()),
        *(
            (f"{call}{sex}", pa.int64())
            for sex in ("", "_female", "_male")
            for call in ("n_hom_ref", "n_het", "n_hom_alt", "n_missing")
        ),
        ("dosages", pa.binary(), True),
        *(
            (f"{sum_}{sex}", pa.int64(), True)
            for sum_ in ("n_dosage", "dosage_sum")
            for sex in ("", "_female", "_male")
        ),
        ("dosage_square_sum", pa.int64(), True),
        ("dosage_excess_sum", pa.int64(), True),
        ("dosage_variance", pa.int64(), True),
        *(
            (f"{key}_{part}", pa.int64(), True)
            for key in ("dp", "gq")
            for part in ("n", "sum", "square_sum", "min", "max")
        ),
        ("het_n", pa.int64(), True),
        ("het_alt_reads", pa.int64(), True),
        ("het_total_reads", pa.int64(), True),
        ("sole_carrier", pa.int32(), True),
    ),
)

SAMPLES = Table(
    "samples",
    _schema(
        ("sample_block", pa.string()),
        ("sample_index", pa.int32()),
        ("person_key", pa.string()),
        ("sex", pa.string()),
        ("sex_imputed", pa.string()),
        ("x_inbreeding", pa.float64(), True),
        ("call_rate", pa.float64()),
        ("n_called", pa.int64()),
        ("n_het", pa.int64()),
        ("n_hom_alt", pa.int64()),
        ("n_het_haploid", pa.int64()),
        ("n_singletons", pa.int64()),
        ("n_transitions", pa.int64()),
        ("n_transversions", pa.int64()),
        *_MEASURES,
    ),
    {
        "person_key_is_hex": "length(person_key) = 64",
        "known_sex": "sex IN ('male', 'female', 'unknown')",
        "known_sex_imputed": "sex_imputed IN ('male', 'female', 'unknown')",
    },
)

QC_VARIANTS = Table("qc_variants", VARIANTS.schema, VARIANTS.checks)
QC_SAMPLES = Table("qc_samples", SAMPLES.schema, SAMPLES.checks)

QC_EXCLUDED = Table(
    "qc_excluded",
    _schema(
        ("variant_key", pa.string(), True),
        ("sample_block", pa.string(), True),
        ("sample_index", pa.int32(), True),
        ("person_key", pa.string(), True),
        ("rule", pa.string()),
        ("value", pa.float64(), True),
    ),
    {"one_of": "(variant_key IS NULL) != (person_key IS NULL)"},
)

QC_ATTRITION = Table(
    "qc_attrition",
    _schema(
        ("step", pa.int32()),
        ("unit", pa.string()),
        ("rule", pa.string()),
        ("minimum", pa.float64(), True),
        ("entered", pa.int64()),
        ("excluded", pa.int64()),
        ("remained", pa.int64()),
    ),
    {"adds_up": "entered = excluded + remained", "known_unit": "unit IN ('variants', 'samples')"},
)

KINSHIP = Table(
    "kinship",
    _schema(
        ("person_key_1", pa.string()),
        ("person_key_2", pa.string()),
        ("relation", pa.string()),
        ("kinship", pa.float64()),
        *((name, pa.int64()) for name in ("n_variants", "n_het_het", "n_ibs0", "n_het_hom", "n_hom_het")),
    ),
    {
        "pair_is_ordered": "person_key_1 < person_key_2",
        "known_relation": "relation IN ('duplicate', 'first_degree', 'second_degree', 'third_degree', 'distant')",
    },
)

FAMILIES = Table(
    "families",
    _schema(("person_key", pa.string()), ("family", pa.string()), ("unrelated", pa.bool_())),
    {"person_key_is_hex": "length(person_key) = 64"},
)

AXES = Table(
    "axes",
    _schema(
        ("variant_key", pa.string()),
        ("mean", pa.float64()),
        ("scale", pa.float64()),
        ("loadings", pa.list_(pa.float64())),
    ),
)

POPULATIONS = Table(
    "populations",
    _schema(
        ("population", pa.string()),
        ("people", pa.int64()),
        ("mean", pa.list_(pa.float64())),
        ("covariance", pa.list_(pa.float64())),
    ),
)

ANCESTRY = Table(
    "ancestry",
    _schema(
        ("person_key", pa.string()),
        ("reference", pa.bool_()),
        ("n_called", pa.int32()),
        ("components", pa.list_(pa.float64()), True),
        ("population", pa.string(), True),
        ("probabilities", pa.map_(pa.string(), pa.float64()), True),
        ("typicality", pa.float64(), True),
    ),
    {"person_key_is_hex": "length(person_key) = 64"},
)

POLYGENIC_SCORES = Table(
    "polygenic_scores",
    _schema(
        ("person_key", pa.string()),
        ("score", pa.string()),
        ("total", pa.float64()),
        ("adjusted_z", pa.float64(), True),
    ),
    {"person_key_is_hex": "length(person_key) = 64"},
)

SCORE_MATCHES = Table(
    "score_matches",
    _schema(
        ("score", pa.string()),
        ("line", pa.int64()),
        ("contig", pa.string(), True),
        ("position", pa.int64(), True),
        ("effect_allele", pa.string(), True),
        ("other_allele", pa.string(), True),
        ("weight", pa.float64(), True),
        ("lifted_strand", pa.string(), True),
        ("match_type", pa.string()),
        ("variant_key", pa.string(), True),
    ),
)

PERSONS = Table(
    "persons",
    _schema(
        ("person_key", pa.string()),
        ("birth_date", pa.date32(), True),
        ("sex", pa.string()),
        ("ancestry", pa.string(), True),
    ),
    {"known_sex": "sex IN ('male', 'female', 'unknown')", "person_key_is_hex": "length(person_key) = 64"},
)

OBSERVATION_PERIODS = Table(
    "observation_periods",
    _schema(("person_key", pa.string()), ("start", TIMESTAMP), ("end", TIMESTAMP)),
    {"in_order": "start <= `end`"},
)

EVENTS = Table(
    "events",
    _schema(
        ("person_key", pa.string()),
        ("time", TIMESTAMP),
        ("code", pa.string()),
        ("numeric_value", pa.float64(), True),
        ("unit", pa.string(), True),
        ("text_value", pa.string(), True),
        ("source", pa.string()),
        ("record_id", pa.string()),
        ("available_at", TIMESTAMP),
    ),
    {"person_key_is_hex": "length(person_key) = 64"},
)

SERIES = Table(
    "series",
    _schema(
        ("series_key", pa.string()),
        ("person_key", pa.string()),
        ("time", TIMESTAMP),
        ("modality", pa.string()),
        ("series_description", pa.string(), True),
        ("n_images", pa.int32()),
        ("header", pa.map_(pa.string(), pa.string())),
    ),
)

IMAGES = Table(
    "images",
    _schema(
        ("image_key", pa.string()),
        ("series_key", pa.string()),
        ("person_key", pa.string()),
        ("instance_number", pa.int32()),
        ("time", TIMESTAMP),
        ("pixels", pa.binary()),
        ("dtype", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("spacing", pa.list_(pa.float64()), True),
    ),
)

PREDICTIONS = Table(
    "predictions",
    _schema(
        ("person_key", pa.string()),
        ("as_of", pa.date32()),
        ("model", pa.string()),
        ("model_version", pa.string()),
        ("outcome", pa.string()),
        ("horizon_days", pa.int32()),
        ("status", pa.string()),
        ("reason", pa.string(), True),
        ("risk", pa.float64(), True),
        ("risk_low", pa.float64(), True),
        ("risk_high", pa.float64(), True),
        ("band", pa.string(), True),
        ("top_reasons", pa.list_(pa.string())),
        ("feature_version", pa.string()),
        ("run_id", pa.string()),
        ("scored_at", TIMESTAMP),
    ),
    {
        "known_status": "status IN ('scored', 'ineligible', 'refused')",
        "risk_is_probability": "risk IS NULL OR (risk >= 0 AND risk <= 1)",
        "scored_has_risk": "(status = 'scored') = (risk IS NOT NULL)",
    },
)

DECLARED = {table.path: table for table in list(globals().values()) if isinstance(table, Table)}
"""The tables that are not named after a job or a task, by path."""


def quarantine(job: str) -> Table:
    """Records a job refused: where they lie (bytes of the uncompressed stream, or a BGZF virtual
    offset) and by which rule; never their text."""
    return Table(
        f"quarantine/{job}",
        _schema(
            ("source_digest", pa.string()),
            ("location", pa.string()),
            ("rule", pa.string()),
            ("job", pa.string()),
        ),
    )


def training(task: str, modalities: dict[str, pa.DataType], outcome: dict[str, pa.DataType]) -> Table:
    """`training/<task>`: `modalities` and `outcome` name the `x_` and `y_` columns and their types."""
    return Table(f"training/{task}", _person_rows(modalities, outcome))


def population(task: str, modalities: dict[str, pa.DataType]) -> Table:
    """`population/<task>`: the same features on a scoring date, without labels.

    `ineligible_reason` is null for the eligible and else says why not; those have zero features.
    """
    columns = [
        pa.field("person_key", pa.string(), nullable=False),
        pa.field("index_time", TIMESTAMP, nullable=False),
        pa.field("as_of", pa.date32(), nullable=False),
        pa.field("ineligible_reason", pa.string()),
        *_features(modalities),
    ]
    return Table(f"population/{task}", pa.schema(columns))


def _person_rows(modalities: dict[str, pa.DataType], outcome: dict[str, pa.DataType]) -> pa.Schema:
    columns = [
        pa.field("person_key", pa.string(), nullable=False),
        pa.field("index_time", TIMESTAMP, nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.int32(), nullable=False),
        *_features(modalities),
        *(pa.field(name, kind, nullable=False) for name, kind in outcome.items()),
        pa.field("weight", pa.float32(), nullable=False),
    ]
    return pa.schema(columns)


def _features(modalities: dict[str, pa.DataType]) -> list[pa.Field]:
    fields = []
    for modality, kind in modalities.items():
        fields.append(pa.field(f"x_{modality}", kind, nullable=False))
        fields.append(pa.field(f"has_{modality}", pa.bool_(), nullable=False))
    return fields
