from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Accounts, credentials, wallets and prices."""

    name = "accounts"
    verbose_name = "Accounts and credits"
