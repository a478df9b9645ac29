"""The errors by which a database says that it is away: they say nothing about what it was asked."""

from __future__ import annotations

from django.db import InterfaceError, InternalError, OperationalError

AWAY = (OperationalError, InterfaceError, InternalError)
"""It restarts or cannot be reached, has ended our connection, is too busy (a lock, a statement's time), or chose this
transaction as the victim of a deadlock: the same again may work.

InternalError: it ended a connection that had sat still in a transaction, as one of a process does that was stopped for
a while.
"""
