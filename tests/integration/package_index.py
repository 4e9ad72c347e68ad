"""A package index on loopback and the tiny wheels that it offers, for tests of the installer.

It speaks the simple API of PEP 503, remembers what it was asked, can hold an answer back and can serve a wheel that
was tampered with. The one real wheel is uv's, packed again from the test environment.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from email.parser import Parser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from types import TracebackType
from typing import Self


def tiny_wheel(folder: Path, name: str) -> Path:
    """Make a wheel with one module that knows its name."""
    info = f"{name}-1.0.dist-info"
    contents = {
        f"{name}.py": f"NAME = {name!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    contents[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*contents, f"{info}/RECORD"])
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in contents.items():
            wheel.writestr(member, text)
    return path


def uv_wheel(folder: Path) -> Path:
    """Pack the installed uv into a wheel again, programs included."""
    installed = distribution("uv")
    files = [file for file in installed.files or () if "__pycache__" not in file.parts]
    info = f"uv-{installed.version}.dist-info"
    tags = Parser().parsestr(installed.read_text("WHEEL") or "").get_all("Tag") or []
    platforms = ".".join(tag.rpartition("-")[2] for tag in tags)
    path = folder / f"uv-{installed.version}-py3-none-{platforms}.whl"
    left_out = {"RECORD", "INSTALLER", "REQUESTED"}
    members: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in files:
            if file.name in left_out:
                continue
            script = file.parent.name == "bin"
            members.append(f"uv-{installed.version}.data/scripts/{file.name}" if script else str(file))
            wheel.write(Path(str(file.locate())), members[-1])
        wheel.writestr(f"{info}/RECORD", "".join(f"{member},,\n" for member in [*members, f"{info}/RECORD"]))
    return path


class PackageIndex:
    """A simple index over a folder of wheels; use it as a context manager."""

    def __init__(self, wheels: Path) -> None:
        self.wheels = wheels
        self.requests: list[str] = []
        self.tampered: set[str] = set()
        """Projects whose wheels arrive with other bytes than the index announced."""
        self.held: set[str] = set()
        """Projects whose wheels are not sent until they are released."""
        self.reached = threading.Event()
        """Set when a held wheel was asked for."""
        self.released = threading.Event()
        index = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.requests.append(self.path)
                index.answer(self)

            do_HEAD = do_GET

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Stay quiet."""

            def log_error(self, text: str, *args: object) -> None:
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/simple"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        _, kind, name, *_ = [*request.path.split("/"), "", ""]
        project = name.partition("-")[0]
        offered = sorted(self.wheels.glob(f"{project}-*.whl"))
        if kind == "simple" and offered:
            links = [f'<a href="/files/{wheel.name}#sha256={digest(wheel)}">{wheel.name}</a>' for wheel in offered]
            self._send(request, "text/html", "<br>".join(links).encode())
        elif kind == "files" and (self.wheels / name).is_file():
            if project in self.held:
                self.reached.set()
                self.released.wait(30)
            body = (self.wheels / name).read_bytes()
            self._send(request, "application/octet-stream", tampered(body) if project in self.tampered else body)
        else:
            request.send_error(404)

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, kind: str, body: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "GET":
            try:
                request.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):
                request.close_connection = True  # the client was killed, which is what a test does

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def tampered(wheel: bytes) -> bytes:
    """Return a valid wheel of the same contents that is not the same file."""
    archive = io.BytesIO(wheel)
    with zipfile.ZipFile(archive, "a") as changed:
        changed.comment = b"not what was published"
    return archive.getvalue()


def digest(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
