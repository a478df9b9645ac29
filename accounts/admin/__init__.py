"""The console's pages for people, prices and credits. (Account's page uses ``generations`` and stands there.)"""

from accounts.admin import credits, people, prices

__all__ = ["credits", "people", "prices"]
