"""The search in a gallery on PostgreSQL: candidates by pgvector in float32, their scores again in float64.

The exact search reads all rows and returns so many of the nearest that the k best people are among them whatever the
rounding; the answer is that of a gallery in a file, ties included. The index (HNSW) may miss rows; only the scores are
exact then. If the index ends before k people are found, under a filter for example, the search is done exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.gallery.postgres_connection import Connection
from facewright.gallery.postgres_tables import COLUMNS, as_json, vectors_of
from facewright.gallery.store import Match

ROUNDING = 1.2e-7  # a number of a vector: twice the error of a float32 dot product of unit vectors
FEWEST, GROWTH = 64, 8  # rows requested at first, and the factor if they are too few
EF_SEARCH, MOST_EF = 400, 1_000  # candidates of the index; the most that pgvector takes
BY_INDEX = "vector <#> %(probe)b"
BY_SCAN = f"({BY_INDEX}) + 0"  # the same number, but not an order that an index provides
FILTER = "WHERE metadata @> %(where)s::jsonb"
# The inner query may read all rows and must be lean; only the nearest are converted.
NEAREST = """
SELECT {columns}, distance
FROM (SELECT *, {by_index} AS distance FROM entries {where} ORDER BY {order} LIMIT %(most)s) AS nearest
ORDER BY distance
"""

Row = tuple[Any, ...]  # of COLUMNS, and the distance


def exact(connection: Connection, probe: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[Row]:
    """Rows that certainly include the best one of each of the k nearest people."""
    most = max(FEWEST, 4 * k)
    while True:
        rows = _rows(connection, BY_SCAN, probe, where, most)
        people = list(dict.fromkeys(row[1] for row in rows))
        if len(rows) < most:
            return rows
        if len(people) >= k:
            kth = next(row[8] for row in rows if row[1] == people[k - 1])
            if rows[-1][8] > kth + ROUNDING * len(probe):
                return rows
        most *= GROWTH


def by_index(connection: Connection, probe: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[Row]:
    """Rows of k near people by the index; as `exact` if it finds fewer."""
    most = max(FEWEST, 4 * k)
    while True:
        with connection.transaction():
            connection.execute(
                "SELECT set_config('hnsw.iterative_scan', 'strict_order', true), set_config('enable_seqscan', 'off', "
                "true), set_config('hnsw.ef_search', %s, true)",
                (str(min(MOST_EF, max(EF_SEARCH, most))),),
            )
            rows = _rows(connection, BY_INDEX, probe, where, most)
        if len({row[1] for row in rows}) >= k:
            return rows
        if len(rows) < most:
            return exact(connection, probe, k, where)
        most *= GROWTH


def best(rows: Sequence[Row], probe: NDArray[np.float32], k: int) -> list[Match]:
    """The best entry of each of the k best people among rows, by score, name and number."""
    if not rows:
        return []
    scores = np.clip((vectors_of(rows) * probe).sum(axis=1), -1.0, 1.0)
    matches: dict[str, Match] = {}
    for at in np.lexsort(([row[0] for row in rows], -scores)):
        number, person, photo, metadata = rows[at][:4]
        if person not in matches:
            tags = json.loads(metadata)
            matches[person] = Match(person=person, score=float(scores[at]), number=number, photo=photo, metadata=tags)
    return sorted(matches.values(), key=lambda match: (-match.score, match.person))[:k]


def _rows(
    connection: Connection, order: str, probe: NDArray[np.float32], where: Mapping[str, str], most: int
) -> list[Row]:
    values = {"probe": probe, "where": as_json(where), "most": most}
    with connection.cursor(binary=True) as cursor:
        query = NEAREST.format(columns=COLUMNS, by_index=BY_INDEX, where=FILTER if where else "", order=order)
        return cursor.execute(query, values).fetchall()
