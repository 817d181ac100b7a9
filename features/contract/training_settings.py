"""What a configuration may say about training: the network, its launch, the search and the baselines."""

from collections.abc import Iterator
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Discriminator, Field, Tag, create_model, model_validator
from pydantic.fields import FieldInfo

from features.contract.section import Fraction, Positive, Section

Number = TypeVar("Number", int, float)


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

    @model_validator(mode="before")
    @classmethod
    def _may_be_searched(cls, given: Any) -> Any:
        for key in NOT_SEARCHED.keys() & given.keys() if isinstance(given, dict) else ():
            raise ValueError(f"{key} is not searched: {NOT_SEARCHED[key]}")
        return given

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


NOT_SEARCHED = {
    "loss": "the tuning losses of two kinds cannot be compared",
    "seed": "it would be a choice among lucky draws",
    "micro_batches": "it changes nothing that is scored",
    "single_modality": "it changes nothing that is scored",
}
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
