"""The OpenAPI document and the page that shows it: Swagger UI, all assets from a package."""

import json
from typing import Any

import flask_swagger_ui
import yaml
from flask import Flask, Response, send_from_directory

from app.kernel.auth import public
from app.kernel.http.api import Api, api_of


def spec_of(app: Flask) -> dict[str, Any]:
    """The OpenAPI document of an app."""
    return api_of(app).document()


def spec_as_yaml(app: Flask) -> str:
    """The OpenAPI document as YAML: byte-stable, in reading order."""
    plain = json.loads(json.dumps(spec_of(app)))
    return str(yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as it stands."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


_DOCS_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><title>Modelyard</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_DOCS_SCRIPT = """window.ui = SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  displayRequestDuration: true, persistAuthorization: false, defaultModelsExpandDepth: 0,
});
"""
_DOCS_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'"
)


def register_documents(app: Flask, api: Api) -> frozenset[str]:
    """The spec and its page; the endpoints, all public on purpose."""
    assets = f"{flask_swagger_ui.__path__[0]}/dist"
    cached: dict[str, str] = {}

    @public
    def openapi_json() -> Response:
        text = cached.setdefault("json", json.dumps(api.document()))
        return Response(text, content_type="application/json")

    @public
    def openapi_yaml() -> Response:
        text = cached.setdefault("yaml", spec_as_yaml(app))
        return Response(text, content_type="application/yaml")

    @public
    def docs() -> Response:
        headers = {"Content-Security-Policy": _DOCS_POLICY}
        return Response(_DOCS_PAGE, headers=headers, content_type="text/html; charset=utf-8")

    @public
    def docs_start() -> Response:
        return Response(_DOCS_SCRIPT, content_type="text/javascript; charset=utf-8")

    @public
    def docs_asset(name: str) -> Response:
        return send_from_directory(assets, name)

    app.add_url_rule("/openapi.json", view_func=openapi_json)
    app.add_url_rule("/openapi.yaml", view_func=openapi_yaml)
    app.add_url_rule("/docs", view_func=docs)
    app.add_url_rule("/docs/start.js", view_func=docs_start)
    app.add_url_rule("/docs/<name>", view_func=docs_asset)
    return frozenset({"openapi_json", "openapi_yaml", "docs", "docs_start", "docs_asset"})
