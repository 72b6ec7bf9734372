"""A web service that recommends, on aiohttp: ``python -m clients.examples.asyncio_service HOST:PORT``."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from clients import AsyncRecommenderClient, ClientError, DeadlineExceeded, InvalidRequest

CLIENT = web.AppKey("client", AsyncRecommenderClient)
# HTTP statuses of client errors; all others mean that the recommender is not available now.
STATUSES = {InvalidRequest: HTTPStatus.BAD_REQUEST, DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT}


async def recommend(request: web.Request) -> web.Response:
    """GET /recommend?history=50&history=181&k=5."""
    try:
        k = int(request.query.get("k", "10"))
    except ValueError:
        raise InvalidRequest(f"found k = {request.query['k']!r}, expected a whole number") from None
    answer = await request.app[CLIENT].recommend(request.query.getall("history", []), k=k)
    items = [{"item_id": item_id, "score": score} for item_id, score in answer]
    return web.json_response({"items": items, "unknown_ids": answer.unknown_ids})


async def health(request: web.Request) -> web.Response:
    """GET /health: whether the model answers a real request."""
    found = await request.app[CLIENT].health(timeout_s=2.0)
    return web.json_response({"ready": bool(found)}, status=HTTPStatus.OK if found else HTTPStatus.SERVICE_UNAVAILABLE)


@web.middleware
async def errors_as_statuses(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer an error with a status. ``reason`` is the error without the server's address, which stays internal."""
    try:
        return await handler(request)
    except ClientError as error:
        return web.json_response({"error": error.reason}, status=STATUSES.get(type(error), HTTPStatus.SERVICE_UNAVAILABLE))


def make_app(url: str, timeout_s: float = 1.0) -> web.Application:
    """The service; ``url`` is the recommender's."""

    async def opened_client(app: web.Application) -> AsyncIterator[None]:
        # One client for all requests, made on the app's event loop and closed with it.
        async with AsyncRecommenderClient(url, timeout_s=timeout_s) as client:
            app[CLIENT] = client
            yield

    app = web.Application(middlewares=[errors_as_statuses])
    app.cleanup_ctx.append(opened_client)
    app.add_routes([web.get("/recommend", recommend), web.get("/health", health)])
    return app


if __name__ == "__main__":
    web.run_app(make_app(sys.argv[1]), host="127.0.0.1", port=8080)
