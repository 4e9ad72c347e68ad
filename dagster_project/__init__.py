"""Bindery: from APIs, web pages and dropped files to trusted Postgres tables and dbt models, as one lineage graph.

Nothing is imported here: every part is imported by who needs it, which keeps the start of each process short.
"""
