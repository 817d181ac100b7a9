"""What a network sees of a table."""

import numpy as np
import pyarrow as pa
import pytest

from features.contract.errors import DataGateError
from models.feed.arrays import inputs, survival_targets, targets
from models.feed.columns import decode
from models.feed.schema import Schema
from tests.models.feed import tiny

MODALITIES = ["clinical", "imaging"]


def two_people(kind=None):
    values = [[2.5, None], [7.0, 7.0]]
    return pa.table(
        {
            "x_clinical": pa.array(values, kind or pa.list_(pa.float32())),
            "has_clinical": [True, False],
            "x_imaging": pa.array([bytes(range(64)), bytes(64)], pa.binary()),
            "has_imaging": [True, False],
        }
    )


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.float32(), 2), pa.large_list(pa.float32())])
def test_values_are_standardised_and_missing_ones_flagged(kind):
    meaning = tiny.manifest()
    found = inputs(two_people(kind), meaning, meaning.statistics["train"], MODALITIES)
    np.testing.assert_array_equal(found["clinical"], [[1.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(found["has_clinical"], [[1.0], [0.0]])
    np.testing.assert_allclose(found["imaging"][0].ravel(), np.arange(64) / 255, rtol=1e-6)
    assert not found["imaging"][1].any()
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_a_slice_reads_its_own_rows():
    meaning = tiny.manifest()
    whole = tiny.people(9, meaning)
    modalities = ["clinical", "genomics", "imaging"]
    part = inputs(whole.slice(4, 3), meaning, meaning.statistics["train"], modalities)
    full = inputs(whole, meaning, meaning.statistics["train"], modalities)
    for name, array in part.items():
        np.testing.assert_array_equal(array, full[name][4:7])


@pytest.mark.parametrize(
    ("name", "column"),
    [("x_clinical", pa.array([[1.0], [1.0, 2.0]])), ("x_imaging", pa.array([bytes(64), bytes(3)]))],
)
def test_a_row_of_another_length_is_refused_by_the_columns_name(name, column):
    meaning, table = tiny.manifest(), two_people()
    broken = table.set_column(table.column_names.index(name), name, column)
    with pytest.raises(DataGateError, match=name):
        inputs(broken, meaning, meaning.statistics["train"], MODALITIES)


def test_a_binary_outcome_is_one_interval():
    labels = decode(pa.table({"y_death": pa.array([1, 0], pa.int8())}), Schema(scalars={"y_death": pa.int8()}))
    found = targets(labels, tiny.manifest())
    assert found["events"].tolist() == [[1.0], [0.0]]
    assert found["at_risk"].tolist() == [[1.0], [1.0]]


@pytest.mark.parametrize(
    ("day", "happened", "events", "at_risk"),
    [
        (0, True, [1, 0], [1, 0]),
        (100, True, [1, 0], [1, 0]),
        (101, True, [0, 1], [1, 1]),
        (200, True, [0, 1], [1, 1]),
        (201, True, [0, 0], [1, 1]),
        (50, False, [0, 0], [0, 0]),
        (51, False, [0, 0], [1, 0]),
        (150, False, [0, 0], [1, 0]),
        (151, False, [0, 0], [1, 1]),
    ],
)
def test_an_interval_counts_where_it_was_entered_or_mostly_survived(day, happened, events, at_risk):
    found = survival_targets(np.array([day], float), np.array([happened]), np.array([100.0, 200.0]))
    assert found["events"].tolist() == [events]
    assert found["at_risk"].tolist() == [at_risk]
