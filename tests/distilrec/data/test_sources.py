import io
import zipfile

import pytest

from distilrec.core.errors import DataError
from distilrec.data import sources


def archive(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content in files.items():
            target.writestr(name, content)
    return buffer.getvalue()


def test_both_places_give_the_same_rows():
    grouplens = archive(
        {
            "ml-100k/u.data": b"196\t242\t3\t881250949\n",
            "ml-100k/u.user": b"1|24|M|technician|85711\n",
            "ml-100k/u.item": "543|Mis\xe9rables, Les (1995)|01-Jan-1995\n".encode("latin-1"),
        }
    )
    folder = "recbole/dataset_example/ml-100k"
    header = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    items = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n543\tMis\xe9rables, Les\t1995\tDrama\n"
    users = b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n1\t24\tM\ttechnician\t85711\n"
    wheel = archive(
        {
            f"{folder}/ml-100k.inter": header + b"196\t242\t3\t881250949\n",
            f"{folder}/ml-100k.item": items.encode(),
            f"{folder}/ml-100k.user": users,
        }
    )
    assert sources.parse_grouplens(grouplens) == sources.parse_recbole(wheel)
    rows = sources.parse_recbole(wheel)
    assert rows.items == [["543", "Mis\xe9rables, Les (1995)"]]
    assert rows.users == [["1", "24", "M", "technician"]]  # no zip code


@pytest.mark.network
def test_ml_100k_is_fetched_once_and_cached(tmp_path):
    source = sources.fetch("ml-100k", tmp_path)  # the real download
    assert len(source.interactions.read_text().splitlines()) == 100_001
    assert "Toy Story (1995)" in source.items.read_text(encoding="utf-8")
    assert source.users.read_text().splitlines()[:2] == ["user_id,age,gender,occupation", "1,24,M,technician"]
    assert len(source.users.read_text().splitlines()) == 944
    written = source.interactions.stat().st_mtime_ns
    assert sources.fetch("ml-100k", tmp_path).interactions.stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == ["ml-100k"]
    source.users.unlink()  # as a cache of an earlier version
    assert sources.fetch("ml-100k", tmp_path).users.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ml-100k"]


def test_damaged_download_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ML_100K_INTERACTIONS_SHA256", "0" * 64)
    with pytest.raises(DataError, match="damaged or was changed"):
        sources.fetch("ml-100k", tmp_path)
    assert not (tmp_path / "ml-100k").exists()


def test_unreachable_places_are_all_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ML_100K_URL", "http://127.0.0.1:9/ml-100k.zip")
    monkeypatch.setattr(sources, "RECBOLE_WHEEL", "recbole==0.0.0.dev0")
    with pytest.raises(DataError, match=r"(?s)127\.0\.0\.1:9.*not reachable.*recbole==0\.0\.0\.dev0.*pip download failed"):
        sources.fetch("ml-100k", tmp_path)


def test_unknown_name():
    with pytest.raises(DataError, match="found no data set named 'ml-1m'"):
        sources.fetch("ml-1m")
