"""Uploading an input."""

from generations.intake.inputs import store_upload

__all__ = ["store_upload"]
