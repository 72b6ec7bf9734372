"""Which item a person means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clients import InvalidRequest
from clients.lookup import resolve
from distilrec.data.vocabulary import Vocabulary

TITLES = {
    "1": "Toy Story (1995)",
    "2": "GoldenEye (1995)",
    "50": "Star Wars (1977)",
    "7": "Sabrina (1954)",
    "8": "Sabrina (1995)",
    "9": "Solaris",
    "10": "Solaris (1972)",
    "ключ": "50",
    "11": "2001: A Space Odyssey",
    "12": "",
    "13": "The Empire Strikes Back: Special Edition (1997)",
    "14": "The Lion, the Witch and the Wardrobe (1979)",
    "15": "The Lion King (1994)",
}
MOVIES = Vocabulary(tuple(TITLES), tuple(TITLES.values()))


@pytest.mark.parametrize(
    ("text", "item_id"),
    [
        ("1", "1"),
        ("50", "50"),  # an id, though it is a title as well
        ("ключ", "ключ"),
        ("Toy Story (1995)", "1"),
        ("toy story (1995)", "1"),
        ("  TOY  story ", "1"),
        ("sabrina (1954)", "7"),
        ("solaris", "9"),  # the whole title comes before one without its year
        ("2001: a space odyssey", "11"),
        ("2001", "11"),
        ("the empire strikes back", "13"),
        ("Empire Strikes", "13"),
        ("space odyssey", "11"),
        ("lion king", "15"),
    ],
)
def test_ids_titles_and_titles_without_a_year(text, item_id):
    assert resolve([text], MOVIES) == [item_id]


def test_order_and_repetitions_stay():
    assert resolve(["GoldenEye", "50", "goldeneye"], MOVIES) == ["2", "50", "2"]
    assert resolve([], MOVIES) == []


def test_ambiguous_titles_list_what_they_may_mean():
    with pytest.raises(InvalidRequest, match=r"'Sabrina', which 2 items .*: 7 \(Sabrina \(1954\)\), 8 \(Sabrina \(1995\)\)"):
        resolve(["Sabrina"], MOVIES)
    with pytest.raises(InvalidRequest, match=r"'the lion', which 2 items .*: 14 \(.*\), 15 \(The Lion King \(1994\)\)"):
        resolve(["the lion"], MOVIES)


def test_near_misses_are_suggested_and_all_faults_reported_at_once():
    with pytest.raises(InvalidRequest) as caught:
        resolve(["Toy Stroy", "1", "Golden Eye", "xyzzy"], MOVIES)
    toys, eye, nothing = str(caught.value).splitlines()
    assert toys.startswith("found 'Toy Stroy', expected the id or the title")
    assert "did you mean 1 (Toy Story (1995))?" in toys
    assert "did you mean 2 (GoldenEye (1995))?" in eye
    assert "did you mean" not in nothing


def test_near_misses_of_ids():
    vocabulary = Vocabulary(("item-10", "item-11", "item-12", "item-13"), ("a", "b", "c", "d"))
    with pytest.raises(InvalidRequest, match="did you mean") as caught:
        resolve(["ITEM-1"], vocabulary)
    assert str(caught.value).count("item-") == 3


def test_long_lists_are_cut():
    vocabulary = Vocabulary(tuple(map(str, range(30))), ("same",) * 30)
    with pytest.raises(InvalidRequest, match=r"which 30 items .* and 20 more"):
        resolve(["same"], vocabulary)


def test_a_near_miss_is_found_among_many():
    vocabulary = Vocabulary(tuple(f"B{i:06d}" for i in range(3000)), (*map(str, range(2999)), "Solaris"))
    with pytest.raises(InvalidRequest, match=r"did you mean B002999 \(Solaris\)\?"):
        resolve(["solraris"], vocabulary)


@pytest.mark.parametrize("text", ["", " ", "x", "a", "lio", "\udcff"])
def test_nothing_is_never_an_item(text):
    with pytest.raises(InvalidRequest, match="expected the id or the title"):
        resolve([text], MOVIES)


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1, max_size=20), st.text(), st.data())
def test_every_id_is_itself_and_any_text_has_an_answer(titles, text, data):
    vocabulary = Vocabulary(tuple(titles), tuple(titles.values()))
    item_id = data.draw(st.sampled_from(vocabulary.item_ids))
    assert resolve([item_id], vocabulary) == [item_id]
    try:
        (found,) = resolve([text], vocabulary)
    except InvalidRequest as error:
        message = str(error)
        assert repr(text) in message
    else:
        typed, title = (" ".join(name.casefold().split()) for name in (text, vocabulary.title(found)))
        assert text == found or typed in title


def test_titles_in_messages_control_no_terminal():
    vocabulary = Vocabulary(("a", "b"), ("\x1b[2JSolaris (1972)", "\x1b]0;owned\x07Solaris (2002)"))
    with pytest.raises(InvalidRequest, match=r"Solaris \(1972\)") as error:
        resolve(["solariss"], vocabulary)
    assert "\x1b" not in str(error.value)
