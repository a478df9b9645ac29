"""The console's pages for people, prices and credits. (Account's page uses ``generations`` and stands there.)"""

from accounts.admin import balances, credits, people, prices

__all__ = ["balances", "credits", "people", "prices"]
