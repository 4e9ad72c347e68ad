"""The file of a backup: what is written comes back, and whatever happens to it on the way is found."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from dagster_project.operations.backup import BackupError
from dagster_project.operations.backup.archive import (
    PART,
    Dump,
    Landing,
    Manifest,
    Writer,
    dump_of,
    put_landing,
    verify,
)
from dagster_project.operations.backup.frames import Frames
from dagster_project.operations.backup.make import new_file

BYTES = random.Random(7).randbytes(PART + 1000)
OBJECT = "objects/ab/cdef.zst"


def written(landing: Path | None = None) -> bytes:
    out = io.BytesIO()
    writer = Writer(out)
    manifest = Manifest("2026-11-21T12:00:00+00:00", "0.1.0", "abc", "bindery")
    for key, content in (("dagster", b"small"), ("warehouse", BYTES)):
        manifest.dumps[key] = Dump(key, 17, "0003" if key == "warehouse" else None)
        writer.add_dump(key, manifest.dumps[key], io.BytesIO(content))
    if landing is not None:
        manifest.landing = writer.add_landing(landing)
    writer.finish(manifest)
    return out.getvalue()


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    root = tmp_path / "landing"
    for name, content in ((OBJECT, b"landed"), ("objects/cd/ef.removed", b"going"), ("tmp/1", b"unfinished")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_what_is_written_comes_back(landing: Path, tmp_path: Path) -> None:
    archive = written(landing)
    manifest = verify(io.BytesIO(archive))
    assert manifest.dumps["warehouse"].sha256 == hashlib.sha256(BYTES).hexdigest()
    assert manifest.dumps["warehouse"].bytes == len(BYTES)
    assert manifest.landing == Landing(1, 6)
    assert b"".join(dump_of(io.BytesIO(archive), "warehouse")) == BYTES
    assert b"".join(dump_of(io.BytesIO(archive), "dagster")) == b"small"
    root = tmp_path / "elsewhere"
    assert put_landing(io.BytesIO(archive), root).files == 1
    assert [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()] == [OBJECT]
    assert (root / OBJECT).read_bytes() == b"landed"
    assert put_landing(io.BytesIO(archive), root).files == 0, "what is there stays"


def test_it_opens_without_us(landing: Path, tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_bytes(written(landing))
    folder = tmp_path / "open"
    folder.mkdir()
    subprocess.run(["tar", "xf", file, "-C", folder], check=True)
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=folder, check=True)
    assert b"".join(path.read_bytes() for path in sorted(folder.glob("warehouse.dump.*"))) == BYTES


def test_it_goes_through_a_pipe(landing: Path) -> None:
    archive = written(landing)
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as out:
        if os.fork() == 0:
            source.close()
            out.write(archive)
            out.flush()
            os._exit(0)
        out.close()
        assert verify(source).landing == Landing(1, 6)
    os.wait()


def test_a_changed_byte_is_found_wherever_it_is(landing: Path) -> None:
    archive = written(landing)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        spans = {info.name: (info.offset_data, info.size) for info in tar}
    draws = random.Random(1)
    for name, (offset, size) in spans.items():
        # The manifest says when and by whom as well, which proves nothing and is proved by nothing.
        at = archive.index(b'"sums"', offset) + 12 if name == "manifest.json" else offset + draws.randrange(size)
        damaged = bytearray(archive)
        damaged[at] ^= 0x01
        with pytest.raises(BackupError, match=r"damaged|can't be read"):
            verify(io.BytesIO(bytes(damaged)))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.9999])
def test_one_that_is_cut_off_is_found(landing: Path, share: float) -> None:
    archive = written(landing).rstrip(b"\0")
    with pytest.raises(BackupError, match="cut off"):
        verify(io.BytesIO(archive[: int(len(archive) * share)]))


def test_a_member_more_or_less_is_found() -> None:
    archive = written()
    for left_out, added in (("dagster.dump.000000", None), (None, "warehouse.dump.000009")):
        out = io.BytesIO()
        with (
            tarfile.open(fileobj=io.BytesIO(archive)) as old,
            tarfile.open(fileobj=out, mode="w|") as new,
        ):
            if added:
                new.addfile(tarfile.TarInfo(added), io.BytesIO(b""))
            for info in old:
                if info.name != left_out:
                    new.addfile(info, old.extractfile(info))
        with pytest.raises(BackupError, match=f"{left_out or added} is"):
            verify(io.BytesIO(out.getvalue()))


def test_another_format_is_refused_in_words() -> None:
    text = Manifest("", "", None, "").to_json().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(BackupError, match="update Bindery"):
        Manifest.of_json(text)
    for nonsense in (b"", b"[]", b"{}", b'{"format": 1}'):
        with pytest.raises(BackupError, match="can't be read"):
            Manifest.of_json(nonsense)


@pytest.mark.parametrize("name", ["landing/../../etc/passwd", "landing//etc/passwd", "landing/other/x"])
def test_nothing_is_written_outside_the_landing(name: str, tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as tar:
        tar.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(BackupError, match="outside its folder"):
        put_landing(io.BytesIO(out.getvalue()), tmp_path / "root")
    assert not list(tmp_path.rglob("*"))


def frames(*dumps: tuple[str, bytes], end: bytes = b"end\n") -> bytes:
    lines = [f"begin {name}\n".encode() + base64.b64encode(content) + b"\n" for name, content in dumps]
    return b"".join(lines) + end


def read_frames(stream: bytes) -> dict[str, bytes]:
    found = {}
    for name, content in Frames(io.BytesIO(stream)):
        parts = iter(lambda content=content: content.read(PART), b"")  # type: ignore[misc]
        found[name] = b"".join(parts)
    return found


def test_dumps_come_through_one_pipe() -> None:
    sent = {"dagster": b"", "bindery": BYTES, "third": b"12"}
    assert read_frames(frames(*sent.items())) == sent


def test_a_pipe_that_breaks_is_no_backup() -> None:
    whole = frames(("dagster", b"small"), ("bindery", BYTES[:100_000]))
    draws = random.Random(3)
    for at in [0, 3, len(whole) - 1, len(whole) - 4, *(draws.randrange(len(whole)) for _ in range(40))]:
        with pytest.raises(BackupError, match="broke off"):
            read_frames(whole[:at])
    with pytest.raises(BackupError, match="broke off"):
        read_frames(frames(("dagster", b"x"), end=b"pg_dump: error: no\n"))


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "backup.tar"

    def half() -> None:
        with new_file(target) as out:
            out.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert not list(tmp_path.iterdir())
    with new_file(target) as out:
        out.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert target.stat().st_mode & 0o777 == 0o600
    with pytest.raises(BackupError, match="there already"), new_file(target):
        pass
    with pytest.raises(BackupError, match="no folder"), new_file(tmp_path / "none" / "x"):
        pass
    assert target.read_bytes() == b"whole"


def test_a_disk_that_is_full_is_said_in_words(tmp_path: Path) -> None:
    def full() -> None:
        with new_file(tmp_path / "backup.tar") as out:
            out.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(BackupError, match=r"can't be written: .*No space left"):
        full()
    assert not list(tmp_path.iterdir())
