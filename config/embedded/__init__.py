"""PostgreSQL and Valkey from their wheels, for everyone who has not set DATABASE_URL and REDIS_URL.

No module in here imports Django: the servers run, and the environment variables name them, before
settings are read. ``provide`` is the way in; the rest is one file per matter.
"""
