#!/bin/sh
# Finds a Python that can run Bindery and hands over to install.py beside this file. Everything else is done there.
#
# usage: tools/install.sh [--with GROUP]... [--quiet]     PYTHON=/path/to/python names the interpreter to use
set -eu

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
venv_python=$here/../.venv/bin/python

# An environment that is already there keeps its Python, and answers in 50 ms when nothing is to be done.
if [ -z "${PYTHON:-}" ] && "$venv_python" -ESs -c '' 2>/dev/null; then
  exec "$venv_python" -ESsB "$here/install.py" "$@"
fi

# A name on PATH proves nothing: a pyenv shim of a version that is not selected exits 127. So each one is executed,
# with the standard modules that distributors leave out and dependencies import.
probe='import sys
version = "%d.%d.%d" % sys.version_info[:3]
name = "" if "CPython" in sys.version or sys.version_info[:1] == (2,) else sys.implementation.name + " "
missing = []
for module in ("bz2", "ctypes", "lzma", "sqlite3", "ssl", "zlib"):
    try:
        __import__(module)
    except ImportError:
        missing.append(module)
if hasattr(sys, "implementation"):
    name = "" if sys.implementation.name == "cpython" else sys.implementation.name + " "
print(name + version + (" without " + "/".join(missing) if missing else ""))
sys.exit(0 if not name and not missing and (3, 11) <= sys.version_info[:2] <= (3, 14) else 3)'

found=
if [ -n "${PYTHON:-}" ]; then
  set -- "$PYTHON" -- "$@"
else
  set -- python3.13 python3.12 python3.11 python3.14 python3 python -- "$@"
fi
while [ "$1" != -- ]; do
  candidate=$1
  shift
  if version=$("$candidate" -ESs -c "$probe" 2>/dev/null); then
    while [ "$1" != -- ]; do shift; done
    shift
    exec "$candidate" -ESsB "$here/install.py" "$@"
  elif [ -n "$version" ]; then
    found="$found${found:+, }$candidate = $version"
  fi
done

echo "bindery: needs CPython 3.11, 3.12, 3.13 or 3.14; found ${found:-no working python${PYTHON:+ at $PYTHON}}." \
  "Fix: install one (Debian, Ubuntu: apt-get install python3; macOS: brew install python@3.13)" \
  "or name one: make PYTHON=/path/to/python3.13 ..." >&2
exit 2
