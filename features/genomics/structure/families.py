"""Families, which are people joined by kinship, and the largest set of people of whom no two are relatives."""

import heapq
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SCHEMA = pa.schema([("person_key", pa.string()), ("family", pa.string()), ("unrelated", pa.bool_())])
Edges = npt.NDArray[np.int64]


def families(pairs: DataFrame) -> DataFrame:
    """`person_key, family, unrelated` of everyone in `pairs` (`person_key_1, usable_1, person_key_2, usable_2`).

    `family` is the smallest key of those who are joined by any chain of pairs. `unrelated` are some of those who
    are usable. One task sees all pairs, which are few: it holds some hundred bytes a pair, and the driver nothing.
    """
    ends = pairs.select(*(f"{name}_{end}" for end in (1, 2) for name in ("person_key", "usable"))).coalesce(1)
    return ends.mapInArrow(_families, from_arrow_schema(SCHEMA))


def _families(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found = [batch for batch in batches if len(batch)]
    if not found:
        return
    table = pa.Table.from_batches(found)
    people, edges = _numbered(pa.concat_arrays(table["person_key_1"].chunks + table["person_key_2"].chunks))
    usable = np.zeros(len(people), bool)
    for end, own in enumerate(edges, start=1):
        usable[own] = table[f"usable_{end}"].to_numpy()
    alone = usable.copy()
    alone[usable] = unrelated(*_among(usable, edges))
    names = people.take(pa.array(first_of_component(len(people), edges)))
    yield pa.RecordBatch.from_arrays([people, names, pa.array(alone)], schema=SCHEMA)


def _numbered(ends: pa.Array) -> tuple[pa.Array, Edges]:
    """The people in order, and the pairs by their numbers: (2, n)."""
    encoded = ends.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return encoded.dictionary.take(pa.array(order)), rank[encoded.indices.to_numpy()].reshape(2, -1)


def _among(chosen: npt.NDArray[np.bool_], edges: Edges) -> tuple[int, Edges]:
    """How many are chosen, and the edges between them by new numbers."""
    inside = edges[:, chosen[edges].all(0)]
    return int(chosen.sum()), (np.cumsum(chosen) - 1)[inside]


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
