"""The sample world's one host: the API below /api, the shop below /shop/, robots.txt and /healthz at the top."""

from __future__ import annotations

import json
import re
from typing import Any

from dagster_project.sample.api import CatalogueApi
from dagster_project.sample.faults import Throttle
from dagster_project.sample.httpd import METHODS, Request, Response, finish
from dagster_project.sample.storefront import Storefront
from dagster_project.sample.world import World

_ALLOWED = ", ".join(METHODS)
_ROBOTS = b"User-agent: *\nDisallow: /shop/checkout/\nDisallow: /shop/search\nAllow: /\n"
# A base URL that ends in a slash and a path that begins with one, put together.
_DOUBLED = re.compile(r"/(api|shop)//+")
_FRONT = (
    b'<!DOCTYPE html>\n<html lang="en"><head><title>Sample world</title></head><body><h1>Sample world</h1><ul>'
    b'<li><a href="/shop/">Bookshop</a></li><li><a href="/api/books">Catalogue API</a></li>'
    b'<li><a href="/healthz">Health</a></li></ul></body></html>\n'
)


class App:
    """What every path of the host answers."""

    def __init__(self, world: World, identity: dict[str, Any], throttle: Throttle | None = None) -> None:
        self._world = world
        self._identity = identity
        self._api = CatalogueApi(world)
        self._shop = Storefront(world, throttle or Throttle())
        self._requests: dict[str, int] = {}

    def handle(self, request: Request) -> Response:
        """Answer a request."""
        response = finish(request, self._route(request))
        if request.path != "/healthz":
            key = str(response.status)
            self._requests[key] = self._requests.get(key, 0) + 1
        return response

    def _route(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return Response(204, headers={"Allow": _ALLOWED})
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"405 Method Not Allowed\n", "text/plain; charset=utf-8", {"Allow": _ALLOWED})
        path = request.path
        if doubled := _DOUBLED.match(request.target):
            return _moved(f"/{doubled[1]}/{request.target[doubled.end() :]}")
        if path.startswith("/api/"):
            return self._api.handle(path[5:], request)
        if path.startswith("/shop/"):
            return self._shop.handle(path[6:])
        if path == "/":
            return Response(200, _FRONT)
        if path == "/robots.txt":
            return Response(200, _ROBOTS, "text/plain; charset=utf-8")
        if path == "/healthz":
            return self._health()
        if path in ("/api", "/shop"):
            return _moved("/shop/" if path == "/shop" else "/api/books")
        return Response(404, b"404 Not Found\n", "text/plain; charset=utf-8")

    def _health(self) -> Response:
        state = {
            **self._identity,
            "revision": self._world.revision,
            "scale": self._world.scale,
            "seed": self._world.seed,
            "requests": self._requests,
            "disallowed_hits": self._shop.disallowed_hits,
        }
        return Response(200, json.dumps(state).encode() + b"\n", "application/json", {"Cache-Control": "no-store"})


def _moved(location: str) -> Response:
    return Response(301, b"301 Moved Permanently\n", "text/plain; charset=utf-8", {"Location": location})
