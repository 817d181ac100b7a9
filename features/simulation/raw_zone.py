"""The whole simulated raw zone: drawn in memory, written below one root, with its truth beside it.

<root>/genomics/chr21.vcf.gz ...      <root>/../truth/truth.json    weights, dirt planted, counts
<root>/clinical/persons.csv ...       <root>/../truth/risk.parquet  true risk by person
<root>/imaging/<number>/<n>.dcm
<root>/scores/EARLIER.txt
"""

import io
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.contract.errors import ConfigError
from features.contract.paths import Location
from features.simulation import dirt, files
from features.simulation.disease import Risk, clinical_inputs, draw_onset, true_risk, weights
from features.simulation.genomes import PANEL_SITES, Contig, draw_genomes, panel_dosages
from features.simulation.images import Photographs, draw_photographs
from features.simulation.people import Floats, Ints, People, Study, draw_people
from features.simulation.records import (
    Events,
    draw_aftermath,
    draw_constitution,
    draw_history,
    draw_prevalent,
    join_events,
)

# Raise it when the same seed gives other bytes than before.
VERSION = 3
MARKER = "_simulated.json"
STREAMS = ("people", "genomes", "constitution", "history", "images", "outcome", "aftermath", "writing", "scores")


@dataclass(frozen=True, slots=True)
class World:
    """Everything drawn, before anything is written. `onset` lies beyond the study's end for the healthy."""

    people: People
    contigs: list[Contig]
    photographs: Photographs
    events: Events
    onset: Ints
    inputs: dict[str, Floats]
    true: Risk


@dataclass(frozen=True, slots=True)
class Truth:
    """What `truth.json` says: `planted` is {job: {rule: count}}, `counts` are people and rows."""

    made_with: dict[str, Any]
    weights: dict[str, Any]
    planted: dict[str, dict[str, int]]
    counts: dict[str, int]


def simulate(root: Location, people: int = 4000, seed: int = 1, study: Study | None = None) -> Truth:
    """Write the raw zone below `root` and its truth beside it; the same arguments give the same bytes.

    A zone that these arguments already made is left as it is; one that others made is replaced.
    Raises ConfigError when `root` holds files that no simulation wrote.
    """
    study = study or Study()
    made_with = {
        "version": VERSION,
        "people": people,
        "seed": seed,
        "index_date": study.index_date.isoformat(),
        "horizon_days": study.horizon_days,
    }
    if (truth := load_truth(root)) and truth.made_with == made_with and (root / MARKER).exists():
        return truth
    _clear(root)
    (root / MARKER).write_bytes(_json(made_with))
    world = draw_world(people, seed, study)
    planted = _write_raw(root, world, study, _streams(seed)["writing"])
    files.write_scores(root / "scores", world.contigs, _streams(seed)["scores"])
    truth = Truth(made_with, weights(), planted, _counts(world))
    _write_truth(root, world, truth)
    return truth


def draw_world(count: int, seed: int, study: Study) -> World:
    """People, genomes, records, images and who falls ill, in memory."""
    rng = _streams(seed)
    people = draw_people(count, study, rng["people"])
    contigs = draw_genomes(people.ancestry[people.has_genome], rng["genomes"])
    photographs = draw_photographs(int(people.has_image.sum()), rng["images"])
    life = draw_constitution(people, rng["constitution"])
    history = draw_history(people, life, study, rng["history"])
    inputs = clinical_inputs(people, history, study)
    dosages = np.full((count, len(PANEL_SITES)), np.nan)
    dosages[people.has_genome] = panel_dosages(contigs)
    burden = np.full(count, np.nan)
    burden[people.has_image] = photographs.burden
    true = true_risk(dosages, inputs, burden)
    onset = draw_onset(true.risk, study, rng["outcome"])
    prevalent = draw_prevalent(people, study, rng["outcome"])
    later = draw_aftermath(people, life, onset, study, rng["aftermath"])
    events = join_events([history, prevalent, later])
    return World(people, contigs, photographs, events, onset, inputs, true)


def load_truth(root: Location) -> Truth | None:
    """The truth beside a simulated raw zone; None where no simulation has finished."""
    location = truth_folder(root) / "truth.json"
    return Truth(**json.loads(location.read_bytes())) if location.exists() else None


def load_risk(root: Location) -> pa.Table:
    """`source_id`, `logit`, `risk` and its `genomic`, `clinical` and `imaging` parts, a row per person."""
    return pq.read_table(io.BytesIO((truth_folder(root) / "risk.parquet").read_bytes()))


def truth_folder(root: Location) -> Location:
    """Beside the raw zone, not in it: the truth is not data that anyone could have."""
    return Location(root.uri.rsplit("/", 1)[0]) / "truth"


def _streams(seed: int) -> dict[str, np.random.Generator]:
    """One generator per part, so that a change in one part leaves the others' bytes alone."""
    return {name: np.random.default_rng([seed, number]) for number, name in enumerate(STREAMS)}


def _clear(root: Location) -> None:
    if (root / MARKER).exists():
        root.delete()
    elif any(True for _ in root.files()):
        raise ConfigError(f"{root.uri} holds files that no simulation wrote; give an empty folder as raw")
    (truth_folder(root) / "truth.json").delete()


def _write_raw(root: Location, world: World, study: Study, rng: np.random.Generator) -> dict[str, dict[str, int]]:
    variants = files.write_genomics(root / "genomics", world.people, world.contigs, rng)
    clinical = files.write_clinical(root / "clinical", world.people, world.events, rng)
    images = files.write_imaging(root / "imaging", world.people, world.photographs, study, rng)
    return {
        "ingest_genomics": dirt.total(*variants),
        "ingest_clinical": dirt.total(*clinical),
        "ingest_imaging": images,
    }


def _write_truth(root: Location, world: World, truth: Truth) -> None:
    true = world.true
    table = pa.table(
        {
            "source_id": list(world.people.ids),
            "logit": true.logit,
            "risk": true.risk,
            "genomic": true.genomic,
            "clinical": true.clinical,
            "imaging": true.imaging,
        }
    )
    stream = io.BytesIO()
    pq.write_table(table, stream)
    (truth_folder(root) / "risk.parquet").write_bytes(stream.getvalue())
    # Last: a truth.json says that the simulation finished.
    (truth_folder(root) / "truth.json").write_bytes(_json(asdict(truth)))


def _counts(world: World) -> dict[str, int]:
    people = world.people
    return {
        "people": len(people),
        "with_genome": int(people.has_genome.sum()),
        "with_records": int(people.has_records.sum()),
        "with_image": int(people.has_image.sum()),
        "variants": sum(len(contig.positions) for contig in world.contigs),
        "events": len(world.events),
    }


def _json(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=2) + "\n").encode()
