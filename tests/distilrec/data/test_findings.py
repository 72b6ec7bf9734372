"""What the data stage says of a shop's log, and what it warns of."""

import logging
from pathlib import Path

import pytest

from distilrec.config import Config, spec_of_run
from distilrec.core.errors import DataError
from distilrec.data import stage
from distilrec.data.dataset import held_out
from distilrec.data.findings import Findings, from_metrics

DAY = 86_400
START = 1_700_000_000


def write_log(path: Path, users: int, length: int, item: str = "i{0}") -> None:
    """Each user meets ``length`` items, one a day; views and a few purchases."""
    rows = [
        f"u{u},{item.format((u + t) % 20)},{START + DAY * t + 60 * u},{'buy' if t % 5 == 4 else 'view'}"
        for u in range(users)
        for t in range(length)
    ]
    path.write_text("user_id,item_id,timestamp,event\n" + "\n".join(rows) + "\n")


def run(tmp_path: Path, **data) -> tuple[Findings, list[str]]:
    settings = {"interactions": tmp_path / "logs.csv", "k_core": 1, "split": "leave_one_out", **data}
    config = Config.model_validate({"name": "t", "history_length": 5, "data": settings})
    metrics = stage.run(config, {}, tmp_path / "data").metrics
    return from_metrics(metrics), metrics["doubts"]


def test_counts_are_logged_each_time(tmp_path, caplog):
    write_log(tmp_path / "logs.csv", users=310, length=12)
    with caplog.at_level(logging.INFO, "distilrec"):
        found, _ = run(tmp_path)
        first = [record.message for record in caplog.records if "running" not in record.message]
        caplog.clear()
        run(tmp_path)
    assert (found.users, found.items, found.interactions, found.longest_history) == (310, 20, 310 * 12, 12)
    assert (found.judged_validation, found.judged_test) == (310, 310)
    assert first == [record.message for record in caplog.records if "unchanged" not in record.message]
    text = "\n".join(first)
    assert "310 of 310 users, 20 of 20 items and 3,720 of 3,720 interactions are left after k_core = 1" in text
    assert "histories have 12 items (median) to 12 (longest); 310 users have more than history_length = 5" in text
    assert "exclude_length = 32 follows from the longest history: every user's history fits into a request" in text
    assert "times run from 2023-11-14 22:13 to 2023-11-26 03:22; the longest gap is 19 hours from" in text
    assert "judged by 310 users (validation) and 310 (test) of 310, split = leave_one_out" in text
    assert "items have no titles" in text


def test_judged_users_are_those_of_the_evaluation(tmp_path):
    write_log(tmp_path / "logs.csv", users=50, length=23)
    found, _ = run(tmp_path, split="temporal")
    dataset, _ = stage.load(tmp_path / "data")
    config = Config.model_validate(
        {"name": "t", "data": {"interactions": tmp_path / "logs.csv"}, "export": {"exclude_length": 128}}
    )
    spec = spec_of_run(config, dataset.item_count)
    assert found.judged_validation == len(held_out(dataset, "validation", spec).users) > 0
    assert found.judged_test == len(held_out(dataset, "test", spec).users) < 50
    assert found.repeats == pytest.approx(3 / 23)


def test_events_that_nothing_selects_are_listed(tmp_path):
    write_log(tmp_path / "logs.csv", users=310, length=12)
    _, doubts = run(tmp_path)
    assert doubts == [
        "column 'event' says what each interaction was ('view' (3,100), 'buy' (620)), and all count alike. To keep only some:"
        ' events = ["buy"] and columns = { event = "event" } in section [data]'
    ]
    _, doubts = run(tmp_path, events=["view"], columns={"event": "event"})
    assert doubts == []


def test_few_judged_users_name_the_other_split_and_none_are_an_error_at_once(tmp_path):
    early = [f"u{u},i{(u + t) % 20},{t}" for u in range(274) for t in range(5)]
    late = [f"u{u},j{t % 2},{100 + t}" for u in range(10) for t in range(60)]
    path = tmp_path / "logs.csv"
    path.write_text("user_id,item_id,timestamp\n" + "\n".join(early + late) + "\n")
    with pytest.raises(
        DataError, match=r"no user of 274 with a new item in the validation part.*\"leave_one_out\".* leave 264 users"
    ):
        run(tmp_path, split="temporal")
    path.write_text(path.read_text() + "\n".join(f"u{u},new{p},{p}" for p in (130, 158) for u in range(20, 65)) + "\n")
    _, doubts = run(tmp_path, split="temporal")
    assert doubts == [
        'split = temporal leaves 45 of 274 users to judge models by. split = "leave_one_out" in section [data] would leave 264'
    ]


def test_repeats_in_a_row_are_counted_and_dropped_on_request(tmp_path):
    rows = [f"u{u},i{(u + t // 2) % 20},{t}" for u in range(300) for t in range(10)]
    (tmp_path / "logs.csv").write_text("user_id,item_id,timestamp\n" + "\n".join(rows) + "\n")
    kept, doubts = run(tmp_path)
    assert kept.consecutive_repeats == 0.5
    assert 'consecutive_repeats = "drop" in section [data] keeps the first of each' in doubts[0]
    assert "leaves 0 of 300 users" in doubts[1]  # the last item of each is the one before
    dropped, doubts = run(tmp_path, consecutive_repeats="drop")
    assert (kept.interactions, dropped.interactions) == (3000, 1500)
    assert doubts == []


def test_titles_that_match_no_item_and_a_k_core_that_drops_most_are_doubted(tmp_path):
    write_log(tmp_path / "logs.csv", users=400, length=12, item="{0:03d}")
    rare = "".join(f"rare{u},r{u},{START},view\n" for u in range(500))
    (tmp_path / "logs.csv").write_text((tmp_path / "logs.csv").read_text() + rare)
    (tmp_path / "items.csv").write_text("item_id,title\n" + "".join(f"{i},Thing {i}\n" for i in range(20)))
    with pytest.warns(UserWarning, match="20 item"):
        _, doubts = run(tmp_path, items=tmp_path / "items.csv", k_core=5, events=["view", "buy"], columns={"event": "event"})
    assert doubts[0].startswith("k_core = 5 drops 55.6 % of the users and 96.2 % of the items")
    assert doubts[1].startswith(f"0 of 20 items have a title in {tmp_path / 'items.csv'}; for the others the id stands in")
    assert doubts[1].endswith("so both files must write them alike (found '000' and '0')")
    assert len(doubts) == 2


def test_a_hole_in_the_log_is_doubted(tmp_path):
    write_log(tmp_path / "logs.csv", users=310, length=12)
    text = (tmp_path / "logs.csv").read_text().replace(str(START), str(START - 10 * DAY))
    (tmp_path / "logs.csv").write_text(text.replace(",event", ",kind"))
    _, doubts = run(tmp_path)
    assert doubts == ["nothing happened for 47.1 % of the time (10 days from 2023-11-04 22:13 on). Is a part of the log missing?"]
