"""What two databases are compared by: the tables that a run makes, without the columns that say when."""

TABLES = ("raw", "staging", "intermediate", "marts", "features")
WHEN = (
    *("_load_id", "load_id", "landing_id", "quarantine_id", "created_at"),
    *("valid_from", "valid_to", "first_seen_at", "delisted_at"),
)
"""Columns that say when something was loaded."""
