"""A loading process does without pandas, and whoever wants it later gets it whole."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHILD = """
import sys
from dagster_project.ingest.load.memory import keep_little
{first}
keep_little()
keep_little()
import pyarrow as pa, pyarrow.compute as pc
pc.greater(pa.array([1, 2]), 0)
print("pandas" in sys.modules)
import numpy as np
import pandas as pd
print(pa.array(pd.Series([1.0, np.nan])).null_count)
frame = pa.Table.from_pandas(pd.DataFrame({{"a": [1, 2]}})).to_pandas()
print(frame["a"].tolist(), sum(type(finder).__name__ == "_PandasLater" for finder in sys.meta_path))
"""


@pytest.mark.parametrize(("first", "there"), [("", "False"), ("import pandas", "True")])
def test_arrow_doesnt_import_pandas_by_itself_and_knows_it_when_somebody_does(first: str, there: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(first=first)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.splitlines() == [there, "1", "[1, 2] 0"], done.stderr
