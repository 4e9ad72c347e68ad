"""One load by dlt, the peer: ``python benchmarks/dlt_pipeline.py TASK INPUT``, in an environment of its own.

Written as dlt's documentation does it, each task along the fastest way that it describes. The database comes by
``DESTINATION__POSTGRES__CREDENTIALS``, the pipeline's folder by ``DLT_DATA_DIR``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

KEY = ["book_id", "user_id"]


def main(task: str, source: str) -> None:
    """Run one task.

    Args:
        task: ``append`` and ``merge`` read a CSV file as Arrow batches, ``records`` as dicts; ``rest`` reads pages.
        source: The file, or the API's address.
    """
    import dlt

    pipeline = dlt.pipeline(f"peer_{task}", destination="postgres", dataset_name="peer")
    if task == "append":
        # Arrow in, CSV out, COPY: no row is touched by Python.
        info = pipeline.run(batches(source), table_name="ratings", loader_file_format="csv")
    elif task == "records":
        info = pipeline.run(rows(source), table_name="ratings")
    elif task == "merge":
        resource = dlt.resource(batches(source), name="ratings", primary_key=KEY, write_disposition=MERGE)
        info = pipeline.run(resource, loader_file_format="csv")
    elif task == "rest":
        info = pipeline.run(api(source))
    else:
        raise SystemExit(f"no task {task}")
    info.raise_on_failed_jobs()


MERGE: Any = {"disposition": "merge", "strategy": "upsert"}


def batches(path: str) -> Iterator[Any]:
    """Read a CSV file as Arrow record batches."""
    from pyarrow import csv

    yield from csv.open_csv(path)


def rows(path: str) -> Iterator[dict[str, int]]:
    """Read a CSV file as dicts, in lists as dlt advises."""
    from pyarrow import csv

    for batch in csv.open_csv(path):
        yield batch.to_pylist()


def api(url: str) -> Any:
    """Give the API of benchmarks/rest_server.py as a source."""
    from dlt.sources.rest_api import rest_api_source

    return rest_api_source(
        {
            "client": {"base_url": url, "paginator": {"type": "json_link", "next_url_path": "next"}},
            "resources": [
                {
                    "name": "books",
                    "primary_key": "id",
                    "write_disposition": MERGE,
                    # Nested lists stay JSON in the row, as ours do; by default each would become a table.
                    "max_table_nesting": 0,
                    "endpoint": {"path": "books", "data_selector": "results"},
                }
            ],
        }
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
