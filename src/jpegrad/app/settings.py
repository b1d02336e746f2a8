"""What the form of the page says, checked."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from jpegrad import surrogates
from jpegrad.data import table_names
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import FORWARDS, check_choice
from jpegrad.surrogates import Surrogate, check_positive
from jpegrad.tables import annex_k, check_quality, load, scale

ANNEX_K = "annex_k"
WIDTHS = {
    "gaussian": ("sigma", 2.0),
    "soft_round": ("a", 7.0),
    "table_gaussian": ("delta", 0.5),
    "table_relative": ("rho", 0.15),
}
"""Of the surrogates that have one: the name of the width in the library, and what it is where nobody says."""

Rows = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Settings:
    """How a picture is coded.

    Args:
        quality: 1…100; tables of one's own are used as they are.
        subsampling: one of the five names.
        tables: ``"annex_k"``, a name of shipped ones, or two 8×8 tables of integers 1…255.
        forward: ``"exact"`` or ``"soft"``.
        surrogate: a name of ``jpegrad.surrogates.ALL``.
        width: of a surrogate that has one, > 0; None is its own.

    Raises:
        TypeError, ValueError: they are not as described.
    """

    quality: float = 50.0
    subsampling: str = "4:2:0"
    tables: str | tuple[Rows, Rows] = ANNEX_K
    forward: str = "exact"
    surrogate: str = "gaussian"
    width: float | None = None

    def __post_init__(self) -> None:
        check_quality(self.quality)
        check_choice("subsampling", self.subsampling, tuple(SUBSAMPLING))
        check_choice("forward", self.forward, FORWARDS)
        check_choice("surrogate", self.surrogate, tuple(surrogates.ALL))
        if isinstance(self.tables, str):
            check_choice("tables", self.tables, (ANNEX_K, *table_names()))
        else:
            _check_tables(self.tables)
        if self.width is not None:
            if self.surrogate not in WIDTHS:
                raise ValueError(
                    f"width: expected with one of {', '.join(WIDTHS)}, got it with {self.surrogate!r}"
                )
            check_positive("width", self.width)

    @classmethod
    def of(cls, found: object) -> "Settings":
        """Those of a JSON object; what it leaves out is as by default.

        Raises:
            TypeError, ValueError: it is none, or a value is not as described.
        """
        if not isinstance(found, Mapping):
            raise TypeError(f"settings: expected an object, got {type(found).__name__}")
        names = {field.name for field in fields(cls)}
        if unknown := set(found) - names:
            raise ValueError(f"settings: expected {', '.join(sorted(names))}; got {sorted(unknown)[0]!r}")
        values = dict(found)
        tables = values.get("tables", ANNEX_K)
        if not isinstance(tables, str):
            try:
                values["tables"] = tuple(tuple(tuple(row) for row in table) for table in tables)
            except TypeError:
                raise TypeError("tables: expected a name or two tables of 8 rows of 8 integers") from None
        return cls(**values)

    @property
    def record(self) -> Surrogate:
        """The surrogate, of the width that was asked for."""
        if self.width is None:
            return surrogates.ALL[self.surrogate]
        return getattr(surrogates, self.surrogate)(float(self.width))

    def entries(self) -> Tensor:
        """The tables of the file, int64 ``[2, 8, 8]``."""
        if not isinstance(self.tables, str):
            return torch.tensor(self.tables)
        if self.tables == ANNEX_K:
            return annex_k(self.quality).round().long()
        return scale(load(self.tables), self.quality).round().long()

    def options(self) -> dict[str, Any]:
        """What :func:`jpegrad.jpeg` and :func:`jpegrad.encode` are told."""
        by = {"quality": self.quality} if self.tables == ANNEX_K else {"tables": self.entries().double()}
        how = {"subsampling": self.subsampling, "forward": self.forward, "surrogate": self.record}
        return {**by, **how}


def _check_tables(tables: tuple[Rows, Rows]) -> None:
    if len(tables) != 2 or any(len(table) != 8 or any(len(row) != 8 for row in table) for table in tables):
        raise ValueError("tables: expected a name or two tables of 8 rows of 8 integers")
    for table in tables:
        for row in table:
            for entry in row:
                if isinstance(entry, bool) or not isinstance(entry, int):
                    raise TypeError(f"tables: expected integers, got {entry!r}")
                if not 1 <= entry <= 255:
                    raise ValueError(f"tables: expected entries from 1 to 255, got {entry}")
