"""The catalogue: providers with their operations, prices, health and capacity, as one user sees them."""

from __future__ import annotations

from collections import defaultdict
from functools import cache

from accounts.models import Price
from generations.api.answers import Capacity, Health, InputRole, OperationAnswer, OperationPrice, ProviderAnswer
from generations.lifecycle import MAKES_IMAGE, Operation
from generations.models import Switch
from generations.models.switch import Pauses
from generations.reports.capacity import Condition, Standing, standings
from providers import registry
from providers.params import Params


def providers(user_id: int) -> list[ProviderAnswer]:
    """All of them. Only the accounts that may serve this user count."""
    accounts: dict[str, list[Standing]] = defaultdict(list)
    for standing in standings(users=[user_id]):
        accounts[standing.provider_id].append(standing)
    prices: dict[tuple[str, str], list[OperationPrice]] = defaultdict(list)
    for price in Price.objects.order_by("model"):
        told = OperationPrice(model=price.model, credits=price.credits)
        prices[price.provider_id, price.operation_type].append(told)
    pauses = Pauses(Switch.objects.pauses())
    return [
        ProviderAnswer.of(
            id=provider.slug,
            title=provider.title,
            health=health(accounts[provider.slug], pauses.of_provider(provider.slug)),
            capacity=_capacity(accounts[provider.slug]),
            operations=[
                operation(name, params).model_copy(update={"prices": prices[provider.slug, name]})
                for name, params in provider.operations.items()
            ],
        )
        for provider in registry.all()
    ]


@cache
def operation(name: str, params: type[Params]) -> OperationAnswer:
    """What one operation takes, without its prices. It never changes while we run."""
    return OperationAnswer(
        operation_type=name,
        title=Operation(name).label,
        makes="image" if name in MAKES_IMAGE else "video",
        params_schema=params.model_json_schema(),
        input_roles=[
            InputRole(role=role, least=least, most=most, media=list(params.accepted_media.get(role, ("image",))))
            for role, (least, most) in params.input_roles.items()
        ],
        prices=[],
    )


def health(accounts: list[Standing], paused: Switch | None) -> Health:
    """Whether any of these accounts takes work now, in one word and one sentence."""
    if not accounts:
        return Health(state="no_account", detail="No account is set up for you; an operator adds one in the console.")
    if paused:
        return Health(state="paused", detail=f"An operator has paused it ({paused.reason}); requests wait for that.")
    free = sum(account.free for account in accounts)
    if free:
        return Health(state="available", detail=f"{free} can start at once.")
    if any(account.usable for account in accounts):
        return Health(state="busy", detail="All slots are in use; requests wait their turn.")
    returning = [account for account in accounts if account.comes_back]
    if returning and all(account.condition == Condition.DAILY_CAP for account in returning):
        return Health(state="cooling_down", detail="Today's cap is reached; requests start after midnight, UTC.")
    if returning:
        return Health(state="cooling_down", detail="It asked us to wait; requests start when that is over.")
    return Health(state="unavailable", detail="No account can take work; an operator has to look at them.")


def _capacity(accounts: list[Standing]) -> Capacity:
    return Capacity(
        accounts=len(accounts),
        slots=sum(account.limit for account in accounts if account.usable),
        in_use=sum(account.held for account in accounts),
        free=sum(account.free for account in accounts),
    )
