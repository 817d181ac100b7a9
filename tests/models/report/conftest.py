"""A little finished study: two tasks, a run of every job, signed bundles, predictions."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake

from features.contract.manifest import Manifest
from features.contract.paths import Location
from features.contract.runs import Run, Runs, append_run, lake_uri
from features.contract.schemas import PREDICTIONS
from features.contract.settings import Settings
from models import registry
from models.evaluate.results import Evaluation, Metrics
from models.evaluate.summary import Outcomes, compare, summarise
from models.registry import FILES, ensure_signing_key, write_bundle
from models.report import build_report

AS_OF = date(2020, 1, 1)
BALANCE = {"records": 1000, "expanded": 40, "used": 1020, "merged": 8, "quarantined": {"no_time": 7, "cut": 5}}
ESTIMATE = {"value": 0.812, "low": 0.78, "high": 0.84, "n": 800, "events": 213}
FUNCTIONAL = {"class_name": "Functional", "module": "keras.src.models.functional", "registered_name": "Functional"}


@dataclass
class Study:
    """What a test may change before it asks for the report."""

    lake: Location
    settings: Settings
    manifest: Manifest
    metrics: dict[str, Metrics]
    counts: dict[str, dict[str, Any]]
    predictions: list[dict[str, Any]] = field(default_factory=list)
    bundles: dict[str, str] = field(default_factory=dict)

    def publish(self) -> "Study":
        ensure_signing_key(self.settings.signing, self.settings.trust)
        for task, metrics in self.metrics.items():
            files = {name: name.encode() for name in FILES} | {
                registry.ARCHITECTURE: json.dumps(FUNCTIONAL).encode(),
                registry.MANIFEST: self.manifest.to_bytes(),
                registry.METRICS: metrics.model_dump_json().encode(),
            }
            self.bundles[task] = write_bundle(self.lake, task, files, self.settings.signing)
        rows = [row | {"model_version": self.bundles[row["model"]]} for row in self.predictions]
        table = pa.Table.from_pylist(rows, schema=PREDICTIONS.schema)
        write_deltalake(lake_uri(self.lake, PREDICTIONS.path), table)
        self._append_runs()
        return self

    def report(self) -> dict[str, str]:
        files = build_report(self.lake, Runs.read(self.lake), self.settings)
        return {name: data.decode() for name, data in files.items()}

    def _append_runs(self) -> None:
        tasks = [task.name for task in self.settings.tasks]
        tables = {"ingest_clinical": ["events"], "ingest_genomics": ["variants"], "ingest_imaging": ["images"]}
        made = [f"{kind}/{task}" for task in tasks for kind in ("training", "population")]
        raw = dict.fromkeys(("events", "variants", "images"), 1)
        steps = [
            *((job, {}, dict.fromkeys(wrote, "1")) for job, wrote in tables.items()),
            ("build_features", raw, dict.fromkeys(made, "1")),
            ("train_model", {f"training/{t}": 1 for t in tasks}, {f"models/{t}": self.bundles[t] for t in tasks}),
            ("score_population", {f"population/{t}": 1 for t in tasks}, {"predictions": "0"}),
        ]
        for minute, (job, read, wrote) in enumerate(steps):
            started = datetime(2020, 1, 2, 3, minute, tzinfo=UTC)
            run = Run(f"{minute:032x}", job, started, "c" * 64, "i" * 64, "0.1.0+abc", read, wrote)
            run = Run(**{**_fields(run), "counts": self.counts.get(job, {})})
            append_run(self.lake, Run(**{**_fields(run), "finished": started + timedelta(seconds=9)}))


@pytest.fixture
def study(lake: Location, little_manifest: Callable[..., Manifest]) -> Study:
    settings = little_settings(lake)
    return Study(
        lake,
        settings,
        little_manifest(),
        {
            "diabetes": metrics_of("diabetes", "binary", imaging_helps=False),
            "stroke": metrics_of("stroke", "survival", imaging_helps=True),
        },
        {
            "ingest_genomics": {"balances": {"chr21": BALANCE}, "samples": 600},
            "ingest_clinical": {"balances": {"diagnoses": BALANCE, "laboratory": BALANCE | {"used": 1019}}},
            "ingest_imaging": {"balances": {"/raw/Jane_Doe/scan.dcm": BALANCE}},
            "build_features": {
                "diabetes": {
                    "persons": 640,
                    "excluded": {"too young": 40},
                    "cohort": 600,
                    "splits": {"train": {"rows": 420, "events": 90, "clinical": 420, "imaging": 210}},
                },
                "stroke": {"persons": 640, "cohort": 600, "images_after_index": 3},
            },
            "train_model": {
                task: {"rows": {"train": 420}, "held_out": {"model": {"auroc": ESTIMATE}}}
                for task in ("diabetes", "stroke")
            },
            "score_population": {task: {"scored": 560, "ineligible": 40} for task in ("diabetes", "stroke")},
        },
        [*predictions("diabetes"), *predictions("stroke")],
    )


@pytest.fixture
def published(study: Study) -> Study:
    return study.publish()


@cache
def metrics_of(task: str, kind: str, imaging_helps: bool) -> Metrics:
    """Held-out people with truly simulated risks, judged by the code that judges real ones."""
    random = np.random.default_rng(7)
    truth = random.normal(-1.2, 1.1, 800)
    case = random.random(800) < 1 / (1 + np.exp(-truth))
    times = np.where(case, random.uniform(1, 365, 800), 365.0)
    outcomes = Outcomes(case, np.ones(800), *((times, case) if kind == "survival" else ()))
    noise = {
        "model": 0.2,
        "only_clinical": 1.5 if imaging_helps else 0.21,
        "logistic": 0.25,
        "baseline_imaging": 4,
    }
    risks = {name: 1 / (1 + np.exp(-truth + random.normal(0, sd, 800))) for name, sd in noise.items()}
    both, seed = ["clinical", "imaging"], 3
    predictors = [
        summarise("model", "model", both, risks["model"], outcomes, seed=seed),
        summarise("only_clinical", "single_modality", ["clinical"], risks["only_clinical"], outcomes, seed=seed),
        summarise("logistic", "baseline", both, risks["logistic"], outcomes, seed=seed),
        summarise(
            "baseline_imaging", "single_modality_baseline", ["imaging"], risks["baseline_imaging"], outcomes, "cox"
        ),
    ]
    evaluation = Evaluation(
        evaluation="held_out",
        n=800,
        events=outcomes.n_events,
        censored=0,
        primary=outcomes.primary,
        best_baseline="logistic",
        predictors=predictors,
        differences=[d for name in noise if name != "model" if (d := compare("model", name, risks, outcomes))],
    )
    crossed = evaluation.model_copy(update={"evaluation": "cross_validation", "n": 790})
    return Metrics(
        task=task,
        outcome=task,
        kind=kind,
        horizon_days=365,
        modalities=both,
        evaluations=[evaluation, crossed] if kind == "binary" else [evaluation],
        notes=["train: baselines were fitted on a seeded sample of 200 of 420 people"],
    )


def predictions(task: str) -> list[dict[str, Any]]:
    """560 scored, 40 too young; and a row of an older date that is not of this report."""
    risks = np.random.default_rng(5).beta(1.2, 6, 560)
    found = [_prediction(task, f"{i:064x}", risk) for i, risk in enumerate(risks)]
    found += [_prediction(task, f"{i:064x}", None) for i in range(600, 640)]
    return [*found, _prediction(task, "0" * 64, 0.5) | {"as_of": date(2019, 1, 1)}]


def _prediction(task: str, person: str, risk: float | None) -> dict[str, Any]:
    scored = risk is not None
    return {
        "person_key": person,
        "as_of": AS_OF,
        "model": task,
        "outcome": task,
        "horizon_days": 365,
        "status": "scored" if scored else "ineligible",
        "reason": None if scored else "too young",
        "risk": risk,
        "risk_low": risk * 0.9 if scored else None,
        "risk_high": min(1, risk * 1.1) if scored else None,
        "band": ("high" if risk >= 0.3 else "medium" if risk >= 0.1 else "low") if scored else None,
        "top_reasons": [],
        "feature_version": "f",
        "run_id": f"{5:032x}",
        "scored_at": datetime(2020, 1, 2, tzinfo=UTC),
    }


def little_settings(lake: Location) -> Settings:
    keys = f"{lake.uri}.keys"
    task = {
        "cohort": {"index_date": "2019-01-01"},
        "features": {
            "clinical": [{"name": "age", "aggregate": "age"}],
            "imaging": {"channels": [{"series_description": "T1"}]},
        },
        "scoring": {"as_of": AS_OF},
    }
    outcomes = {"diabetes": "binary", "stroke": "survival"}
    return Settings.model_validate(
        {
            "name": "little_study",
            "raw": "file:///data/hospital/Jane_Doe",
            "lake": lake.uri,
            "identity": {"namespace": "tests", "key_uri": f"{keys}/identity.key"},
            "signing": {"key_uri": f"{keys}/signing.key", "create": True},
            "trust": {"public_keys": [f"{keys}/signing.pub"]},
            "clinical": {"latest": "2020-01-01", "sources": []},
            "imaging": {"paths": ["imaging/**/Jane_Doe.dcm"]},
            "spark": {"conf": {"spark.ssl.keyPassword": "hunter2", "spark.executor.cores": "2"}},
            "tasks": [
                {**task, "name": name, "outcome": {"name": name, "kind": kind, "code": "X", "horizon_days": 365}}
                for name, kind in outcomes.items()
            ],
        }
    )


def _fields(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in Run.__slots__}
