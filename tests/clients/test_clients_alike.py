"""Two clients state their parameters twice, so that editors and type checkers see them; here they are held equal."""

import inspect

from clients import AsyncRecommenderClient, RecommenderClient


def parameters(client):
    """Of the constructor and each public method, with kind, default and annotation."""
    methods = inspect.getmembers(client, inspect.isfunction)
    return {name: [*inspect.signature(f).parameters.values()] for name, f in methods if name == "__init__" or name[0] != "_"}


def test_both_clients_take_the_same_parameters():
    assert parameters(AsyncRecommenderClient) == parameters(RecommenderClient)
    assert {"__init__", "recommend", "recommend_many", "close"} <= parameters(RecommenderClient).keys()
