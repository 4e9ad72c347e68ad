"""Buckets: where they are, how they are asked, and what their refusals mean in words.

Nothing here knows landing or cards. boto3 is imported when a bucket is used, and finds region, endpoint and role by
its own rules; keys are never settings of ours.
"""
