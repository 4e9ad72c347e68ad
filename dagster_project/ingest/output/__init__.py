"""Rows of a load, written out for whoever learns from them: Parquet files, and a manifest that comes last.

``write`` decides what is due and keeps the books, ``rows`` reads a table, ``target`` is a folder or a bucket. A load's
files are where its manifest says; without a manifest there are none.
"""
