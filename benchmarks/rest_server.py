"""A paged API on loopback whose answers are made before it listens, so that it costs the client next to nothing.

python -m benchmarks.rest_server RECORDS PER_PAGE    prints its URL, and serves until its input ends
"""

from __future__ import annotations

import json
import socketserver
import sys
import threading
from http import HTTPStatus


def pages(records: int, size: int) -> dict[str, bytes]:
    """Make the whole answer of every path, headers included."""
    found = {}
    count = -(-records // size)
    for page in range(1, count + 1):
        numbers = range((page - 1) * size + 1, min(page * size, records) + 1)
        following = f"/books?page={page + 1}" if page < count else None
        body = json.dumps({"count": records, "next": following, "results": [record(number) for number in numbers]})
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        found[f"/books?page={page}"] = (head + body).encode()
    found["/books"] = found["/books?page=1"]
    return found


def record(number: int) -> dict[str, object]:
    """Make a book as a catalogue gives it: 0.5 KB, nested."""
    return {
        "id": number,
        "title": f"The history of {number} things, and of what came of them",
        "authors": [{"name": f"Writer, Number {number % 997}", "birth_year": 1800 + number % 100, "death_year": None}],
        "subjects": [f"Subject {number % 31}", f"Subject {number % 37} -- Fiction"],
        "languages": ["en"],
        "copyright": number % 7 == 0,
        "media_type": "Text",
        "formats": {
            "text/html": f"https://example.org/{number}.html",
            "text/plain": f"https://example.org/{number}.txt",
        },
        "download_count": number * 7919 % 10_007,
        "issued": f"{1990 + number % 30}-{number % 12 + 1:02d}-{number % 28 + 1:02d}",
        "price": f"{number % 90}.{number % 100:02d}",
    }


class Handler(socketserver.StreamRequestHandler):
    """Answers requests of one connection until it closes."""

    pages: dict[str, bytes]

    def handle(self) -> None:
        """Read request lines, skip headers, send what is there."""
        missing = f"HTTP/1.1 404 {HTTPStatus(404).phrase}\r\nContent-Length: 0\r\n\r\n".encode()
        while line := self.rfile.readline():
            while self.rfile.readline().strip():
                pass
            self.wfile.write(self.pages.get(line.split()[1].decode(), missing))


class Server(socketserver.ThreadingTCPServer):
    """One thread a connection."""

    daemon_threads = True
    allow_reuse_address = True


def main(records: int, size: int) -> None:
    """Serve until standard input ends, which it does with the process that started this one."""
    Handler.pages = pages(records, size)
    with Server(("127.0.0.1", 0), Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
