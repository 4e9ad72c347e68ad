"""The inbox: objects that somebody put into a bucket, from the notification to the row that announces them.

The inbox is a state of the landing log, not a table of its own: what is announced waits for a fetch, which lands it.
``events`` reads notifications, ``queue`` speaks to SQS, ``log`` writes announcements, ``consume`` puts them together,
``reconcile`` finds by listing what notifications lost. Nothing here knows Dagster.
"""
