"""A server on this machine that answers as the Hugging Face Hub and Kaggle do."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = "hf_write"


@dataclass
class Hubs:
    """What the server has received.

    Attributes:
        url: where it listens.
        role: of the token, at the Hugging Face Hub.
        repos: ORG/NAME → {"private", branch: {path: content}}.
        models: of Kaggle: OWNER/MODEL → {"private", "versions": [(instance, {path: content})]}.
        blobs: what was put, by its name.
        calls: method and path, in order.
    """

    url: str = ""
    role: str = "write"
    repos: dict = field(default_factory=dict)
    models: dict = field(default_factory=dict)
    blobs: dict = field(default_factory=dict)
    calls: list = field(default_factory=list)


class Refused(Exception):
    def __init__(self, status: int, code: str = ""):
        self.status, self.code = status, code


@contextmanager
def serving() -> Iterator[Hubs]:
    """The server, on a free port of this machine."""
    hubs = Hubs()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.body()
            hubs.calls.append(f"{self.command} {self.path}")
            try:
                status, content = 200, dispatch(hubs, self.command, self.path, body, self.headers)
            except Refused as refused:
                status, content = refused.status, {"error": refused.code or "no"}
            encoded = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            if status >= 400 and content["error"] != "no":
                self.send_header("X-Error-Code", content["error"])
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PUT = answer

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hubs.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hubs
    finally:
        server.shutdown()
        server.server_close()


def dispatch(hubs: Hubs, method: str, path: str, body: bytes, headers) -> dict:
    path = path.partition("?")[0]
    if method == "PUT":
        hubs.blobs[path.rsplit("/", 1)[1]] = body
        return {}
    if path.startswith("/v1/"):
        return KAGGLE[path.rsplit("/", 1)[1]](hubs, json.loads(body or b"{}"), headers)
    if headers.get("Authorization") != f"Bearer {TOKEN}":
        raise Refused(401)
    for pattern, answer in HUGGING_FACE.items():
        if match := re.fullmatch(pattern, f"{method} {path}"):
            return answer(hubs, body, *match.groups())
    raise Refused(404)


# The Hugging Face Hub.


def _info(hubs, body, name):
    if name not in hubs.repos:
        raise Refused(404, "RepoNotFound")
    return {"id": name, "modelId": name, "private": hubs.repos[name]["private"], "tags": [], "siblings": []}


def _create(hubs, body):
    fields = json.loads(body)
    name = f"{fields['organization']}/{fields['name']}"
    if fields["organization"] == "strangers":
        raise Refused(403)
    if name in hubs.repos:
        raise Refused(409)
    hubs.repos[name] = {"private": fields["visibility"] == "private", "main": {}}
    return {"url": f"{hubs.url}/{name}", "name": name}


def _branch(hubs, body, name, branch):
    hubs.repos[name].setdefault(branch, dict(hubs.repos[name]["main"]))
    return {}


def _modes(hubs, body, name, revision):
    files = json.loads(body)["files"]
    return {
        "files": [
            {
                "path": f["path"],
                "shouldIgnore": False,
                "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
            }
            for f in files
        ]
    }


def _objects(hubs, body, name):
    return {
        "transfer": "basic",
        "objects": [
            o | {"actions": {"upload": {"href": f"{hubs.url}/blobs/{o['oid']}"}}}
            for o in json.loads(body)["objects"]
        ],
    }


def _commit(hubs, body, name, revision):
    files = hubs.repos[name][revision]
    for line in map(json.loads, body.splitlines()):
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            content = hubs.blobs[value["oid"]]
            assert hashlib.sha256(content).hexdigest() == value["oid"]
            files[value["path"]] = content
    return {"commitUrl": f"{hubs.url}/{name}/commit/{'0' * 40}", "commitOid": "0" * 40, "success": True}


NAME = "([^/]+/[^/]+)"
HUGGING_FACE = {
    "GET /api/whoami-v2": lambda hubs, body: {"name": "ann", "auth": {"accessToken": {"role": hubs.role}}},
    f"GET /api/models/{NAME}": _info,
    "POST /api/validate-yaml": lambda hubs, body: {"errors": [], "warnings": []},
    "POST /api/repos/create": _create,
    f"POST /api/models/{NAME}/branch/(.+)": _branch,
    f"POST /api/models/{NAME}/preupload/(.+)": _modes,
    rf"POST /{NAME}\.git/info/lfs/objects/batch": _objects,
    f"POST /api/models/{NAME}/commit/(.+)": _commit,
}


# Kaggle.


def _hello(hubs, fields, headers):
    if headers.get("Authorization") != f"Bearer {TOKEN}":
        return {"code": 401, "message": "no"}
    return {"userName": "ann"}


def _get_model(hubs, fields, headers):
    if f"{fields['ownerSlug']}/{fields['modelSlug']}" not in hubs.models:
        raise Refused(404)
    return {"slug": fields["modelSlug"]}


def _create_model(hubs, fields, headers):
    if fields["ownerSlug"] == "strangers":
        raise Refused(403)
    hubs.models[f"{fields['ownerSlug']}/{fields['slug']}"] = {"private": fields["isPrivate"], "versions": []}
    return {}


def _start_upload(hubs, fields, headers):
    token = f"{len(hubs.blobs)}-{fields['name']}"
    return {"token": token, "createUrl": f"{hubs.url}/blobs/{token}"}


def _files(hubs, content: dict, prefix: str = "") -> dict[str, bytes]:
    own = {prefix + f["token"].split("-", 1)[1]: hubs.blobs[f["token"]] for f in content.get("files") or []}
    for folder in content.get("directories") or []:
        own |= _files(hubs, folder, f"{prefix}{folder['name']}/")
    return own


def _create_instance(hubs, fields, headers):
    model = hubs.models[f"{fields['ownerSlug']}/{fields['modelSlug']}"]
    name = fields["body"]["instanceSlug"]
    if name in [instance for instance, _ in model["versions"]]:
        return {"error": "exists", "errorCode": 409}
    model["versions"].append((name, _files(hubs, fields["body"])))
    return {}


def _create_version(hubs, fields, headers):
    model = hubs.models[f"{fields['ownerSlug']}/{fields['modelSlug']}"]
    model["versions"].append((fields["instanceSlug"], _files(hubs, fields["body"])))
    return {}


KAGGLE = {
    "Hello": _hello,
    "GetModel": _get_model,
    "CreateModel": _create_model,
    "StartBlobUpload": _start_upload,
    "CreateModelInstance": _create_instance,
    "CreateModelInstanceVersion": _create_version,
}
