"""The search in a gallery on PostgreSQL: candidates by pgvector in float32, their scores again in float64.

Exact, the server goes over all rows and gives the nearest, so many that the k best people are among them whatever the
rounding; the answer is then that of a gallery in a file, to the last tie. By the index (HNSW) it gives the rows that
the index finds, which may miss some; only the scores are exact then. Where the index gives out before k people are
found, under a filter say, the search is done exactly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facewright.gallery.postgres_connection import Connection
from facewright.gallery.postgres_rows import COLUMNS, as_json, vectors_of
from facewright.gallery.store import Match

ROUNDING = 1.2e-7  # a number of a vector: twice the error of a float32 dot product of unit vectors
FEWEST, GROWTH = 64, 8  # rows that are asked for, and how many times more where they do not suffice
EF_SEARCH, MOST_EF = 400, 1_000  # how widely the index looks around; pgvector takes no more
BY_INDEX = "vector <#> %(probe)b"
BY_SCAN = f"({BY_INDEX}) + 0"  # the same number, but no order that an index could give
FILTER = "WHERE metadata @> %(where)s::jsonb"
# The inner part may go over all rows and must be lean; only the nearest are put into the form in which they travel.
NEAREST = """
SELECT {columns}, distance
FROM (SELECT *, {by_index} AS distance FROM entries {where} ORDER BY {order} LIMIT %(most)s) AS nearest
ORDER BY distance
"""

Row = tuple[Any, ...]  # of COLUMNS, and the distance


def exact(connection: Connection, probe: NDArray[np.float32], k: int, where: Mapping[str, str]) -> list[Row]:
    """Rows among which the best of each of the k nearest people is for certain."""
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
    """Rows of k people that the index finds near; as `exact` where it does not find so many."""
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
    """The best entry of each of the k best people among rows: by score, then by name, then by number."""
    if not rows:
        return []
    scores = np.clip((vectors_of(rows) * probe).sum(axis=1), -1.0, 1.0)
    found: dict[str, Match] = {}
    for at in np.lexsort(([row[0] for row in rows], -scores)):
        number, person, photo, metadata = rows[at][:4]
        if person not in found:
            found[person] = Match(person, float(scores[at]), number, photo, json.loads(metadata))
    return sorted(found.values(), key=lambda match: (-match.score, match.person))[:k]


def _rows(
    connection: Connection, order: str, probe: NDArray[np.float32], where: Mapping[str, str], most: int
) -> list[Row]:
    given = {"probe": probe, "where": as_json(where), "most": most}
    with connection.cursor(binary=True) as cursor:
        query = NEAREST.format(columns=COLUMNS, by_index=BY_INDEX, where=FILTER if where else "", order=order)
        return cursor.execute(query, given).fetchall()
