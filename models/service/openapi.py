"""The OpenAPI document, from `routes` and `messages`; `openapi.json` beside this file is it, and CI compares them.

`python -m models.service.openapi` writes the file; with `--check` it writes nothing and exits 1 if it differs.
"""

import argparse
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from models.service.messages import InferenceRequest, Problem
from models.service.routes import ROUTES, Route
from models.service.tasks import TASK_TYPES

FILE = Path(__file__).with_name("openapi.json")
VERSION = "1"
_REFERENCE = "#/components/schemas/{model}"
_ANYWHERE = {
    "403": "the key lacks the scope; or a page of another origin asks, or a proxy where no key is needed",
    "405": "not with this method",
    "421": "another host name than this computer's, while only this computer can ask",
    "500": "a mistake in the service",
}
_PROBLEMS = _ANYWHERE | {
    "400": "the body is not JSON, or no form",
    "401": "no key, or one that is not known or has expired",
    "404": "no such model or task",
    "408": "the body did not come in time",
    "409": "the model is not deployed, or neither loaded nor in the store is the version that was deployed",
    "413": "too many bytes, seconds or pixels",
    "415": "not a kind of body or media that can be read",
    "422": "a field is wrong, or the model does not take it",
    "429": "too many requests of this key",
    "501": "one machine cannot do it",
    "502": "the model broke on it",
    "503": "unavailable, with the command that would help; or overloaded; or the engine is being restarted, or the "
    "service stopped; or the store cannot be written (`store_unwritable`), and nothing has changed",
    "504": "no answer before the time-out",
}


@cache
def text() -> str:
    """The document as JSON."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


def document() -> dict[str, Any]:
    """OpenAPI 3.1."""
    references, schemas = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route, references)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Candor model service", "version": VERSION, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a token (JWT)"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _schemas() -> tuple[dict[tuple[Any, JsonSchemaMode], Any], dict[str, Any]]:
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {
        (Problem, "serialization"): None,
        (InferenceRequest, "validation"): None,
    }
    for route in ROUTES:
        if route.body is not None:
            wanted[(route.body, "validation")] = None
        if route.answer is not None:
            wanted[(route.answer, "serialization")] = None
    references, bundle = models_json_schema(list(wanted), ref_template=_REFERENCE)
    return references, dict(sorted(bundle["$defs"].items()))


def _operation(route: Route, references: dict[tuple[Any, JsonSchemaMode], Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if parameters := [_parameter(name) for name in re.findall(r"{(\w+)}", route.path)]:
        operation["parameters"] = parameters
    if route.body is not None:
        body = {"application/json": {"schema": references[route.body, "validation"]}}
        if route.multipart:
            body["multipart/form-data"] = {"schema": _form()}
        operation["requestBody"] = {"required": True, "content": body}
    success: dict[str, Any] = {"description": "Success"}
    if route.answer is not None:
        success["content"] = {"application/json": {"schema": references[route.answer, "serialization"]}}
    operation["responses"] = {str(route.status): success}
    if route.scope is not None:
        operation["security"] = [{"bearer": []}, {"key": []}]
        operation["description"] = f"Scope `{route.scope}`."
    problem = {"application/json": {"schema": references[Problem, "serialization"]}}
    for status, meaning in sorted((_ANYWHERE if route.scope is None else _PROBLEMS).items()):
        operation["responses"][status] = {"description": meaning, "content": problem}
    return operation


def _parameter(name: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if name == "task_type":
        schema["enum"] = list(TASK_TYPES)
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _form() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "file": {"type": "string", "contentMediaType": "application/octet-stream"},
            "text": {"type": "string"},
            "parameters": {"type": "string", "description": "JSON, as `Parameters`"},
            "timeout": {"type": "number"},
            "priority": {"type": "string"},
        },
    }


def main(arguments: list[str] | None = None) -> int:
    """Write the file, or with `--check` compare it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m models.service.openapi", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the committed file differs")
    check = parser.parse_args(arguments).check
    if FILE.exists() and FILE.read_text(encoding="utf-8") == text():
        sys.stdout.write("openapi: up to date\n")
        return 0
    if check:
        sys.stderr.write("openapi: out of date; run `python -m models.service.openapi`\n")
        return 1
    FILE.write_text(text(), encoding="utf-8")
    sys.stdout.write("openapi: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
