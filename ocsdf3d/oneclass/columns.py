"""Tables with names and categories → numbers, the same way at fit and afterwards.

A DataFrame's columns of the dtype `category`, and of booleans, become one column of 0 and 1 for each category
that was seen at fit; all other columns must be numbers. An array has no categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Columns"]


@dataclass(frozen=True)
class Columns:
    """How the columns of a table become numbers.

    Attributes
    ----------
    categories : tuple
        For each column of the table, what was seen at fit; None for a column of numbers.
    """

    categories: tuple[tuple[Any, ...] | None, ...]

    @classmethod
    def of(cls, table: Any) -> Columns | None:
        """Return the columns of a DataFrame with categories, or None where every column is a number."""
        if not hasattr(table, "dtypes") or not hasattr(table, "iloc"):
            return None  # other libraries' tables become arrays of numbers, or are refused as such
        found = tuple(
            tuple(column.dropna().unique().tolist()) if _is_category(column) else None
            for column in (table.iloc[:, i] for i in range(table.shape[1]))
        )
        return cls(found) if any(one is not None for one in found) else None

    def numbers(self, table: Any) -> Any:
        """Return a table of numbers, as a DataFrame with one column a category.

        Raises
        ------
        ValueError
            A category that was not there at fit, a value that is missing, or two columns of one name.
        """
        import pandas

        if not hasattr(table, "iloc") or table.shape[1] != len(self.categories):
            raise ValueError(
                f"X must be a DataFrame with the {len(self.categories)} columns of fit, some of them "
                "categories; convert it as before."
            )
        parts: dict[str, Any] = {}

        def add(name: str, numbers: Any) -> None:
            if name in parts:
                raise ValueError(f"two columns of X would bear the name {name!r}; rename one.")
            parts[name] = numbers

        for i, seen in enumerate(self.categories):
            column, name = table.iloc[:, i], str(table.columns[i])
            if seen is None:
                add(name, column)
                continue
            if column.isna().any():
                raise ValueError(f"column {name!r} has missing values; drop those rows or add a category.")
            new = sorted({str(value) for value in column.unique() if value not in seen})
            if new:
                raise ValueError(f"column {name!r} has categories that fit has not seen: {', '.join(new)}.")
            for value in seen:
                add(f"{name}={value}", (column == value).to_numpy(np.float64))
        return pandas.DataFrame(parts, index=table.index)


def _is_category(column: Any) -> bool:
    return str(column.dtype) in ("category", "bool")
