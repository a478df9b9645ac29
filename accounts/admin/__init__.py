"""The console's pages for people, prices and credits. (Account's page uses ``generations`` and stands there.)"""

from accounts.admin import caps, credits, people, prices

__all__ = ["caps", "credits", "people", "prices"]
