"""Leases: how long a worker owns a row."""

from __future__ import annotations

from django.db.models import Q
from django.db.models.functions import Now

FREE = Q(lease_until=None) | Q(lease_until__lte=Now())
"""Nobody is at it at this moment: it has no lease, or one that is over."""
