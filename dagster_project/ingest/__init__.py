"""The ingestion engine: fetch -> land -> parse -> type -> load.

Everything here is free of Dagster and of this project's settings: values, connections and folders are passed in, so
that the engine can be used, tested and measured alone. What a card may say is in ``cards``; how bytes are fetched in
``fetch``; where they are kept in ``landing``; how they become chunks of rows in ``parse``; how chunks become typed
tables in ``load``.
"""
