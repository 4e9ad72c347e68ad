"""Takes out of an environment what no step ever reads: the image is pulled once per host and started once per step.

Runs in a throw-away build stage, with the standard library and ``strip``. What it removes is looked for, never listed
by version: tests, headers, sources of compiled modules, debug symbols, copies of one file, a few modules by name.
The bytecode of what steps import is made at the end, in a process that imports it; the rest compiles when it is
imported, in memory, which nobody waits for. tests/docker checks that every import of a step has its bytecode.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

UNUSED_SUFFIXES = {".pyx", ".pxd", ".pxi", ".pyi", ".h", ".hpp", ".c", ".cpp", ".cc", ".cmake", ".a", ".map"}
UNUSED = (
    # Arrow's servers, and its own clients for storage
    *(f"pyarrow/{name}*" for name in ("libarrow_flight", "_flight", "libarrow_python_flight", "libarrow_s3", "_s3fs")),
    *(f"pyarrow/{name}*" for name in ("_gcsfs", "_hdfs", "_azurefs", "_orc", "_dataset_orc")),
    *("lxml/objectify*", "lxml/isoschematron"),
    *("numpy/f2py", "numpy/_core/_simd.*", "numpy/_core/_*_tests.*", "pyarrow/_pyarrow_cpp_tests*"),
    *("sqlalchemy/testing", "zstandard/_cffi*", "dagster_webserver/webapp/build/*.mp4"),
    # Colours for source code of every language but Python's, which tracebacks have; a reloader for development
    *("pygments/lexers/[a-oq-z]*.py", "pygments/lexers/_[a-z]*_builtins.py", "watchfiles", "*.dist-info/sboms"),
    # A faster event loop, which the few people at a webserver don't notice
    *("uvloop", "uvloop-*"),
    # A playground for queries
    *("dagster_webserver/graphiql", "dagster_webserver/webapp/build/vendor/graphiql"),
    # Messages to administrators are in English, and carry no pictures
    *("apprise/i18n", "apprise/assets"),
)
"""What nothing of ours imports, of packages that don't come without it."""
AWS_SERVICES = {"ec2", "ecr", "ecs", "iam", "logs", "s3", "secretsmanager", "sqs", "ssm", "sts"}
"""What is asked of AWS inside of tasks; boto3 describes 400 more. tests/unit/test_ecs_image.py compares."""
SMALLEST_COPY = 64 * 1024
BYTECODE = Path("/build/bytecode")
"""Where the image's last stages find the standard library's bytecode, under its path in the image."""


def main(arguments: list[str]) -> int:
    """Slim the environment at the path given, then import the modules named after it."""
    if not arguments:
        print("usage: slim.py ENVIRONMENT [MODULE...]", file=sys.stderr)
        return 2
    environment, modules = Path(arguments[0]), arguments[1:]
    (packages,) = environment.glob("lib/python3*/site-packages")
    before = size(environment)
    remove_unused(packages)
    remove_services(packages)
    link_copies(packages)
    strip_symbols(packages)
    # Shows too that nothing was removed that is needed.
    subprocess.run([environment / "bin" / "python", "-c", "".join(f"import {name}\n" for name in modules)], check=True)
    keep_bytecode(Path(sysconfig.get_path("stdlib")))
    print(f"{environment}: {before / 1e6:.0f} MB -> {size(environment) / 1e6:.0f} MB")
    return 0


def remove_unused(packages: Path) -> None:
    """Remove tests, headers, sources of compiled modules, and what nothing of ours imports."""
    for folder in sorted(packages.rglob("*"), reverse=True):
        # By what is in it, not by its name alone: dbt keeps macros in `tests` and in `include`.
        if folder.is_dir() and folder.name in {"tests", "test"} and any(folder.rglob("test_*.py")):
            shutil.rmtree(folder)
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in packages.rglob("*"):
        if path.suffix in UNUSED_SUFFIXES and path.is_file():
            path.unlink()


def remove_services(packages: Path) -> None:
    """Remove the descriptions of AWS's services that nothing of ours asks, and old versions of the others."""
    for folder in [*packages.glob("botocore/data/*/"), *packages.glob("boto3/data/*/")]:
        if folder.name not in AWS_SERVICES:
            shutil.rmtree(folder)
            continue
        full = [each for each in folder.iterdir() if any(each.glob("*-*.json*"))]
        newest = max(
            (each for each in full if any(each.glob("service-2*")) or any(each.glob("resources-1*"))), default=None
        )
        for version in full:
            if version != newest:
                shutil.rmtree(version)
    for folder in [*packages.glob("botocore/data/*/*/"), *packages.glob("boto3/examples")]:
        for path in folder.glob("examples-1.json*"):
            path.unlink()
        if folder.name == "examples":
            shutil.rmtree(folder)


def link_copies(packages: Path) -> None:
    """Keep one of several equal files of a package: wheels can't carry links."""
    for package in packages.iterdir():
        if not package.is_dir():
            continue
        first: dict[str, Path] = {}
        for path in sorted(package.rglob("*")):
            if path.is_symlink() or not path.is_file() or path.stat().st_size < SMALLEST_COPY:
                continue
            known = first.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
            if known is not path:
                path.unlink()
                path.symlink_to(Path(*[".."] * (len(path.relative_to(package).parts) - 1), known.relative_to(package)))


def strip_symbols(packages: Path) -> None:
    """Remove what debuggers read from compiled modules."""
    libraries = [path for path in packages.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    if libraries:
        subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


def keep_bytecode(library: Path) -> None:
    """Put aside what the imports left in the standard library: Python's images come without bytecode."""
    for path in library.rglob("*.pyc"):
        if "site-packages" in path.parts:
            continue  # pip's, which the image doesn't have
        kept = BYTECODE / path.relative_to(path.anchor)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, kept)


def size(folder: Path) -> int:
    """Add up the bytes of a folder's files."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
