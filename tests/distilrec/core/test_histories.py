import shutil
import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clients import codec
from distilrec.core import histories
from distilrec.core.histories import cut_history
from distilrec.core.specs import RecommenderSpec
from distilrec.data.dataset import requests
from distilrec.data.vocabulary import Vocabulary

items = st.lists(st.integers(1, 12), max_size=30)


@given(items, st.lists(st.integers(1, 12), max_size=6), st.integers(1, 8), st.integers(1, 8))
def test_cut_is_that_of_a_naive_second_implementation(history, excluded, history_length, exclude_length):
    newest, older = [], []
    for age, item in enumerate(reversed(history)):
        if age < history_length:
            newest.insert(0, item)
        else:
            older.append(item)
    ruled_out = []
    for item in excluded + older:
        if item not in ruled_out:
            ruled_out.append(item)
    cut = cut_history(history, excluded, history_length, exclude_length)
    assert cut.newest == newest
    assert cut.exclude == ruled_out[:exclude_length]
    assert cut.left_over == ruled_out[exclude_length:]


@given(items, st.integers(1, 8), st.integers(1, 8))
def test_evaluation_asks_what_the_client_asks(history, history_length, exclude_length):
    """tests/triton_repo/test_recommend.py holds the front door of a real server against the same requests."""
    spec = RecommenderSpec(12, history_length, exclude_length, top_k=1)
    ids = tuple(f"item-{index}" for index in range(1, 13))
    vocabulary = Vocabulary(ids, ids)
    of_client = codec.pack([codec.encode(codec.Query(vocabulary.decode(history)), vocabulary, spec)], spec)[:2]
    of_evaluation = requests([np.array(history, np.int32)], spec)
    for found, expected in zip(of_evaluation, of_client, strict=True):
        assert found.tolist() == expected.tolist()


def test_served_copy_needs_neither_distilrec_nor_its_folder(tmp_path):
    shutil.copyfile(histories.__file__, tmp_path / "histories.py")
    program = "import sys, histories; print(sorted(name for name in sys.modules if name.startswith(('distilrec', 'clients'))))"
    found = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
