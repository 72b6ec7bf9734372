"""A stand-in of the Hugging Face hub: the part of its HTTP API that creating, committing and downloading a model needs."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

TOKEN = "hf_test"


class Hub:
    """Repositories by name: the commits of each, and each commit's files by path."""

    def __init__(self) -> None:
        self.commits: dict[str, list[dict[str, bytes]]] = {}
        self.private: dict[str, bool] = {}
        self.url = ""

    def commit(self, repository: str, lines: list[dict]) -> str:
        files = dict(self.commits[repository][-1])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "deletedFile":
                del files[line["value"]["path"]]
        self.commits[repository].append(files)
        return self.sha(repository)

    def sha(self, repository: str) -> str:
        return f"{len(self.commits[repository]):040x}"

    def files(self, repository: str, revision: str) -> dict[str, bytes]:
        commits = self.commits[repository]
        return commits[-1] if revision == "main" else commits[int(revision, 16) - 1]


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub on a free port of loopback."""
    state = Hub()
    handler = type("Handler", (_Handler,), {"hub": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/api/validate-yaml" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
            known = name in self.hub.commits
            self.hub.commits.setdefault(name, [{}])
            self.hub.private.setdefault(name, asked.get("private") or asked.get("visibility") == "private")
            self.answer({"url": f"{self.hub.url}/{name}", "name": name, "error": "exists"}, 409 if known else 200)
        elif match := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            paths = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            sha = self.hub.commit(match[1], [json.loads(line) for line in body.splitlines() if line])
            self.answer({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{match[1]}/commit/{sha}"})
        else:
            self.answer({"error": f"unknown: {self.path}"}, 404)

    def do_GET(self) -> None:
        path = unquote(self.path.partition("?")[0])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            if match[1] not in self.hub.commits:
                self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                return
            revision = match[2] or "main"
            names = self.hub.files(match[1], revision)
            sha = self.hub.sha(match[1]) if revision == "main" else revision
            self.answer({"id": match[1], "sha": sha, "siblings": [{"rfilename": name} for name in names], "private": False})
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            files = self.hub.files(match[1], match[2])
            self.answer([{"type": "file", "path": name, "size": len(content), "oid": "0"} for name, content in files.items()])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            content = self.hub.files(match[1], match[2])[match[3]]
            sha = self.hub.sha(match[1]) if match[2] == "main" else match[2]
            self.send(content, 200, {"X-Repo-Commit": sha, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        else:
            self.answer({"error": f"unknown: {path}"}, 404)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, content: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(json.dumps(content).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
