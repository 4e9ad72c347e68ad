"""The archive of raw bytes and the landing log, where fetching and loading meet."""
