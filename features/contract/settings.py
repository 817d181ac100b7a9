"""What a configuration may say: every key, its type and its default, checked before anything starts.

One YAML file describes one study. `load_settings` lays the profile, the file and the `--set`
overrides over each other and returns one frozen object; errors name file, line, key, what was
expected and the nearest known key.
"""

import re
from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

Number = TypeVar("Number", int, float)

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Modality = Literal["genomics", "clinical", "imaging"]


class Section(BaseModel):
    """A part of the configuration: frozen, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SparkSettings(Section):
    """The session. `conf` adds any Spark key; `master` is ignored under `riskloom submit`.

    On a cluster: `environment_archive` (deploy/archive.sh builds it) and `jars_archive` are URIs, best
    put on HDFS once; sizes are per container.
    """

    master: str = "local[*]"
    driver_memory: str = "2g"
    shuffle_partitions: Positive = 4
    executors: Positive = 2
    executor_cores: Positive = 1
    executor_memory: str = "2g"
    environment_archive: str | None = None
    jars_archive: str | None = None
    queue: str = "default"
    conf: dict[str, str] = {}


class IdentitySettings(Section):
    """How a source's person id becomes a person key. `pattern`'s first group (or match) is the id."""

    namespace: Name
    case: Literal["upper", "lower", "keep"] = "keep"
    separator: str = "-"
    pattern: str = r"^.+$"
    key_uri: str = "{lake}.keys/identity.key"
    create: bool = False

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern


class SigningSettings(Section):
    """The ed25519 key (PEM) that signs bundles."""

    key_uri: str = "{lake}.keys/signing.key"
    create: bool = False


class TrustSettings(Section):
    """The public keys (PEM) whose bundles may be used."""

    public_keys: list[str] = ["{lake}.keys/signing.pub"]


class GenomicsSettings(Section):
    """VCF files. `gene_field` and `consequence_field` name INFO keys that annotate a variant.

    `somatic` genotypes are written where a tumour carries the variant: absence is not reference,
    and call rate or HWE mean nothing.
    """

    paths: list[str]
    build: Literal["GRCh37", "GRCh38"]
    gene_field: str | None = None
    consequence_field: str | None = None
    somatic: bool = False


class TimeMapping(Section):
    """A time from columns: a date `column` in `format` (Java's letters: dd.MM.yyyy, yyyy-MM-dd HH:mm), or
    1 July of a `year` column; then `plus_days`."""

    column: str | None = None
    format: str = "yyyy-MM-dd"
    year: str | None = None
    plus_days: str | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.column is None) == (self.year is None):
            raise ValueError("give either column or year")
        return self

    @field_validator("format")
    @classmethod
    def _of_java(cls, value: str) -> str:
        if "%" in value or not re.search("[yu]", value):
            raise ValueError("expected a date pattern in Java's letters, such as dd.MM.yyyy or yyyy-MM-dd HH:mm")
        return value


class PersonMapping(Section):
    """The columns that describe a person. `sex` values are mapped to male, female or unknown."""

    birth_date: TimeMapping | None = None
    sex: str | None = None
    sex_values: dict[str, Literal["male", "female", "unknown"]] = {}
    ancestry: str | None = None
    observation_start: TimeMapping | None = None
    observation_end: TimeMapping | None = None


class EventMapping(Section):
    """One event from a row. `code` may hold `{column}`; a row without a value in `when_column` gives none.

    `value_range` are the possible values (inclusive); a value outside is refused. `known_at` says
    when the source had it, by default `time` + `lag_days`.
    """

    code: str
    time: TimeMapping
    value: str | None = None
    unit: str | None = None
    text: str | None = None
    when_column: str | None = None
    when_values: list[str] = []
    value_range: tuple[float, float] | None = None
    known_at: TimeMapping | None = None
    lag_days: int = 0


class ClinicalSource(Section):
    """A delimited text file with a header, and what its rows mean."""

    name: Name
    path: str
    delimiter: str = ","
    nulls: list[str] = [""]
    person_id: str
    person: PersonMapping | None = None
    events: list[EventMapping] = []


class ClinicalSettings(Section):
    """Clinical sources; dates outside the two bounds are impossible and refused."""

    sources: list[ClinicalSource]
    earliest: date = date(1900, 1, 1)
    latest: date


class ImagingSettings(Section):
    """DICOM files found by `paths` (globs below the raw root)."""

    paths: list[str]


class CohortSettings(Section):
    """Who is in, and when each person's clock starts.

    `index_date` fixes one date for all; `index_event` takes each person's first event of that code.
    """

    index_date: date | None = None
    index_event: str | None = None
    observed_days_before: int = 0
    minimum_age_years: float = 0

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.index_date is None) == (self.index_event is None):
            raise ValueError("give either index_date or index_event")
        return self


class OutcomeSettings(Section):
    """What is predicted, within `horizon_days` of the index.

    `code`: the first such event after the index and under observation; people who had it before are left
    out. A binary one leaves out people who were lost before the horizon without it, a survival one censors
    them.
    `genes`: a binary label, carrying a non-silent variant in one of them; known at the index.
    `revealed_by`: other event codes that give the label away and so cannot be features.
    """

    name: Name
    kind: Literal["binary", "survival"]
    code: str | None = None
    genes: list[str] = []
    revealed_by: list[str] = []
    silent_consequences: list[str] = ["Silent"]
    horizon_days: Positive
    intervals: Positive = 8

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.code is None) == (not self.genes):
            raise ValueError("give either code or genes")
        if self.genes and self.kind == "survival":
            raise ValueError("a gene label has no time: kind must be binary")
        return self


class GenomicFeatures(Section):
    """`variants` by rsid: ALT counts. `genes`: number of non-silent PASS variants carried."""

    variants: list[str] = []
    genes: list[str] = []
    total_burden: bool = False
    silent_consequences: list[str] = ["Silent"]


class ClinicalFeature(Section):
    """One number per person from events at or before the index.

    `aggregate`: age (years; no code), sex (1 = male; no code), last, mean, count, any (1 or 0), and
    is (1 when the last text value equals `text`, 0 when another). Without an event: count and any
    give 0, the others are missing.
    """

    name: Name
    aggregate: Literal["age", "sex", "last", "mean", "count", "any", "is"]
    code: str | None = None
    text: str | None = None
    window_days: Positive | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.code is None) != (self.aggregate in ("age", "sex")):
            raise ValueError("code is for event features, and only for them")
        if (self.text is None) == (self.aggregate == "is"):
            raise ValueError("text goes with aggregate: is")
        return self


class ImageChannel(Section):
    """One channel: the middle slice of the latest series whose SeriesDescription equals this."""

    series_description: str


class ImagingFeatures(Section):
    """One image per person: `size` x `size` x channels, uint8.

    `baseline` says that images taken after the index count too (where only their order is unsure).
    """

    size: Annotated[int, Field(ge=8, le=512)] = 32
    channels: list[ImageChannel]
    baseline: bool = False


class FeatureSettings(Section):
    """The features by modality, and the share of events that may be hidden as not yet available."""

    genomics: GenomicFeatures | None = None
    clinical: list[ClinicalFeature] = []
    imaging: ImagingFeatures | None = None
    maximum_hidden_share: Fraction = 0.2


class SplitSettings(Section):
    """Shares of people; the seed decides who. `folds` > 0 adds cross-validation."""

    held_out: Fraction = 0.2
    tuning: Fraction = 0.1
    folds: Annotated[int, Field(ge=0, le=20)] = 0
    seed: Annotated[int, Field(ge=0)] = 1


class ModelSettings(Section):
    """The network and its training, the same on any number of ranks.

    `loss`: hazards (one hazard per interval; any outcome) or cox (partial likelihood, Efron's ties; survival
    only; each update's risk sets are the people of its batch, on all ranks together).
    `batch_size` rows, over all ranks, make one update. To save memory a rank computes its share of them
    in `micro_batches` parts. `learning_rate` holds for `reference_batch_size` rows (null: for any) and grows
    in proportion to the batch (Goyal et al. 2017); it is reached after `warmup_epochs`, in a straight line.
    `positive_weight`: cases weigh so much more while training (balanced: as much as all others together); the
    network's risks are corrected for it.
    `precision`: what the ranks compute in; the finished network is float32. `gradient_compression`: what
    ranks send.
    """

    tower_units: list[Positive] = [16]
    filters: list[Positive] = [8, 16]
    dropout: Fraction = 0.1
    loss: Literal["hazards", "cox"] = "hazards"
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    reference_batch_size: Positive | None = None
    warmup_epochs: Annotated[float, Field(ge=0)] = 0
    clip_norm: Annotated[float, Field(gt=0)] = 5.0
    batch_size: Positive = 256
    micro_batches: Positive = 1
    positive_weight: Literal["balanced"] | Annotated[float, Field(gt=0)] = 1.0
    precision: Literal["float32", "float64", "mixed_float16", "mixed_bfloat16"] = "float32"
    gradient_compression: Literal["none", "fp16"] = "none"
    epochs: Positive = 30
    patience: Positive = 6
    seed: Annotated[int, Field(ge=0)] = 1
    single_modality: bool = False

    @model_validator(mode="after")
    def _cox_takes_a_batch_whole(self) -> Self:
        if self.micro_batches > self.batch_size:
            raise ValueError(f"micro_batches: a batch of {self.batch_size} rows has no {self.micro_batches} parts")
        if self.loss == "cox" and self.micro_batches > 1:
            raise ValueError("loss: cox needs the risk sets of the whole batch: micro_batches must be 1")
        if self.loss == "cox" and self.positive_weight != 1:
            raise ValueError("loss: cox compares cases with those at risk: positive_weight must be 1")
        return self


class Range(Section, Generic[Number]):
    """Numbers from `low` to `high`, both included; `log` draws their order of magnitude evenly."""

    low: Number
    high: Number
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, not {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"with log, low must be above 0, not {self.low}")
        return self


class _Space(Section):
    """What a search may try: a list of choices, or for a number a range, by key of `model`."""

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.wanted():
            raise ValueError(f"name at least one key of model: {', '.join(type(self).model_fields)}")
        return self

    def wanted(self) -> dict[str, Any]:
        """The choices (a list) or the Range of each key that is searched."""
        named = {key: getattr(self, key) for key in type(self).model_fields}
        return {key: values for key, values in named.items() if values is not None}

    def extremes(self) -> Iterator[tuple[str, Any]]:
        """Every choice and both ends of every range, by key."""
        for key, values in self.wanted().items():
            for value in (values.low, values.high) if isinstance(values, Range) else values:
                yield key, value


def _searchable(field: FieldInfo) -> Any:
    """Choices and ranges of what this key of `model` accepts, with its bounds."""
    value: Any = field.rebuild_annotation()
    choices = Annotated[list[value], Field(min_length=1)]
    if field.annotation not in (int, float):
        return choices
    # Tags in brackets are left out of the path that an error names.
    branches = Annotated[choices, Tag("(choices)")] | Annotated[Range[value], Tag("(range)")]
    return Annotated[branches, Discriminator(_branch)]


def _branch(given: Any) -> str:
    return "(range)" if isinstance(given, dict | Range) else "(choices)"


# The tuning losses of two kinds of `loss` cannot be compared, a `seed` would be a choice among lucky draws, and
# the other two change nothing that is scored.
NOT_SEARCHED = ("loss", "seed", "micro_batches", "single_modality")
SearchSpace: Any = create_model(  # type: ignore[call-overload]
    "SearchSpace",
    __base__=_Space,
    **{
        key: (_searchable(field) | None, None)
        for key, field in ModelSettings.model_fields.items()
        if key not in NOT_SEARCHED
    },
)


class SearchSettings(Section):
    """What `riskloom search_model` tries: the settings of `model` as they are, then others from `space`.

    Of a task with folds each trial trains the first `rounds`. `seed` decides what is tried.
    """

    trials: Positive = 20
    rounds: Positive = 1
    seed: Annotated[int, Field(ge=0)] = 1
    space: SearchSpace


class LaunchSettings(Section):
    """How ranks start, and when they are given up. `slots_timeout_seconds`: how long missing slots are waited
    for. A rank without a sign of life for `rank_timeout_seconds` was stopped; ranks that live but get on with
    no step for `stall_timeout_seconds` hang. Both end the job. A killed training loses `checkpoint_seconds`
    at most (0: a checkpoint after each step)."""

    launcher: Literal["local", "horovodrun", "spark"] = "local"
    ranks: Positive = 2
    slots_timeout_seconds: Positive = 45
    # A rank beats every 3 s; less than this would take a busy machine for a dead one.
    rank_timeout_seconds: Annotated[int, Field(ge=10)] = 60
    stall_timeout_seconds: Annotated[int, Field(ge=10)] = 600
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 30


class BaselineSettings(Section):
    """The baselines beside every model; above `max_rows` they take a seeded sample, and say so."""

    max_rows: Positive = 200_000
    penalty: float = 0.1


class ScoringSettings(Section):
    """The scoring date, and the ascending risk thresholds between the bands."""

    as_of: date
    bands: dict[str, Fraction] = {"low": 0.0, "medium": 0.1, "high": 0.3}
    reasons: Positive = 3


class TaskSettings(Section):
    """One prediction task: a cohort, an outcome, features and a model. Its tables carry its name."""

    name: Name
    cohort: CohortSettings
    outcome: OutcomeSettings
    features: FeatureSettings
    split: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    search: SearchSettings | None = None
    scoring: ScoringSettings

    @property
    def without_search(self) -> Self:
        """What a training depends on: the search only advises whoever writes `model`."""
        return self.model_copy(update={"search": None})

    @model_validator(mode="after")
    def _cox_needs_times(self) -> Self:
        if self.model.loss == "cox" and self.outcome.kind != "survival":
            raise ValueError("model.loss: cox needs outcome.kind: survival")
        return self

    @model_validator(mode="after")
    def _label_is_no_feature(self) -> Self:
        codes = {feature.code for feature in self.features.clinical if feature.code}
        leaked = sorted(codes & {self.outcome.code, *self.outcome.revealed_by})
        if self.features.genomics and self.outcome.genes:
            wanted = set(self.features.genomics.genes) & set(self.outcome.genes)
            leaked += sorted(wanted) or (["total_burden"] if self.features.genomics.total_burden else [])
        if leaked:
            names = ", ".join(leaked)
            raise ValueError(f"{names} defines the outcome {self.outcome.name} and cannot be its feature")
        return self

    @model_validator(mode="after")
    def _search_fits_the_model(self) -> Self:
        for key, value in self.search.space.extremes() if self.search else ():
            try:
                ModelSettings.model_validate(self.model.model_dump() | {key: value})
            except ValidationError as error:
                why = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(f"search.space.{key}: {value} does not go with model: {why}") from None
        return self

    @model_validator(mode="after")
    def _rounds_are_there(self) -> Self:
        if self.search and self.search.rounds > max(1, self.split.folds):
            raise ValueError(
                f"search.rounds: {self.search.rounds} are wanted, and split.folds is {self.split.folds}"
            )
        return self


class TrackingSettings(Section):
    """Where the submitting side writes trainings: MLflow's `uri`, TensorBoard's folder; null writes none."""

    uri: str | None = "sqlite:///{lake_path}.mlflow.db"
    tensorboard: str | None = "{lake_path}.tensorboard"


class Settings(Section):
    """One study, whole."""

    name: Name
    raw: str
    lake: str
    spark: SparkSettings = SparkSettings()
    identity: IdentitySettings
    signing: SigningSettings = SigningSettings()
    trust: TrustSettings = TrustSettings()
    genomics: GenomicsSettings | None = None
    clinical: ClinicalSettings
    imaging: ImagingSettings | None = None
    tasks: Annotated[list[TaskSettings], Field(min_length=1)]
    launch: LaunchSettings = LaunchSettings()
    baseline: BaselineSettings = BaselineSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [task.name for task in self.tasks]
        if len(set(names)) < len(names):
            raise ValueError("tasks: two tasks have the same name")
        for task in self.tasks:
            if task.features.genomics and self.genomics is None:
                raise ValueError(f"tasks.{task.name}.features.genomics: there is no genomics section")
            if task.features.imaging and self.imaging is None:
                raise ValueError(f"tasks.{task.name}.features.imaging: there is no imaging section")
            for key, value in task.search.space.extremes() if task.search else ():
                if key == "batch_size" and value < self.launch.ranks:
                    raise ValueError(
                        f"tasks.{task.name}.search.space.batch_size: {self.launch.ranks} ranks (launch.ranks) "
                        f"cannot share a batch of {value} rows"
                    )
        return self

    def task(self, name: str) -> TaskSettings:
        return next(task for task in self.tasks if task.name == name)
