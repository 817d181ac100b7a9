"""What a configuration may say: every key, its type and its default, checked before anything starts.

One YAML file describes one study. `load_settings` lays the profile, the file and the `--set`
overrides over each other and returns one frozen object; errors name file, line, key, what was
expected and the nearest known key.
"""

import re
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from features.contract.section import Fraction, Name, Positive, Section
from features.contract.training_settings import BaselineSettings, LaunchSettings, ModelSettings, SearchSettings

Modality = Literal["genomics", "clinical", "imaging"]


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


Sex = Literal["male", "female", "unknown"]


HalfCalls = Literal["error", "missing", "haploid", "reference"]
"""What `./1` means: nothing that can be trusted, no call, a haploid call of allele 1, or `0/1` (as in
`plink2 --vcf-half-call`)."""

Dosage = Literal["DS", "GP"]
"""FORMAT keys of imputed genotypes: the expected count of each ALT, or the probability of each genotype."""

Measure = Literal["DP", "GQ", "AD"]
"""FORMAT keys of how a call was made: from how many reads, how sure it is, and how many reads have each allele."""

InfoKey = Annotated[str, Field(pattern=r"^([A-Za-z_][0-9A-Za-z_.]*|1000G)$")]


class SampleTable(Section):
    """A delimited file with a header that says something of samples: `id` is their column (a .psam file as it
    stands)."""

    path: str
    delimiter: str = "\t"
    id: str = "#IID"


class SampleSexes(SampleTable):
    """Each sample's recorded sex. `values` are compared without case; one that is not among them stops the job."""

    sex: str = "SEX"
    values: dict[str, Sex] = {
        **dict.fromkeys(("1", "M", "male"), "male"),
        **dict.fromkeys(("2", "F", "female"), "female"),
        **dict.fromkeys(("0", "-9", "NA", "unknown", ""), "unknown"),
    }


Build = Literal["NCBI36", "GRCh37", "GRCh38"]
"""Of a scoring file: hg18, hg19 and hg38."""


class ScoreDevelopment(Section):
    """A CSV file below the raw root that says on which cohorts each score was developed, as the PGS Catalog's
    metadata of score development samples; `cohorts` are the study's own, as they are written there."""

    path: str
    cohorts: Annotated[list[str], Field(min_length=1)]
    id: str = "Polygenic Score (PGS) ID"
    column: str = "Cohort(s)"


class PolygenicSettings(Section):
    """Scoring files of the PGS Catalog below the raw root. A score is left out if fewer than `minimum_overlap` of
    its lines were matched; A/T and C/G variants are, unless `keep_ambiguous` says that both sides are of
    one strand.

    `chains`: for each other build that files may be of, a UCSC chain file below the raw root by which their lines
    are lifted over; files of a build without one are refused. `development`: of a score that was developed on the
    study's own cohort is warned."""

    paths: list[str]
    chains: dict[Build, str] = {}
    minimum_overlap: Fraction = 0.75
    keep_ambiguous: bool = False
    development: ScoreDevelopment | None = None


class SampleGroup(SampleTable):
    """The samples that have one of `values` in `column`: controls, or people of one ancestry."""

    column: str
    values: Annotated[list[str], Field(min_length=1)]


class QualitySettings(Section):
    """What samples and variants must have to be used, judged in this order; a limit that is not given excludes
    nothing.

    `pass_only`: no variant with a reason in FILTER. Then the samples' call rate; then, over the samples that
    are left, the variants' call rate, HWE p (in `hwe_group`, by default in all), the frequency of the rarer
    allele and MaCH's R2, as `plink2 --var-filter --mind --geno --hwe --maf --mach-r2-filter`; and IMPUTE's INFO.
    What has no such number, on X, Y and MT or where nothing varies, is not judged by the last two.
    """

    pass_only: bool = True
    minimum_sample_call_rate: Fraction | None = None
    minimum_variant_call_rate: Fraction | None = None
    minimum_hwe_exact_p: Fraction | None = None
    minimum_hwe_mid_p: Fraction | None = None
    minimum_allele_frequency: Annotated[float, Field(gt=0, lt=0.5)] | None = None
    minimum_mach_r2: Fraction | None = None
    minimum_impute_info: Fraction | None = None
    hwe_group: SampleGroup | None = None

    @model_validator(mode="after")
    def _group_is_tested(self) -> Self:
        if self.hwe_group and self.minimum_hwe_exact_p is None and self.minimum_hwe_mid_p is None:
            raise ValueError("hwe_group: give minimum_hwe_exact_p or minimum_hwe_mid_p, which is judged in it")
        return self


class RelativesSettings(Section):
    """Pairs of people with a KING kinship of `minimum_kinship` or more are relatives: 0.0884 is the second degree
    (0.354 one person twice, 0.177 the first, 0.0442 the third). It is estimated from all autosomal variants that
    may be used, but from about `most_variants` of them, by a hash, where there are more. A pair with fewer than
    `minimum_variants` called in both is not compared: of strangers, a hundred variants make one pair in ten
    relatives of the second degree, 1,200 one in ten thousand."""

    minimum_kinship: Annotated[float, Field(gt=0, le=0.5)] = 0.0884
    minimum_variants: Positive = 1_000
    most_variants: Positive = 100_000

    @model_validator(mode="after")
    def _has_enough(self) -> Self:
        if self.most_variants < 2 * self.minimum_variants:
            raise ValueError("most_variants: expected at least twice minimum_variants")
        return self


class PopulationLabels(SampleTable):
    """The population of each person of a reference panel, in `column`; who has none there is no reference."""

    column: str


class AncestrySettings(Section):
    """Principal components of variants whose rarer allele has `minimum_allele_frequency`, of which no two within
    `window` bases have an r2 above `most_r2`, and of about `most_variants` of these, by a hash, where there are
    more. With `populations`, a person is of the one whose probability is `minimum_probability` or more.

    The axes are made once and stay, so that components mean the same for those who come later; another number
    in `axes`, or another setting but `minimum_probability`, makes them anew.
    """

    components: Annotated[int, Field(ge=1, le=50)] = 10
    minimum_allele_frequency: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    window: Annotated[int, Field(ge=1_000, le=10_000_000)] = 500_000
    most_r2: Annotated[float, Field(gt=0, lt=1)] = 0.2
    most_variants: Annotated[int, Field(ge=100, le=200_000)] = 100_000
    populations: PopulationLabels | None = None
    minimum_probability: Annotated[float, Field(gt=0.5, lt=1)] = 0.9
    axes: int = 1


class GenomicsSettings(Section):
    """VCF, BCF, BGEN and PLINK files. `gene_field` and `consequence_field` name the INFO keys that annotate.

    `sexes`: without it, and a .fam, .psam or .sample that tells them, calls on X count as everyone's with two
    copies, and those on Y not at all.
    `reference` is a FASTA file below the raw root, with its .fai: a REF that disagrees is refused, and indels
    are moved to the left. `half_calls`: what `./1` is; `error` refuses its line. `somatic` genotypes are
    written where a tumour carries the variant: absence is not reference, and call rate or HWE mean nothing.
    `dosages`: the FORMAT key that tells dosages in VCF and BCF; where it does, they make the calls, as in
    `plink2 --vcf dosage=`. (A BGEN always tells its dosages, and a .pgen those that it has.)
    `info`: INFO keys of VCF, BCF and .pvar whose values `variants` keeps, as their headers type them; of a variant
    in several batches those of one, that sort first. `measures`: FORMAT keys of VCF and BCF that are summed up for
    each variant and sample.
    `genes`: a BED file whose regions' names are the genes of the variants there, instead of `gene_field`.
    `jointly_called`: globs of files whose samples were called together with all others: of a site that their batch
    lacks, on a contig of which it has some, everyone there is REF. Of other batches it is missing.
    `strict` refuses files of which any line is not as the VCF specification has it; it reads them once more.
    """

    paths: list[str]
    build: Literal["GRCh37", "GRCh38"]
    sexes: SampleSexes | None = None
    reference: str | None = None
    genes: str | None = None
    quality: QualitySettings | None = None
    scores: PolygenicSettings | None = None
    relatives: RelativesSettings | None = None
    ancestry: AncestrySettings | None = None
    half_calls: HalfCalls = "error"
    dosages: Dosage | None = None
    info: list[InfoKey] = []
    measures: list[Measure] = []
    gene_field: str | None = None
    consequence_field: str | None = None
    jointly_called: list[str] = []
    somatic: bool = False
    strict: bool = False

    @field_validator("build", mode="before")
    @classmethod
    def _by_its_name(cls, build: Any) -> Any:
        at_ucsc = {"hg19": "GRCh37", "hg38": "GRCh38"}
        if build in at_ucsc:
            raise ValueError(f"{build} is UCSC's name of {at_ucsc[build]}; write that")
        return build

    @property
    def usable(self) -> dict[str, str]:
        """The tables of what may be used, by what they are: quality control leaves some of its own."""
        own = ("variants", "samples") if self.quality else ()
        return {table: f"qc_{table}" if table in own else table for table in ("variants", "genotypes", "samples")}

    def without(self, *sections: str) -> Self:
        """What is left for a job that these sections say nothing to."""
        return self.model_copy(update=dict.fromkeys(sections))

    @property
    def leaves_out_the_rare(self) -> bool:
        return self.quality is not None and self.quality.minimum_allele_frequency is not None

    @property
    def names_genes(self) -> bool:
        return self.gene_field is not None or self.genes is not None

    @model_validator(mode="after")
    def _one_source_of_genes(self) -> Self:
        if self.gene_field is not None and self.genes is not None:
            raise ValueError("give either gene_field or genes")
        return self

    @model_validator(mode="after")
    def _chains_from_other_builds(self) -> Self:
        if self.scores and self.build in self.scores.chains:
            raise ValueError(
                f"scores.chains: {self.build} is genomics.build itself; name chains from other builds"
            )
        return self

    @model_validator(mode="after")
    def _germline(self) -> Self:
        if self.somatic and self.quality:
            raise ValueError("quality: call rates and HWE mean nothing where genotypes are somatic")
        if self.somatic and (self.relatives or self.ancestry):
            raise ValueError("relatives, ancestry: what tumours acquired tells neither; give germline genotypes")
        return self


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
    sex_values: dict[str, Sex] = {}
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


class OwnScore(Section):
    """A score of the task's own: the variants whose p of association with the outcome in the training people is
    `largest_p` or less, but of those within `kilobases` with an r2 above `most_r2` only the one of smallest p.
    Age, sex and, with `genomics.ancestry`, the principal components are covariates."""

    largest_p: Annotated[float, Field(gt=0, le=1)] = 1e-5
    most_r2: Annotated[float, Field(gt=0, lt=1)] = 0.1
    kilobases: Annotated[int, Field(ge=1, le=10_000)] = 250


class GenomicFeatures(Section):
    """`variants` by rsid: ALT counts. `scores` by name: what `score_genomes` summed. `genes`: number of
    non-silent PASS variants carried."""

    variants: list[str] = []
    scores: list[str] = []
    own_score: OwnScore | None = None
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
    """Shares of people; the seed decides who. `folds` > 0 adds cross-validation. `relatives_together`: a family of
    `genomics.relatives` is on one side of the split, and in one fold."""

    held_out: Fraction = 0.2
    tuning: Fraction = 0.1
    folds: Annotated[int, Field(ge=0, le=20)] = 0
    seed: Annotated[int, Field(ge=0)] = 1
    relatives_together: bool = False

    @model_validator(mode="after")
    def _leaves_people(self) -> Self:
        if self.held_out + self.tuning >= 1:
            raise ValueError("held_out and tuning together must be below 1; no one is left to train on")
        if self.folds in (1, 2):
            raise ValueError(f"folds: {self.folds} leaves no one to train on; expected 0 or at least 3")
        if not self.held_out and not self.folds:
            raise ValueError("held_out and folds are both 0, so nothing could be judged")
        return self


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

    @property
    def counts_by_gene(self) -> bool:
        """Rare variants matter: a burden is a feature, or genes are the outcome."""
        chosen = self.features.genomics
        return bool(self.outcome.genes or (chosen and (chosen.genes or chosen.total_burden)))

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
    def _own_score_is_of_train(self) -> Self:
        if self.features.genomics and self.features.genomics.own_score:
            where = "features.genomics.own_score:"
            if self.outcome.kind != "binary":
                raise ValueError(f"{where} it is made of a binary outcome; leave it out")
            if self.split.folds:
                raise ValueError(
                    f"{where} it is made of everyone in train, with split.folds these are people too on whom a "
                    "fold is judged; leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _search_fits_the_model(self) -> Self:
        for key, value in _tried(self):
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
    """Where the submitting side writes trainings: MLflow's `uri`, TensorBoard's folder on this machine; null
    writes none. By default beside a lake on this machine."""

    uri: str | None = "sqlite:///{lake_path}.mlflow.db"
    tensorboard: str | None = "{lake_path}.tensorboard"

    @field_validator("tensorboard")
    @classmethod
    def _is_local(cls, folder: str | None) -> str | None:
        if folder and "://" in folder:
            raise ValueError(f"expected a folder of this machine or null, not {folder}")
        return folder


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
            if self.genomics and task.counts_by_gene and self.genomics.leaves_out_the_rare:
                raise ValueError(
                    f"genomics.quality.minimum_allele_frequency: it leaves out the rare variants that "
                    f"tasks.{task.name} counts by gene; leave this limit out, or what is counted by gene"
                )
            sizes = [("model.batch_size", task.model.batch_size)]
            sizes += [(f"search.space.{key}", value) for key, value in _tried(task) if key == "batch_size"]
            for key, rows in sizes:
                if rows // task.model.micro_batches < self.launch.ranks:
                    raise ValueError(
                        f"tasks.{task.name}.{key}: {self.launch.ranks} ranks (launch.ranks) cannot share a batch "
                        f"of {rows} rows in {task.model.micro_batches} parts (micro_batches)"
                    )
        return self

    def task(self, name: str) -> TaskSettings:
        return next(task for task in self.tasks if task.name == name)


def _tried(task: TaskSettings) -> list[tuple[str, Any]]:
    """Every choice and both ends of every range of the task's search, by key of `model`."""
    return list(task.search.space.extremes()) if task.search else []
