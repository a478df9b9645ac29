"""One file per noun."""

from accounts.models.account import Account
from accounts.models.credits import LedgerEntry, Price, Wallet

__all__ = ["Account", "LedgerEntry", "Price", "Wallet"]
