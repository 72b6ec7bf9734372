"""Sections of several kinds: each kind has fields of its own, and faults name their place."""

from typing import ClassVar, Literal

import pytest
from pydantic import SerializeAsAny, ValidationError

from distilrec.config.faults import describe_faults
from distilrec.config.kinds import KindSection
from distilrec.config.section import Positive, Section
from distilrec.core.errors import MissingExtraError
from distilrec.core.registry import Registry


class Shape(KindSection):
    # A package without declarations: those below are all there is.
    kinds: ClassVar[Registry[type[KindSection]]] = Registry("shape", "distilrec.data", "train")
    default_kind = "circle"

    colour: str = "red"


class Circle(Shape):
    kind: Literal["circle"] = "circle"
    radius: Positive = 1


class Box(Shape):
    kind: Literal["box"] = "box"
    width: Positive
    height: Positive = 2


class Drawing(Section):
    shape: SerializeAsAny[Shape]


def faults(shape: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate({"shape": shape})
    return describe_faults(caught.value)


def test_the_kind_chooses_the_fields_and_survives_writing():
    drawing = Drawing.model_validate({"shape": {"kind": "box", "width": 3}})
    assert drawing.shape == Box(width=3)
    assert drawing.model_dump()["shape"] == {"kind": "box", "colour": "red", "width": 3, "height": 2}
    assert Drawing.model_validate(drawing.model_dump()) == drawing


def test_the_default_kind_is_taken_where_none_is_named():
    assert Drawing.model_validate({"shape": {"radius": 4}}).shape == Circle(radius=4)


def test_all_faults_are_named_with_their_places():
    found = faults({"kind": "box", "height": 0, "depth": 1})
    assert [fault.partition(":")[0] for fault in found] == ["shape.width", "shape.height", "shape.depth"]


def test_a_setting_of_another_kind_is_refused_with_the_kinds_that_read_it():
    assert faults({"kind": "circle", "width": 3}) == [
        "shape.width: is not read by kind 'circle', only by box. Leave it out (found 3)"
    ]


def test_an_unknown_kind_is_refused_with_those_that_exist():
    assert faults({"kind": "star"}) == ["shape: found the shape 'star', expected one of box, circle"]


def test_a_name_cannot_be_declared_twice():
    with pytest.raises(ValueError, match="two declarations of the shape 'box'"):
        Shape.kinds.declare("box", Box)


def test_a_missing_package_is_said_with_the_extra_that_installs_it():
    registry: Registry[int] = Registry("thing", "no_such_package_here", "train")
    for _ in range(2):  # the second look-up must not find an empty registry
        with pytest.raises(MissingExtraError, match=r"distilrec\[train\]"):
            len(registry)
