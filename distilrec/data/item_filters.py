"""Attributes of items that requests filter by: a table of value codes next to the vocabulary."""

import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from distilrec.core.errors import DataError, DataWarning
from distilrec.core.filters import FilterError, FilterValues, parse_filters
from distilrec.core.specs import PADDING

FILE_NAME = "filters.npz"

MAX_DECLARATION_BYTES = 1 << 20
"""Largest declaration of attributes and values: each client reads it with the model's configuration."""

MAX_VALUES_OF_AN_ITEM = 64
"""Most values of one attribute that an item may have: each takes a column of the table."""

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class ItemFilters:
    """The attributes of N items."""

    values: FilterValues
    """Attributes with their values, whose codes the table holds."""
    codes: Ints
    """int32 [N + 1, C]: codes of each item's values, 0 for none; row 0 (padding) is 0."""
    widths: tuple[int, ...]
    """For each attribute, how many of the C columns are its own; they stand in the order of the attributes."""

    def save(self, path: Path) -> None:
        """Write an .npz file; equal tables give equal bytes."""
        declared = np.frombuffer(self.values.to_json().encode(), np.uint8)
        np.savez_compressed(path, values=declared, codes=self.codes, widths=np.array(self.widths, np.int64))

    def fits(self, wanted: Ints) -> NDArray[np.bool_]:
        """Which items pass the filters of B requests, item by item: the meaning of the tensor ``filter``.

        Args:
            wanted: int32 [B, F], codes.

        Returns:
            bool [B, N + 1]; False for padding.
        """
        passed = np.zeros((len(wanted), len(self.codes)), np.bool_)
        begins = np.cumsum([0, *self.widths])
        for row, codes in enumerate(wanted):
            asked = codes[codes != PADDING]
            if ((asked < 1) | (asked > self.values.count)).any():
                continue
            passed[row, 1:] = True
            for place, (first, end) in enumerate(self.values.ranges()):
                of_attribute = asked[(asked >= first) & (asked < end)]
                if len(of_attribute):
                    own = self.codes[:, begins[place] : begins[place + 1]]
                    passed[row] &= np.isin(own, of_attribute).any(axis=1)
        return passed


def build_filters(item_values: Mapping[str, Sequence[Sequence[str]]]) -> ItemFilters:
    """Make the table of N items.

    Args:
        item_values: For each attribute the values of items 1..N, each item's different.

    Raises:
        DataError: An attribute has no value, an item too many, or all values together are too long to declare.
    """
    values, columns = {}, []
    for name, of_items in item_values.items():
        values[name] = tuple(sorted({value for of_item in of_items for value in of_item}))
        if not values[name]:
            raise DataError(f"data.filters.{name}: found no item with a value, expected some. Correct column or separator")
        widest = max(map(len, of_items))
        if widest > MAX_VALUES_OF_AN_ITEM:
            raise DataError(
                f"data.filters.{name}: found an item with {widest} values, expected at most {MAX_VALUES_OF_AN_ITEM}."
                " Correct the separator"
            )
    declared = FilterValues(values)
    if (size := len(declared.to_json())) > MAX_DECLARATION_BYTES:
        counts = ", ".join(f"{name} has {len(of_attribute):,}" for name, of_attribute in values.items())
        raise DataError(
            f"data.filters: found {size:,} bytes of names and values ({counts}), expected at most {MAX_DECLARATION_BYTES:,}:"
            " each client reads them all. Leave out the attribute with the most values, or group its values"
        )
    for (first, _), (name, of_items) in zip(declared.ranges(), item_values.items(), strict=True):
        code_of = {value: first + place for place, value in enumerate(values[name])}
        own = np.zeros((len(of_items) + 1, max(map(len, of_items))), np.int32)
        for row, of_item in enumerate(of_items, start=1):
            own[row, : len(of_item)] = [code_of[value] for value in of_item]
        columns.append(own)
    return ItemFilters(declared, np.concatenate(columns, axis=1), tuple(own.shape[1] for own in columns))


def warn_of_missing(item_values: Mapping[str, Sequence[Sequence[str]]]) -> None:
    """Warn of items without a value: no filter of that attribute returns them."""
    missing = {name: sum(not of_item for of_item in of_items) for name, of_items in item_values.items()}
    counts = ", ".join(f"{count:,} without {name}" for name, count in missing.items() if count)
    if counts:
        message = f"data.filters: found items without a value, which no filter by that attribute returns: {counts}"
        warnings.warn(message, DataWarning, stacklevel=2)


def changed_filters(before: ItemFilters | None, after: ItemFilters | None, *, but: Sequence[int] = ()) -> int:
    """Number of items of the earlier table that have other values in the later one; codes may stand for other values in it.

    Args:
        before: Table of the first N items.
        after: Table of these items and more.
        but: Indices of items that do not count.
    """
    if before is None or after is None:
        return 0
    former, now = (_values_of(table) for table in (before, after))
    ignored = set(but)
    return sum(values != now[item] for item, values in enumerate(former) if item not in ignored)


def _values_of(table: ItemFilters) -> list[frozenset[tuple[str, str]]]:
    """Pairs of attribute and value of padding and items 1..N."""
    pairs = [(name, value) for name, values in table.values.values.items() for value in values]
    return [frozenset(pairs[code - 1] for code in codes if code != PADDING) for codes in table.codes.tolist()]


def load_filters(path: Path) -> ItemFilters | None:
    """Read what ``ItemFilters.save`` wrote; None where there is no file, because nothing was declared.

    Raises:
        DataError: The file holds no such table.
    """
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            values = parse_filters(arrays["values"].tobytes().decode())
            table = ItemFilters(values, arrays["codes"], tuple(arrays["widths"].tolist()))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, FilterError) as error:
        raise DataError(f"{path}: found no table of item attributes ({error!r}). Run the stage again that wrote it") from error
    if sum(table.widths) != table.codes.shape[1] or len(table.widths) != len(values.values):
        raise DataError(f"{path}: found {table.codes.shape[1]} columns of codes for widths {table.widths}. Run the stage again")
    return table
