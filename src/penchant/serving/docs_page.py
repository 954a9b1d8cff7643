"""The page at `/docs`: the OpenAPI document as plain HTML, without scripts and without anything from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "body{color:#1a1a1a;background:#fff}"
    "h2{font-size:1.05rem;margin:2rem 0 .3rem}code,pre{font:14px/1.45 ui-monospace,monospace}"
    "pre{background:#f4f4f2;padding:.8rem;overflow:auto;border-radius:4px}b{display:inline-block;min-width:4.5rem}"
    "table{border-collapse:collapse}td{padding:.15rem 1rem .15rem 0;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}pre{background:#242424}a{color:#8ab4f8}}"
)


def render(document: dict[str, Any]) -> bytes:
    """The page."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{escape(info['title'])}</title><style>{_STYLE}</style><h1>{escape(info['title'])}</h1>"
        f"<p>{escape(info['description'])} <a href=openapi.json>openapi.json</a></p>"
    ]
    for path, methods in document["paths"].items():
        parts += [_operation(path, method, operation) for method, operation in methods.items()]
    parts.append("<h1>Shapes</h1>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f"<h2 id='{escape(name)}'>{escape(name)}</h2>{_code(schema)}")
    return "".join(parts).encode()


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [_row(f"{one['name']} ({one['in']})", one) for one in operation.get("parameters", ())]
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        rows.append(_row(f"body, {kind}", content))
    for status, answer in operation["responses"].items():
        shown: dict[str, Any] = next(iter(answer.get("content", {}).values()), {})
        rows.append(_row(status, {**shown, "description": answer["description"]}))
    return (
        f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>{escape(operation['summary'])}"
        f"<table>{''.join(rows)}</table>"
    )


def _row(name: str, about: dict[str, Any]) -> str:
    shape = about.get("schema", {}).get("$ref", "").rpartition("/")[2]
    link = f" <a href='#{escape(shape)}'>{escape(shape)}</a>" if shape else ""
    return f"<tr><td><code>{escape(name)}</code><td>{escape(about.get('description', ''))}{link}"


def _code(schema: dict[str, Any]) -> str:
    return f"<pre>{escape(json.dumps(schema, indent=1, ensure_ascii=False))}</pre>"
