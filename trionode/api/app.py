"""The HTTP application: every route of the table, served by Quart on Trio.

Quart sees only URL rules; parameters, levels, cache and envelope are applied here once for all
routes (docs/spec/api.md §1), and handlers never touch the framework.
"""

from __future__ import annotations

import html
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn, cast

import trio
from quart import Response, request
from quart.routing import QuartRule
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, RequestTimeout

from trionode.api.answers import Answer, ApiFailure, JsonStream, Reply, Stream, message, refusal, success
from trionode.api.appcall import asked_target, owner_of
from trionode.api.auth import Authority, parse_credentials
from trionode.api.cache import ResponseCache
from trionode.api.call import Call, parse_body, parse_query
from trionode.api.context import ApiContext
from trionode.api.delivery import list_response, preflight, render, respond, stream_response
from trionode.api.levels import OF_AN_APP, Level
from trionode.api.route import Route
from trionode.api.routes import ROUTES
from trionode.api.sessions import Sessions
from trionode.errors import StoreAway
from trionode.plans.control import app_of
from trionode.runtime.logs import get_logger

BODY_TIMEOUT_S = 60
AWAY_S = 5.0
"""Who asks gets an answer after this time at the latest while the store cannot be read."""
BYPASS_HEADERS = ("x-apicache-bypass", "x-apicache-force-fetch")

log = get_logger("api")


class _MatchingRule(QuartRule):
    """A URL rule that is only matched. The code it would need to make URLs of its own, which nobody asks it
    for, took nine tenths of the time of building an application."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        return _no_url


def _no_url(rule: QuartRule, **values: Any) -> NoReturn:
    raise LookupError(f"nobody makes URLs from {rule.rule}")


def create_app(context: ApiContext, routes: Sequence[Route] = ROUTES) -> QuartTrio:
    """The application of one node; building it opens nothing and starts nothing."""
    app = QuartTrio("trionode.api", static_folder=None)
    app.url_rule_class = _MatchingRule
    app.config["MAX_CONTENT_LENGTH"] = context.settings.api.body_limit_bytes
    app.config["BODY_TIMEOUT"] = BODY_TIMEOUT_S
    desk = _Desk(context)
    for route in routes:
        view = desk.view(route)
        for rule in route.rules():
            app.add_url_rule(
                rule,
                endpoint=f"{route.method} {rule}",
                view_func=view,
                methods=[route.method],
                provide_automatic_options=False,
                strict_slashes=False,
            )
    app.before_request(_answer_preflight)
    app.after_request(_allow_all_origins)
    app.register_error_handler(HTTPException, _http_error)
    return app


async def _answer_preflight() -> Response | None:
    return preflight(request.headers) if request.method == "OPTIONS" else None


async def _allow_all_origins(response: Response) -> Response:
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


async def _http_error(error: HTTPException) -> Response:
    """Unknown routes (and methods) are HTML text with status 404; the rest keeps the envelope."""
    status = error.code or 500
    if status in (404, 405):
        page = (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n'
            f"</head>\n<body>\n<pre>Cannot {html.escape(request.method)} {html.escape(request.path)}</pre>\n"
            "</body>\n</html>\n"
        )
        return Response(page, status=404, content_type="text/html; charset=utf-8")
    text = f"{error.name}: {error.description}"
    body = render(Answer("error", message(text), status))
    return await respond(body, request.method, request.headers, 0)


class _Desk:
    """Serves routes: reads the request, checks the level, asks the handler, keeps the cache."""

    def __init__(self, context: ApiContext) -> None:
        self._context = context
        self.sessions = Sessions(
            context.settings.api,
            context.clock,
            context.rng,
            operator_id=context.settings.node.operator_id,
        )
        self.authority = Authority(context.settings, self.sessions, context.clock)
        self._cache = ResponseCache(trio.current_time)

    def view(self, route: Route) -> Callable[..., Awaitable[Response]]:
        async def serve(**path: str) -> Response:
            return await self._serve(route, path)

        return serve

    async def _serve(self, route: Route, path: dict[str, str]) -> Response:
        headers = request.headers
        cacheable = route.cache_s > 0 and route.level is Level.PUBLIC and "zelidauth" not in headers
        url = request.full_path
        if cacheable and not any(name in headers for name in BYPASS_HEADERS):
            hit = self._cache.get(url)
            if hit is not None:
                self._context.counters.add("api.requests.cached")
                return await respond(hit[0], request.method, headers, hit[1])
        reply = await self._answer(route, path)
        if isinstance(reply, Stream):
            return stream_response(reply)
        if isinstance(reply, JsonStream):
            return await list_response(reply, request.method, headers, route.cache_s if cacheable else 0)
        body = render(reply)
        life_s = 0
        if cacheable:
            life_s = min(route.cache_s, reply.life_s) if isinstance(reply, Answer) else route.cache_s
            self._cache.put(url, body, life_s)
        return await respond(body, request.method, headers, life_s)

    async def _answer(self, route: Route, path: dict[str, str]) -> Reply:
        """The handler's reply, or what stands for its failure; the API outlives any handler."""
        try:
            call = await self._read(route, path)
            if not await self._may(route, call):
                self._context.counters.add("api.requests.refused")
                return refusal()
            if route.acts and request.method == "HEAD":
                return success("HEAD changes nothing")
            reply = await self._handled(route, call)
        except ApiFailure as failure:
            self._context.counters.add("api.requests.failed")
            return failure.answer()
        except StoreAway as away:
            # Known and told already; a traceback for each request would only fill the disk.
            self._context.counters.add("api.requests.store_away")
            return Answer("error", message(away.one_line(), type(away).__name__), 503)
        except HTTPException:
            raise
        except Exception as error:
            self._context.counters.add("api.requests.crashed")
            log.exception("request handler failed", route=route.path)
            return Answer("error", message("Internal error", type(error).__name__), 500)
        self._context.counters.add("api.requests.answered")
        return reply

    async def _handled(self, route: Route, call: Call) -> Reply:
        """What only asks is not kept waiting for a store that is known to be away."""
        server = self._context.server
        if server is None or server.is_readable or route.acts or route.method != "GET":
            return await route.handler(call)
        with trio.move_on_after(AWAY_S):
            return await route.handler(call)
        told = server.document()
        raise StoreAway(told["problem"] or "the store does not answer", remedy=told["remedy"] or "")

    async def _may(self, route: Route, call: Call) -> bool:
        if route.level in OF_AN_APP:
            owner = None if call.credentials is None else await owner_of(call, app_of(asked_target(call)))
            return self.authority.allows_for_app(route.level, call.credentials, owner)
        return self.authority.allows(route.level, call.credentials)

    async def _read(self, route: Route, path: dict[str, str]) -> Call:
        body: dict[str, Any] = {}
        if route.method == "POST":
            try:
                raw = cast("bytes", await request.get_data(as_text=False))
            except RequestEntityTooLarge as error:
                limit = self._context.settings.api.body_limit_bytes
                raise ApiFailure(f"Body is larger than {limit} bytes", http_status=413) from error
            except RequestTimeout as error:
                raise ApiFailure(f"Body did not arrive within {BODY_TIMEOUT_S} s", http_status=408) from error
            body = parse_body(raw, request.content_type or "")
        return Call(
            context=self._context,
            path=path,
            query=parse_query(request.query_string.decode("latin-1")),
            headers=request.headers,
            body=body,
            remote_ip=(request.remote_addr or "").removeprefix("::ffff:"),
            credentials=parse_credentials(request.headers.get("zelidauth", "")),
            authority=self.authority,
            sessions=self.sessions,
        )
