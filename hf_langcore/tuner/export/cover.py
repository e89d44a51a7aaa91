"""The fewest rows and columns that together contain every marked entry of a matrix (Koenig's theorem)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

_NONE = -1


def minimum_cover(marked: Bools) -> tuple[Indices, Indices]:
    """A minimum vertex cover of the bipartite graph whose edges are the marked entries.

    A cover is as large as the largest set of marked entries of which no two share a row or a column, and can be
    read off such a set. Cost: some passes over the matrix; a 4096 x 4096 one takes well under a second.

    Args:
        marked: Boolean matrix (rows, columns).

    Returns:
        The rows and the columns of a cover, ascending. Every marked entry lies in one of them, and no cover has
        fewer rows and columns together.
    """
    matching = _Matching(marked)
    matching.greedy()
    while matching.grow():
        pass
    # The last, fruitless search reached what is connected to an unmatched row. Koenig: take the reached columns, and
    # the matched rows that were not reached.
    rows = np.flatnonzero((matching.column_of != _NONE) & ~matching.reached_rows)
    return rows, np.flatnonzero(matching.reached_from != _NONE)


class _Matching:
    """Pairs of a row and a column, each in one pair at most.

    Attributes:
        column_of: Column of each row's pair, or -1.
        row_of: Row of each column's pair, or -1.
        reached_rows: Rows that the last search reached.
        reached_from: The row from which it reached each column, or -1.
    """

    def __init__(self, marked: Bools) -> None:
        self._marked = marked
        rows, columns = marked.shape
        self.column_of = np.full(rows, _NONE, dtype=np.intp)
        self.row_of = np.full(columns, _NONE, dtype=np.intp)
        self.reached_rows = np.zeros(rows, dtype=np.bool_)
        self.reached_from = np.full(columns, _NONE, dtype=np.intp)

    def greedy(self) -> None:
        """Give each row the first free column, rows with little choice first; leaves little for the search."""
        counts = self._marked.sum(axis=1)
        free = np.ones(len(self.row_of), dtype=np.bool_)
        for row in np.argsort(counts, kind="stable")[np.count_nonzero(counts == 0) :]:
            candidates = self._marked[row] & free
            column = int(candidates.argmax())
            if candidates[column]:
                free[column] = False
                self.column_of[row], self.row_of[column] = column, row

    def grow(self) -> bool:
        """Search from all unmatched rows at once and flip every alternating path that was found.

        Returns:
            Whether the matching grew. If not, it is a largest one.
        """
        ends = self._search()
        if not ends.size:
            return False
        spent: set[int] = set()
        for end in ends:
            # Paths from one root share rows: of those, the first is flipped.
            path = self._path_to(int(end), spent)
            spent.update(row for row, _ in path)
            for row, column in path:
                self.column_of[row], self.row_of[column] = column, row
        return True

    def _search(self) -> Indices:
        """Breadth first along alternating paths; the unmatched columns that are reached first."""
        self.reached_from[:] = _NONE
        self.reached_rows = (self.column_of == _NONE) & self._marked.any(axis=1)
        frontier = np.flatnonzero(self.reached_rows)
        while frontier.size:
            block = self._marked[frontier]
            columns = np.flatnonzero(block.any(axis=0) & (self.reached_from == _NONE))
            self.reached_from[columns] = frontier[block[:, columns].argmax(axis=0)]
            ends: Indices = columns[self.row_of[columns] == _NONE]
            if ends.size:
                return ends
            frontier = self.row_of[columns]
            self.reached_rows[frontier] = True
        return np.empty(0, dtype=np.intp)

    def _path_to(self, column: int, spent: set[int]) -> list[tuple[int, int]]:
        """The new pairs on the path from an unmatched row to an unmatched column; none if it meets `spent` rows."""
        path: list[tuple[int, int]] = []
        while column != _NONE:
            row = int(self.reached_from[column])
            if row in spent:
                return []
            path.append((row, column))
            column = int(self.column_of[row])
        return path
