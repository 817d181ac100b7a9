"""The network's promises."""

import keras
import numpy as np

from features.contract.training_settings import ModelSettings
from models.architecture import check_architecture
from models.feed.arrays import inputs
from models.train.losses import risk_from_logits
from models.zoo.multimodal import build_network
from tests.models.feed import tiny

MODALITIES = ["clinical", "genomics", "imaging"]


def arrays(meaning, rows=6):
    return inputs(tiny.people(rows, meaning), meaning, meaning.statistics["train"], MODALITIES)


def woken(meaning):
    """A network whose head no longer is all zeros."""
    keras.utils.set_random_seed(3)
    network = build_network(meaning, ModelSettings(), MODALITIES)
    network.set_weights([w + 0.1 * np.random.default_rng(1).normal(size=w.shape) for w in network.get_weights()])
    return network


def test_the_untrained_network_predicts_the_prevalence():
    meaning = tiny.manifest("survival", (100.0, 200.0, 300.0))
    network = build_network(meaning, ModelSettings(), MODALITIES)
    np.testing.assert_allclose(risk_from_logits(network(arrays(meaning)).numpy()), 30.5 / 101, rtol=1e-5)


def test_what_a_person_lacks_does_not_count():
    meaning = tiny.manifest()
    network, given = woken(meaning), arrays(meaning)
    given["has_imaging"][:] = 0
    before = network(given).numpy()
    given["imaging"] = given["imaging"] + 1
    np.testing.assert_array_equal(network(given).numpy(), before)


def test_one_person_does_not_change_another():
    meaning = tiny.manifest()
    network, given = woken(meaning), arrays(meaning)
    alone = network({name: array[:1] for name, array in given.items()}).numpy()
    np.testing.assert_allclose(network(given).numpy()[:1], alone, atol=1e-6)


def test_the_architecture_is_on_the_registrys_closed_list_and_comes_back_from_json():
    meaning = tiny.manifest()
    network = woken(meaning)
    check_architecture(network.to_json().encode(), "architecture.json")
    again = keras.models.model_from_json(network.to_json())
    again.set_weights(network.get_weights())
    np.testing.assert_array_equal(again(arrays(meaning)).numpy(), network(arrays(meaning)).numpy())
