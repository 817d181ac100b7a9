import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from features.simulation.genomes import PANEL_SITES, panel_dosages
from features.simulation.people import Study
from features.simulation.raw_zone import World, draw_world
from features.simulation.records import OUTCOME

STUDY = Study()


@pytest.fixture(scope="module")
def world() -> World:
    return draw_world(4000, 1, STUDY)


def ill_within_horizon(world: World) -> np.ndarray:
    return world.onset <= STUDY.index + STUDY.horizon_days


def test_the_true_risk_ranks_people_well_but_not_perfectly(world: World) -> None:
    assert 0.82 < roc_auc_score(ill_within_horizon(world), world.true.risk) < 0.87


def test_the_true_risk_is_calibrated(world: World) -> None:
    assert ill_within_horizon(world).mean() == pytest.approx(world.true.risk.mean(), abs=0.02)


def test_each_modality_carries_about_the_same_risk(world: World) -> None:
    for part in (world.true.genomic, world.true.clinical, world.true.imaging):
        assert 0.85 < part.std() < 1.2
        assert 0.62 < roc_auc_score(ill_within_horizon(world), part) < 0.76
    assert abs(np.corrcoef(world.true.genomic, world.true.imaging)[0, 1]) < 0.06


def test_a_plain_model_of_what_was_observed_comes_near_the_true_risk(world: World) -> None:
    dosages = np.full((4000, len(PANEL_SITES)), np.nan)
    dosages[world.people.has_genome] = panel_dosages(world.contigs)
    burden = np.full(4000, np.nan)
    burden[world.people.has_image] = world.photographs.burden
    features = np.column_stack([dosages, *world.inputs.values(), burden])
    features -= np.nanmean(features, axis=0)
    features = np.nan_to_num(features / np.nanstd(features, axis=0))
    ill = ill_within_horizon(world)
    model = LogisticRegression(C=0.1).fit(features[:2800], ill[:2800])
    reached = roc_auc_score(ill[2800:], model.predict_proba(features[2800:])[:, 1])
    assert reached == pytest.approx(roc_auc_score(ill[2800:], world.true.risk[2800:]), abs=0.015)


def test_whoever_lacks_a_modality_has_no_risk_from_it(world: World) -> None:
    assert not world.true.genomic[~world.people.has_genome].any()
    assert not world.true.imaging[~world.people.has_image].any()


def test_blood_sugar_after_the_index_gives_the_disease_away(world: World) -> None:
    events, ill = world.events, ill_within_horizon(world)
    later = (events.code == "LAB//hba1c") & (events.day > STUDY.index)
    average = np.bincount(events.person[later], events.value[later], 4000) / np.maximum(
        np.bincount(events.person[later], minlength=4000), 1
    )
    seen = average > 0
    assert roc_auc_score(ill[seen], average[seen]) > 0.85


def test_the_outcome_is_never_recorded_outside_observation(world: World) -> None:
    events, people = world.events, world.people
    outcome = events.code == OUTCOME
    person, day = events.person[outcome], events.day[outcome]
    assert ((people.observed_from[person] <= day) & (day <= people.observed_to[person])).all()
    assert len(np.unique(person)) > 900
