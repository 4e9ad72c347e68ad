"""The loader: from chunks of text to typed Postgres tables, in one transaction for all streams of a source.

``run`` is the way in. ``names`` and ``types`` decide what a column is called and what it holds; ``proof`` shows that
values fit; ``schema`` and ``views`` change tables; ``copy`` and ``merge`` write rows; ``quarantine`` keeps what doesn't
fit. Bytes come from ``landing`` through ``parse``; nothing here fetches.
"""
