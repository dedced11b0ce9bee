"""The HTTP interface: TensorFlow Serving's paths, health, metrics, and two pages."""

import asyncio
import contextlib
import hmac
import json
import logging
import re
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from kft.serve import openapi, rest
from kft.serve.batching import Batcher
from kft.serve.metrics import CONTENT_TYPE, Metrics
from kft.serve.refusal import Refused, bad
from kft.serve.settings import Settings
from kft.serve.versions import Versions

LOG = logging.getLogger("kft.serve")
PAGES = Path(__file__).parent / "pages"
# /v1/models/NAME[/versions/V | /labels/L][/metadata | :METHOD]
_MODEL_PATH = re.compile(
    r"(?P<name>[^/:]+)(/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?(?P<metadata>/metadata)?(:(?P<method>\w+))?"
)
_POLICY = "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


@dataclass(eq=False)
class Service:
    """All that the handlers share. `draining` and `answering` change while it runs.

    Attributes:
        draining: since when requests are refused, as `time.monotonic`; None while they are not.
        answering: requests that were accepted and have no answer yet.
    """

    settings: Settings
    versions: Versions
    batcher: Batcher
    metrics: Metrics
    draining: float | None = None
    answering: int = 0


def build(settings: Settings, versions: Versions) -> tuple[Starlette, Service]:
    """The application, which calls the model and looks for new versions, and its service."""
    metrics = Metrics(lambda: batcher.waiting, lambda: versions.current.version if versions.current else 0)
    batcher = Batcher(
        settings.max_batch_size, settings.max_delay_ms / 1000, settings.queue_size, metrics.batch
    )
    service = Service(settings, versions, batcher, metrics)
    routes = [
        Route("/v1/models/{path:path}", _endpoint(service, _models), methods=["GET", "POST"]),
        Route("/metrics", _endpoint(service, _metrics)),
        Route("/healthz", _endpoint(service, _health, open_to_all=True)),
        Route("/openapi.json", _endpoint(service, _openapi, open_to_all=True)),
        Route("/docs", _endpoint(service, _page("docs.html"), open_to_all=True)),
        Route("/", _endpoint(service, _page("index.html"), open_to_all=True)),
    ]
    handlers = {404: _unknown_path, 405: _wrong_verb}
    return Starlette(
        routes=routes, lifespan=lambda app: _running(service), exception_handlers=handlers
    ), service


@contextlib.asynccontextmanager
async def _running(service: Service) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(service.batcher.run()), asyncio.create_task(_poll(service))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _poll(service: Service) -> None:
    while True:
        await asyncio.sleep(service.settings.poll_seconds)
        if service.draining is not None:
            return
        try:
            await asyncio.to_thread(service.versions.refresh)
        except OSError as error:  # the folder cannot be read now; later perhaps
            LOG.error("%s: %s", type(error).__name__, error)


Handler = Callable[[Service, Request], Awaitable[Response]]


def _endpoint(service: Service, handle: Handler, open_to_all: bool = False) -> Callable:
    """A Starlette endpoint: counts, checks the token, and turns errors into error objects."""

    async def endpoint(request: Request) -> Response:
        started = time.monotonic()
        service.answering += 1
        try:
            if not open_to_all:
                _check_token(service.settings.token, request)
            response = await handle(service, request)
        except Refused as refused:
            response = _error(refused.status, refused.message, refused.headers)
        except ClientDisconnect:
            response = _error(499, "the client went away")
        except Exception as error:  # its message may hold a text, which does not belong in a log
            LOG.error("%s\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
            response = _error(500, "internal error")
        finally:
            service.answering -= 1
        if service.draining is not None:
            response.headers["Connection"] = "close"
        service.metrics.request(_kind(request), response.status_code, time.monotonic() - started)
        return response

    return endpoint


async def _models(service: Service, request: Request) -> Response:
    match = _MODEL_PATH.fullmatch(request.path_params["path"])
    if not match or (match["metadata"] and match["method"]):
        raise bad(f"Malformed request: {request.method} {request.url.path}")
    if match["method"] not in (None, *rest.METHODS):
        raise bad(f"Malformed request: {request.method} {request.url.path}")
    wanted = "POST" if match["method"] else "GET"
    if request.method not in (wanted, "HEAD" if wanted == "GET" else wanted):
        raise Refused(405, f"use {wanted} for {request.url.path}", {"Allow": wanted})
    version = int(match["version"][:20]) if match["version"] else None
    if match["name"] != service.versions.name:
        raise _unknown_model(match, version)
    if match["label"]:  # a name that TensorFlow Serving's own configuration can give a version
        raise bad(f"Unrecognized servable version label: {match['label']}")
    if match["method"]:
        return await _call(service, request, version, match["method"])
    if match["metadata"]:
        return _json(_metadata(service, version))
    return _json(service.versions.status(version))


async def _call(service: Service, request: Request, version: int | None, method: str) -> Response:
    if service.draining is not None:
        raise Refused(503, "the server is stopping", {"Retry-After": "1"})
    settings, model = service.settings, service.versions.get(version)
    body = await _body(request, settings)
    call = rest.METHODS[method](rest.parse(body), model)
    if call.count > settings.max_texts:
        raise Refused(413, f"{call.count} texts in a request, at most {settings.max_texts} are taken")
    try:
        async with asyncio.timeout(settings.timeout_seconds):
            outputs = await service.batcher.call(model, call.signature, call.columns, call.count)
    except TimeoutError:
        raise Refused(504, f"no answer within {settings.timeout_seconds:g} s") from None
    return _json(call.answer(outputs))


async def _body(request: Request, settings: Settings) -> bytes:
    """The body, read no further than it may be long, and no longer than a request may take."""
    limit = settings.max_body_bytes
    too_long = Refused(413, f"the body is longer than {limit} bytes")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:20]) > limit:
        raise too_long
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused(415, "the body must not be compressed")
    body = bytearray()
    try:
        async with asyncio.timeout(settings.timeout_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    raise too_long
    except TimeoutError:
        raise Refused(
            408, f"the body did not come within {settings.timeout_seconds:g} s", {"Connection": "close"}
        ) from None
    return bytes(body)


def _metadata(service: Service, version: int | None) -> dict[str, Any]:
    model = service.versions.get(version)
    return {
        "model_spec": {"name": service.versions.name, "signature_name": "", "version": str(model.version)},
        "metadata": {"signature_def": {"signature_def": model.metadata}},
    }


async def _health(service: Service, request: Request) -> Response:
    if service.draining is not None:
        raise Refused(503, "the server is stopping")
    return _json({"status": "ok", "version": str(service.versions.get(None).version)})


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


async def _openapi(service: Service, request: Request) -> Response:
    return _json(openapi.document(service.versions.name, service.versions.get(None)))


def _page(name: str) -> Handler:
    content = (PAGES / name).read_bytes()

    async def page(service: Service, request: Request) -> Response:
        return Response(content, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    return page


def _check_token(token: str | None, request: Request) -> None:
    """Raises Refused: 401. The comparison takes the same time wherever a wrong token differs."""
    if token is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise Refused(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _unknown_model(match: re.Match, version: int | None) -> Refused:
    name = match["name"]
    if match["method"] or match["metadata"]:
        wanted = f"Latest({name})" if version is None else f"Specific({name}, {version})"
        return Refused(404, f"Servable not found for request: {wanted}")
    return Refused(404, f"Could not find any versions of model {name}")


def _kind(request: Request) -> str:
    """Few names for metrics, whatever paths are asked for."""
    path = request.url.path
    if not path.startswith("/v1/"):
        return path.strip("/") or "page"
    tail = re.split("[:/]", path)[-1]
    return tail if tail in (*rest.METHODS, "metadata") else "status"


async def _unknown_path(request: Request, error: Exception) -> Response:
    return _error(404, f"Not found: {request.url.path}")


async def _wrong_verb(request: Request, error: Any) -> Response:
    return _error(405, f"{request.method} is not for {request.url.path}", dict(error.headers or {}))


def _json(value: Any) -> Response:
    return Response(json.dumps(value, ensure_ascii=False).encode(), media_type="application/json")


def _error(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    body = json.dumps({"error": message}, ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, status, headers=headers, media_type="application/json")
