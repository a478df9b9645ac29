"""One file per noun."""

from accounts.models.account import Account
from accounts.models.balance_reading import BalanceReading
from accounts.models.credits import LedgerEntry, Price, Wallet
from accounts.models.user_cap import UserCap

__all__ = ["Account", "BalanceReading", "LedgerEntry", "Price", "UserCap", "Wallet"]
