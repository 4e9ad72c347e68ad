"""How readers rate each book, with few ratings pulled towards the mean: an example of an asset over DataFrames.

It reads and writes tables through the resource ``warehouse``; copy it to start an asset of your own.
"""

# No postponed annotations here: Dagster reads those of an asset's arguments as they are.
from typing import TYPE_CHECKING

import dagster as dg

from dagster_project.resources import Warehouse

if TYPE_CHECKING:
    import pandas as pd

TABLE = "features.rating_summary"
PRIOR_RATINGS = 5
"""A book counts as having had so many ratings of the overall mean before its first real one."""


def summarise(ratings: "pd.DataFrame") -> "pd.DataFrame":
    """Sum ratings up per book.

    The score is the Bayesian average (prior weight ``PRIOR_RATINGS``, prior mean the mean of all ratings), so that one
    enthusiastic reader doesn't put a book above those that hundreds like.

    Args:
        ratings: Columns ``book_id`` and ``rating`` (1 to 5), one row per reader and book.

    Returns:
        One row per book: ``book_id``, ``ratings_count``, ``mean_rating``, ``score``, ``rank`` (1 is best; equal scores
        share a rank).
    """
    overall = float(ratings["rating"].mean()) if len(ratings) else 0.0
    grouped = ratings.groupby("book_id", as_index=False).agg(
        ratings_count=("rating", "size"), rating_sum=("rating", "sum")
    )
    count = grouped["ratings_count"].astype("float64")
    total = grouped["rating_sum"].astype("float64")
    grouped["mean_rating"] = (total / count).round(4)
    grouped["score"] = ((total + PRIOR_RATINGS * overall) / (count + PRIOR_RATINGS)).round(4)
    grouped["rank"] = grouped["score"].rank(method="min", ascending=False).astype("int64")
    columns = ["book_id", "ratings_count", "mean_rating", "score", "rank"]
    return grouped[columns].sort_values(["rank", "book_id"], ignore_index=True)


@dg.asset(
    key=["features", "rating_summary"],
    deps=[["marts", "fct_ratings"]],
    group_name="features",
    owners=["team:analytics"],
    kinds={"python", "pandas", "postgres"},
    tags={"bindery/compute": "small"},
    automation_condition=dg.AutomationCondition.eager(),
    check_specs=[
        dg.AssetCheckSpec(
            "one_row_per_book", asset=["features", "rating_summary"], description="No book is there twice."
        )
    ],
    op_tags={"bindery/compute": "small"},
)
def rating_summary(context: dg.AssetExecutionContext, warehouse: Warehouse) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """One row per rated book: how many readers rated it, the mean, and a score that small numbers don't distort."""
    ratings = warehouse.read_frame("select book_id, rating from marts.fct_ratings")
    summary = summarise(ratings)
    report = warehouse.write_frame(summary, TABLE, mode="replace", key="book_id")
    context.log.info(f"{len(ratings):,} ratings of {len(summary):,} books")
    return dg.MaterializeResult(
        metadata={"ratings": len(ratings), **warehouse.describe(TABLE, report)},
        check_results=[dg.AssetCheckResult(check_name="one_row_per_book", passed=bool(summary["book_id"].is_unique))],
    )
