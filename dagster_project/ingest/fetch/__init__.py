"""Fetching: from an API, a site or a folder to bytes in the archive and rows in the landing log.

``run`` orchestrates; ``session`` is what a fetcher lands through; one module per kind of source (``rest``, ``web``,
``files``) fetches; ``http`` talks to hosts. Nothing here looks at values beyond what fetching itself needs (next pages,
cursors, parents): that is the parsers' matter.
"""
