"""Names and values of the item attributes that requests filter by, and the codes that stand for them in a request.

A copy of this file is served next to the front door's model.py, where DistilRec is not installed: it must import nothing but the
standard library.
"""

import difflib
import json
from collections.abc import Iterable, Mapping

PARAMETER = "filters"
"""Parameter of a served model's configuration that declares its attributes and their values, as JSON."""

_NEAR = 3
"""Values that an error message suggests."""

_NEAR_CUTOFF = 0.4
"""Least likeness of a suggestion (``difflib``); below the default, because values are short."""


class FilterError(ValueError):
    """A filter that cannot be understood; the message says what was found and what was expected."""


class FilterValues:
    """The declared attributes with their values.

    Codes count through the values of all attributes, from 1 on: the first attribute with n values has the codes 1 to n.

    Args:
        values: For each attribute its values in the order of their codes.
    """

    def __init__(self, values: Mapping[str, Iterable[str]]) -> None:
        self.values = {name: tuple(of_attribute) for name, of_attribute in values.items()}
        self._codes: dict[str, dict[str, int]] = {}
        code = 1
        for name, of_attribute in self.values.items():
            self._codes[name] = {value: code + place for place, value in enumerate(of_attribute)}
            code += len(of_attribute)

    def __bool__(self) -> bool:
        return bool(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilterValues) and list(self.values.items()) == list(other.values.items())

    __hash__ = None  # type: ignore[assignment]

    @property
    def count(self) -> int:
        """G: number of values of all attributes, and the largest code."""
        return sum(map(len, self.values.values()))

    def ranges(self) -> list[tuple[int, int]]:
        """For each attribute its first code, and the code after its last."""
        ends, end = [], 1
        for of_attribute in self.values.values():
            ends.append((end, end + len(of_attribute)))
            end += len(of_attribute)
        return ends

    def code(self, name: str, value: str) -> int:
        """The code of a value.

        Raises:
            FilterError: There is no such attribute or value.
        """
        if name not in self._codes:
            declared = ", ".join(map(repr, self.values)) or "none: this model was exported without filters (data.filters)"
            raise FilterError(f"filter: found the attribute {name!r:.100}, expected one of {declared}")
        code = self._codes[name].get(value)
        if code is None:
            folded = {known.casefold(): known for known in self.values[name]}
            near = [folded[key] for key in difflib.get_close_matches(value.casefold(), folded, n=_NEAR, cutoff=_NEAR_CUTOFF)]
            advice = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise FilterError(
                f"filter: found {value!r:.100} for {name!r}, expected one of its {len(self.values[name])} values{advice}"
            )
        return code

    def encode(self, wanted: Iterable[tuple[str, str]], length: int) -> list[int]:
        """The codes of pairs of attribute and value, each once.

        Args:
            wanted: Pairs. Several values of one attribute are alternatives; several attributes must all fit.
            length: F, the largest number of codes.

        Raises:
            FilterError: A pair is not declared, or there are more than ``length``.
        """
        codes = list(dict.fromkeys(self.code(name, value) for name, value in wanted))
        if len(codes) > length:
            raise FilterError(f"filter: found {len(codes)} values, expected at most {length} (export.filter_length)")
        return codes

    def to_json(self) -> str:
        """The declaration as JSON; equal declarations give equal text."""
        return json.dumps({name: list(of_attribute) for name, of_attribute in self.values.items()}, separators=(",", ":"))


def parse_filters(text: str) -> FilterValues:
    """Read what ``FilterValues.to_json`` wrote; an empty text declares nothing.

    Raises:
        FilterError: The text is no declaration.
    """
    try:
        found = json.loads(text or "{}")
        if all(isinstance(value, str) for values in found.values() for value in values):
            return FilterValues(found)
    except (ValueError, AttributeError, TypeError) as error:
        raise FilterError(f"found no declaration of filters: {error!r}") from error
    raise FilterError("found values that are no strings in a declaration of filters")


def filter_of(texts: Iterable[str]) -> dict[str, list[str]]:
    """The filter that texts such as "category=Nails" say, as in files, on the command line and at the front door."""
    wanted: dict[str, list[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        wanted.setdefault(name, []).append(value)
    return wanted


def pairs_of(wanted: Mapping[str, Iterable[str] | str]) -> list[tuple[str, str]]:
    """The pairs of attribute and value of a filter as callers write it: for each attribute one value, or several.

    Raises:
        FilterError: The filter is no mapping, an attribute has no value, or one that is not text.
    """
    if not isinstance(wanted, Mapping):
        raise FilterError(f"filter: found {wanted!r:.100}, expected values by the name of their attribute")
    pairs = []
    for name, values in wanted.items():
        listed: list[str] = []
        if isinstance(values, str | Iterable):
            listed = [values] if isinstance(values, str) else list(values)
        if not listed or not all(isinstance(value, str) for value in listed):
            raise FilterError(f"filter: found {values!r:.100} for {name!r:.100}, expected one value or several (strings)")
        pairs += [(name, value) for value in listed]
    return pairs
