"""The OpenAPI 3.1 document of the hub's HTTP interface, made of the table of routes. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from recovery.states import State
from recovery.verdict import UserAction
from resumable import __version__
from resumable.events import DownloadView, ErrorView
from resumable_ui.api import MOST_LISTED, ROUTES, Route
from resumable_ui.orderform import MOST_HEADERS, MOST_MIRRORS
from resumable_ui.refusals import HTTP_STATUS, Code
from resumable_ui.wire import STATUS

_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "number"}
_WHOLE: Final = {"type": "integer"}
_FLAG: Final = {"type": "boolean"}

_TYPES: Final[dict[str, dict[str, Any]]] = {
    "str": _TEXT,
    "int": _WHOLE,
    "float": _NUMBER,
    "bool": _FLAG,
    "State": {"type": "string", "enum": [state.value for state in State]},
    "ErrorView": {"$ref": "#/components/schemas/DownloadError"},
    "tuple[int, ...]": {"type": "array", "items": _WHOLE},
    "tuple[str, ...]": {"type": "array", "items": _TEXT},
    "tuple[UserAction, ...]": {
        "type": "array",
        "items": {"type": "string", "enum": [action.value for action in UserAction]},
    },
}

_FORM: Final = {
    "type": "object",
    "properties": {
        "request_id": {
            "type": "string",
            "description": "The same request again within 60 s has the same answer; another one with its id is refused",
        },
        "if_rev": {"type": "integer", "description": "Refused as conflict where it has changed since"},
        "url": {"type": "string", "description": "relink: the fresh link"},
        "delete_part": {"type": "boolean", "description": "cancel: delete what was received, too"},
    },
}
_ADD: Final = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "request_id": _TEXT,
        "url": {"type": "string", "format": "uri"},
        "filename": {"type": "string", "description": "a plain name; without it the server or the link gives one"},
        "directory": {"type": "string", "description": "below the served folder"},
        "project": _TEXT,
        "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"},
        "mirrors": {"type": "array", "maxItems": MOST_MIRRORS, "items": {"type": "string", "format": "uri"}},
        "headers": {"type": "object", "maxProperties": MOST_HEADERS, "additionalProperties": _TEXT},
    },
}
_BULK: Final = {
    "type": "object",
    "required": ["action", "filter"],
    "properties": {
        "request_id": _TEXT,
        "action": {"type": "string", "enum": ["pause", "resume", "retry", "cancel"]},
        "filter": {"oneOf": [_TEXT, {"type": "array", "items": _TEXT}]},
        "args": {"type": "object"},
    },
}
_QUERY: Final[dict[str, list[tuple[str, dict[str, Any]]]]] = {
    "snapshot": [("project", _TEXT)],
    "list_downloads": [
        ("project", _TEXT),
        ("state", _TYPES["State"]),
        ("limit", {"type": "integer", "minimum": 0, "maximum": MOST_LISTED, "default": 100}),
        ("offset", {"type": "integer", "minimum": 0, "default": 0}),
    ],
}
_RESULT: Final[dict[str, str]] = {
    "snapshot": "Snapshot",
    "list_downloads": "DownloadList",
    "get_download": "Download",
    "bulk_action": "BulkResult",
    "list_operations": "OperationList",
    "get_operation": "OperationDetails",
}


def document() -> dict[str, Any]:
    """Return the document, JSON-safe."""
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "resumable: downloads",
            "version": __version__,
            "description": "Shows and steers downloads of every process that shares a state file.",
        },
        "servers": [{"url": "..", "description": "Relative to this document"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": _schemas(),
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    success = {"add_download": "201"}.get(route.name, "200")
    acting = route.method == "POST" and route.name not in {"add_download", "bulk_action"}
    result = _RESULT.get(route.name, "ActionResult" if route.method == "POST" else None)
    schema = {"type": "object"} if result is None else {"$ref": f"#/components/schemas/{result}"}
    answer = {"description": "Done", "content": {"application/json": {"schema": schema}}}
    responses: dict[str, Any] = {success: answer}
    if acting:
        responses["202"] = {
            **answer,
            "description": "Another process was told; its change of state is the confirmation",
        }
    responses["default"] = {
        "description": "Refused",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}},
    }
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary, "responses": responses}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT} for name in re.findall(r"\{(\w+)\}", route.path)
    ]
    parameters += [{"name": name, "in": "query", "schema": kind} for name, kind in _QUERY.get(route.name, [])]
    if parameters:
        operation["parameters"] = parameters
    if route.role is None:
        operation["security"] = []
    body = {"add_download": _ADD, "bulk_action": _BULK}.get(route.name, _FORM if acting else None)
    if body is not None:
        operation["requestBody"] = {"required": not acting, "content": {"application/json": {"schema": body}}}
    return operation


def _schemas() -> dict[str, Any]:
    error = {"code": {"type": "string", "enum": [code.value for code in Code]}, "message": _TEXT}
    statuses = sorted({*HTTP_STATUS.values()})
    acted = {"ok": _FLAG, "download_id": _TEXT, "state": _TYPES["State"], "rev": _WHOLE, "pending": _FLAG}
    download = {"$ref": "#/components/schemas/Download"}
    operation = {"$ref": "#/components/schemas/RecoveryOperation"}
    return {
        "Download": {"type": "object", "properties": {**_properties(DownloadView), **_beside_the_view()}},
        "DownloadError": {"type": "object", "properties": _properties(ErrorView)},
        "DownloadList": _object(downloads=_list(download), total=_WHOLE),
        "Snapshot": _object(
            ok=_FLAG,
            v=_WHOLE,
            epoch=_TEXT,
            seq=_WHOLE,
            ts=_NUMBER,
            downloads=_list(download),
            operations=_list(operation),
        ),
        "ActionResult": {"type": "object", "properties": acted},
        "BulkResult": _object(ok=_FLAG, done=_list(_TEXT), refused=_list({"type": "object"})),
        "RecoveryOperation": _object(operation_id=_TEXT, state=_TYPES["State"], attempt=_WHOLE, max_attempts=_WHOLE),
        "OperationList": _object(operations=_list(operation)),
        "OperationDetails": _object(operation=operation, attempts=_list({"type": "object"})),
        "Refusal": {
            "type": "object",
            "description": f"With status {', '.join(map(str, statuses))}",
            "properties": {"ok": {"const": False}, "error": {"type": "object", "properties": error}},
        },
    }


def _properties(record: type[Struct]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for field in record.__struct_fields__:
        name = str(record.__annotations__[field])
        kind = _TYPES[name.removesuffix(" | None")]
        found[field] = {"anyOf": [kind, {"type": "null"}]} if name.endswith(" | None") else kind
    return found


def _beside_the_view() -> dict[str, Any]:
    return {
        "operation_id": _TEXT,
        "status": {"type": "string", "enum": sorted(set(STATUS.values()))},
        "resumable": {"anyOf": [_FLAG, {"type": "null"}]},
        "episode": _WHOLE,
    }


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _list(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}
