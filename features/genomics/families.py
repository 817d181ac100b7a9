"""Families, which are people joined by kinship, and the largest set of people of whom no two are relatives."""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.sql import DataFrame
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

ENDS = ["person_key_1", "person_key_2"]
SCHEMA = pa.schema([("person_key", pa.string()), ("family", pa.string()), ("unrelated", pa.bool_())])
Edges = npt.NDArray[np.int64]


def families(pairs: DataFrame) -> DataFrame:
    """`person_key, family, unrelated` of everyone in `pairs` (`person_key_1, person_key_2`).

    `family` is the smallest key of those who are joined by any chain of pairs. One task sees all pairs, which are
    few: it holds some hundred bytes a pair, and the driver nothing.
    """
    ends = pairs.select(ENDS).coalesce(1)
    return ends.mapInArrow(_families, "person_key string, family string, unrelated boolean")


def _families(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found = [batch for batch in batches if len(batch)]
    if not found:
        return
    table = pa.Table.from_batches(found)
    ends = np.stack([table[name].to_numpy().astype(str) for name in ENDS])
    people, edges = np.unique(ends, return_inverse=True)
    edges = edges.reshape(2, -1)
    names = people[first_of_component(len(people), edges)]
    alone = unrelated(len(people), edges)
    yield pa.RecordBatch.from_arrays([pa.array(people), pa.array(names), pa.array(alone)], schema=SCHEMA)


def first_of_component(people: int, edges: Edges) -> npt.NDArray[np.int64]:
    """For each of so many people the smallest number of those whom edges (2, n) join to them."""
    graph = coo_array((np.ones(edges.shape[1], bool), edges), (people, people))
    _, component = connected_components(graph, directed=False)
    _, first = np.unique(component, return_index=True)
    found: npt.NDArray[np.int64] = first[component]
    return found


def unrelated(people: int, edges: Edges) -> npt.NDArray[np.bool_]:
    """Who is in a set without an edge inside that nobody can be added to.

    Greedy: whoever has fewest relatives left stays (of those with as many the first), and these go; to find the
    very largest such set is NP-hard. Halldorsson, Radhakrishnan, Algorithmica 1997;18:145.
    """
    left: list[set[int]] = [set() for _ in range(people)]
    for one, other in edges.T.tolist():
        left[one].add(other)
        left[other].add(one)
    undecided, stays = np.ones(people, bool), np.zeros(people, bool)
    queue = [(len(own), person) for person, own in enumerate(left)]
    heapq.heapify(queue)
    while queue:
        number, person = heapq.heappop(queue)
        if not undecided[person] or number != len(left[person]):
            continue  # decided, or an entry from before others went
        stays[person] = True
        gone = left[person]
        undecided[[person, *gone]] = False
        for relative in {further for one in gone for further in left[one]} - {person}:
            left[relative] -= gone
            heapq.heappush(queue, (len(left[relative]), relative))
    return stays
