"""What this platform runs: one folder per source or domain, with its card and, where YAML isn't enough, its code.

Users own this folder. A folder with a ``defs.yaml`` is a source; a Python module here holds assets.
"""
