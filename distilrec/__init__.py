"""DistilRec: distil a large recommender into one that answers in milliseconds, with proof of what it kept.

>>> import distilrec
>>> run = distilrec.fit(interactions, items)      # or distilrec.run("shop.toml"), distilrec.load("runs/shop")
>>> run.recommend(["50", "181"], k=5)

What stands here is defined in ``distilrec.api`` and ``clients``, and loaded when it is used: importing this package loads nothing
that is slow.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Not as import statements: a stage's digest of its code follows those (distilrec/core/code.py), and would reach everything.
_PUBLIC = {
    "AsyncRecommenderClient": "clients",
    "Recommendations": "clients",
    "RecommenderClient": "clients",
    "Run": "distilrec.api",
    "fit": "distilrec.api",
    "load": "distilrec.api",
    "run": "distilrec.api",
}
"""Module that defines each public name; the types stand in ``__init__.pyi``."""

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 - names


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
