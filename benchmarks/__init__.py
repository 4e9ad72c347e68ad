"""Benchmark programs over the installed platform: ``python -m benchmarks`` runs them, ``make bench`` installs first.

Each program is a module with ``measure(options) -> list[Figure]``; it makes its own input, database and folders, and
leaves nothing. Measuring is in ``measure``, the database in ``cluster``, the input in ``inputs`` and ``rest_server``.
"""
