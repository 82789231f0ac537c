"""The OpenAPI 3.1 document, assembled from the route table (so it cannot say what is not served)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import trionode
from trionode.api.levels import Level
from trionode.api.route import Param, Route

_ERROR_DATA = {
    "type": "object",
    "required": ["message"],
    "properties": {"code": {"type": ["integer", "string"]}, "name": {"type": "string"}, "message": {}},
}
_BAD_INPUT = {413: "Body larger than the limit", 400: "Malformed body or query"}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The whole document for these routes."""
    paths: dict[str, dict[str, Any]] = {}
    tags: dict[str, None] = {}
    for route in routes:
        tags[route.group] = None
        for path, operation in _operations(route):
            paths.setdefault(path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "trionode",
            "version": trionode.__version__,
            "description": "HTTP API of a trionode Flux node. Nearly every answer is HTTP 200 with "
            "`{status, data}`; `status` tells success from error.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": tag} for tag in tags],
        "paths": paths,
        "components": {
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["status", "data"],
                    "properties": {"status": {"const": "error"}, "data": _ERROR_DATA},
                },
                "Warning": {
                    "type": "object",
                    "required": ["status", "data"],
                    "properties": {"status": {"const": "warning"}, "data": _ERROR_DATA},
                },
            },
            "securitySchemes": {
                "zelidauth": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "zelidauth",
                    "description": "`zelid=...&signature=...&loginPhrase=...`, URL-encoded",
                }
            },
        },
    }


def _operations(route: Route) -> Iterable[tuple[str, dict[str, Any]]]:
    """One operation per spelling and per number of path parameters."""
    positional = [param for param in route.params if not param.query_only]
    for alias, path in enumerate((route.path, *route.aliases)):
        for count in range(len(positional) + 1):
            full = path + "".join(f"/{{{param.name}}}" for param in positional[:count])
            name = f"{route.method.lower()}{path.replace('/', '_')}" + (f"_{count}" if count else "")
            yield full, _operation(route, name, positional[:count], deprecated=alias > 0)


def _operation(route: Route, name: str, in_path: list[Param], *, deprecated: bool) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [route.group],
        "summary": route.about,
        "parameters": [_parameter(param, in_path=param in in_path) for param in route.params],
        "responses": _responses(route),
    }
    if deprecated:
        operation["description"] = f"Another spelling of {route.path}."
    if route.level is not Level.PUBLIC:
        operation["security"] = [{"zelidauth": []}]
        operation["description"] = f"Level: {route.level.value}. Refusals are HTTP 200 with code 401."
    if route.body:
        operation["requestBody"] = _body(route)
    return operation


def _parameter(param: Param, *, in_path: bool) -> dict[str, Any]:
    # Values the handler does not like are answered with an error envelope, so any text may be sent.
    found: dict[str, Any] = {
        "name": param.name,
        "in": "path" if in_path else "query",
        "description": param.about,
        "schema": {"type": "string"} if param.kind == "string" else {"type": param.kind},
    }
    if in_path:
        found["required"] = True
        found["schema"] = {**found["schema"], **({"minLength": 1} if param.kind == "string" else {})}
    return found


def _body(route: Route) -> dict[str, Any]:
    properties = {
        field.name: {"type": field.kind, **({"description": field.about} if field.about else {})}
        for field in route.body
    }
    members = {
        "type": "object",
        "properties": properties,
        "required": [field.name for field in route.body if field.required],
    }
    kinds = ("application/json", "text/plain", "application/x-www-form-urlencoded")
    return {
        "description": "A JSON object, whatever content type is declared; a form is understood too.",
        "content": {kind: {"schema": members} for kind in kinds[:1]},
    }


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    if route.content_type == "application/json":
        success = {
            "type": "object",
            "required": ["status", "data"],
            "properties": {"status": {"const": "success"}, "data": route.result},
        }
        if route.bare is not None:
            success = route.bare
        schema: dict[str, Any] = {
            "anyOf": [
                success,
                {"$ref": "#/components/schemas/Error"},
                {"$ref": "#/components/schemas/Warning"},
            ]
        }
    else:
        schema = {"type": "string"}
    content: dict[str, Any] = {route.content_type: {"schema": schema}}
    if route.content_type != "application/json":
        content["application/json"] = {"schema": {"$ref": "#/components/schemas/Error"}}
    responses["200"] = {"description": _success_text(route), "content": content}
    bad = dict(_BAD_INPUT) if route.method == "POST" else {400: _BAD_INPUT[400]}
    for status in (*bad, *route.rare_statuses):
        responses[str(status)] = {
            "description": bad.get(status, "See the summary"),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return responses


def _success_text(route: Route) -> str:
    if route.streams:
        return "Progress as JSON objects one after the other without separators; the last one is an envelope"
    return "Success, or an error envelope"
