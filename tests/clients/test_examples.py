"""The examples and the page about the client, run against a real server."""

import asyncio
import contextlib
import io
import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient as WebClient
from aiohttp.test_utils import TestServer as WebServer

from clients.examples import sync_script
from clients.examples.asyncio_service import make_app

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
# Requests that choose need another model; test_choices.py has them.
PAGE = re.sub(r"## Requests that choose.*?(?=\n## )", "", PAGE, flags=re.S)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
IDS = {"50": "item-1", "181": "item-7", "172": "item-13"}


def of_the_shop(text, server):
    """A block of the page, with the shop's server and items."""
    for movie, item in IDS.items():
        text = text.replace(f'"{movie}"', f'"{item}"')
    return text.replace("127.0.0.1:8001", server.url).replace("127.0.0.1:8000", f"127.0.0.1:{server.ports.http}")


def get(url, paths, timeout_s=5.0):
    """Status and JSON of each path, asked at the same time of a service that asks ``url``."""

    async def ask():
        async with WebClient(WebServer(make_app(url, timeout_s))) as web:

            async def one(path):
                async with web.get(path) as answer:
                    return answer.status, await answer.json()

            return await asyncio.gather(*map(one, paths))

    return asyncio.run(ask())


def test_script(shop_server):
    command = [sys.executable, "-m", "clients.examples.sync_script", shop_server.url, "item-1", "nobody"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("genre ") == 7
    assert "left out: nobody" in result.stdout


@pytest.mark.parametrize(("url", "message"), [("http://there", "expected host:port"), ("127.0.0.1:9", "no server answers")])
def test_script_without_a_server(capsys, url, message):
    assert sync_script.main(url, ["item-1"]) == 1
    assert message in capsys.readouterr().err


def test_service_recommends(shop_server):
    paths = ["/recommend?history=item-1&history=item-7&k=3", "/recommend?history=nobody", "/health"] * 10
    for (status, first), (_, popular), health in zip(*[iter(get(shop_server.url, paths))] * 3, strict=True):
        assert status == 200
        assert len(first["items"]) == 3
        assert set(first["items"][0]) == {"item_id", "score"}
        assert (len(popular["items"]), popular["unknown_ids"]) == (10, ["nobody"])
        assert health == (200, {"ready": True})


@pytest.mark.parametrize("k", ["0", "21", "many"])
def test_service_says_400_to_a_wrong_request(shop_server, k):
    ((status, body),) = get(shop_server.url, [f"/recommend?k={k}"])
    assert status == 400
    assert "found k = " in body["error"]
    assert shop_server.url not in body["error"]


def test_service_says_503_without_a_server():
    (status, _), health = get("127.0.0.1:9", ["/recommend", "/health"], timeout_s=1.0)
    assert status == 503
    assert health == (503, {"ready": False})


def test_service_says_504_when_no_answer_comes():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and says nothing
        ((status, _),) = get(f"127.0.0.1:{silent.getsockname()[1]}", ["/recommend"], timeout_s=0.2)
    assert status == 504


def python_blocks():
    return [text for language, text in BLOCKS if language == "python"]


def test_page_has_the_blocks_that_are_tested():
    assert [language for language, _ in BLOCKS] == ["python", "bash", "python", "python", "python", "bash"]


@pytest.mark.parametrize("text", python_blocks(), ids=lambda text: re.sub(r"\W+", "-", text.splitlines()[0])[:40])
def test_page_python_runs(shop_server, text):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(of_the_shop(text, shop_server), "serving.md", "exec"), {"__name__": "__main__"})
    assert "item-" in said.getvalue()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_page_curl_runs(shop_server):
    (text,) = [text for language, text in BLOCKS if language == "bash" and "curl" in text]
    result = subprocess.run(["bash", "-c", of_the_shop(text, shop_server)], capture_output=True, text=True, check=True)
    outputs = {output["name"]: output["data"] for output in json.loads(result.stdout)["outputs"]}
    assert len(outputs["item_ids"]) == 5
    assert all(item_id.startswith("item-") for item_id in outputs["item_ids"])
