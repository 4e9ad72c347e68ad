"""What is computed from the marts in Python rather than in SQL: tables of the schema ``features``."""
