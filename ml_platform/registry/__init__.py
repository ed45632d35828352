"""What was trained and what serves: bundles (files with digests) and the ledger (who made which one champion, and why).

Empty on purpose: the training worker imports `bundles` where SQLAlchemy is not installed.
"""
