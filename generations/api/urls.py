"""Where the API answers, below ``/api/``."""

from __future__ import annotations

from django.urls import path, register_converter
from django.urls.converters import IntConverter
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from generations.api.views.assets import AssetListView, AssetView
from generations.api.views.balances import BalanceListView
from generations.api.views.batches import (
    BatchCancelView,
    BatchItemListView,
    BatchListView,
    BatchPauseView,
    BatchQuoteView,
    BatchResumeView,
    BatchRetryView,
    BatchView,
    RegenerateView,
)
from generations.api.views.chapters import ChapterListView, ChapterView, SceneListView, SceneView
from generations.api.views.credits import CreditsView, LedgerView
from generations.api.views.dead_letters import DeadLetterListView, DismissView, GroupListView, ReplayView, RestoreView
from generations.api.views.exports import (
    BatchZipView,
    ExportListView,
    ExportRegenerateView,
    ExportView,
    FormatListView,
)
from generations.api.views.generations import (
    CancelView,
    GenerationListView,
    GenerationView,
    LineageView,
    QuoteView,
    RetryView,
    TimelineView,
)
from generations.api.views.library import (
    DownloadView,
    FavouriteView,
    LibraryItemView,
    LibraryListView,
    LibraryUploadView,
)
from generations.api.views.prompts import (
    PromptCompareView,
    PromptListView,
    PromptResultsView,
    PromptVersionListView,
    PromptVersionView,
    PromptView,
)
from generations.api.views.providers import ProviderListView
from generations.api.views.scene_images import (
    ChapterImageListView,
    ChooseView,
    GenerateMissingView,
    SceneImageView,
    SceneStatusView,
    SceneTakesView,
)
from generations.api.views.switches import SwitchChangeListView, SwitchListView, SwitchView
from generations.api.views.unknown_outcomes import ResolveView, UnknownOutcomeListView
from generations.api.views.wallets import RefundView, WalletLedgerView, WalletListView, WalletView
from generations.api.views.webhooks import (
    DeliveryListView,
    DeliveryView,
    RedeliverView,
    RequestSecretView,
    RotateView,
    TestView,
    WebhookListView,
    WebhookView,
)

app_name = "api"


class NumberConverter(IntConverter):
    """An id that is counted; one that no table can hold is at no address."""

    regex = "[0-9]{1,18}"


register_converter(NumberConverter, "number")

urlpatterns = [
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="api:schema"), name="docs"),
    path("v1/generations", GenerationListView.as_view(), name="generations"),
    path("v1/generations/quote", QuoteView.as_view(), name="quote"),
    path("v1/generations/<uuid:generation_id>", GenerationView.as_view(), name="generation"),
    path("v1/generations/<uuid:generation_id>/cancel", CancelView.as_view(), name="cancel"),
    path("v1/generations/<uuid:generation_id>/retry", RetryView.as_view(), name="retry"),
    path("v1/generations/<uuid:generation_id>/timeline", TimelineView.as_view(), name="timeline"),
    path("v1/generations/<uuid:generation_id>/lineage", LineageView.as_view(), name="lineage"),
    path("v1/generations/<uuid:generation_id>/refund", RefundView.as_view(), name="refund"),
    path("v1/assets", AssetListView.as_view(), name="assets"),
    path("v1/assets/<uuid:asset_id>", AssetView.as_view(), name="asset"),
    path("v1/batches", BatchListView.as_view(), name="batches"),
    path("v1/batches/quote", BatchQuoteView.as_view(), name="batch-quote"),
    path("v1/batches/<uuid:batch_id>", BatchView.as_view(), name="batch"),
    path("v1/batches/<uuid:batch_id>/items", BatchItemListView.as_view(), name="batch-items"),
    path("v1/batches/<uuid:batch_id>/cancel", BatchCancelView.as_view(), name="batch-cancel"),
    path("v1/batches/<uuid:batch_id>/pause", BatchPauseView.as_view(), name="batch-pause"),
    path("v1/batches/<uuid:batch_id>/resume", BatchResumeView.as_view(), name="batch-resume"),
    path("v1/batches/<uuid:batch_id>/retry", BatchRetryView.as_view(), name="batch-retry"),
    path(
        "v1/batches/<uuid:batch_id>/items/<str:variation_key>/regenerate",
        RegenerateView.as_view(),
        name="batch-regenerate",
    ),
    path("v1/chapters", ChapterListView.as_view(), name="chapters"),
    path("v1/chapters/<uuid:chapter_id>", ChapterView.as_view(), name="chapter"),
    path("v1/chapters/<uuid:chapter_id>/scenes", SceneListView.as_view(), name="scenes"),
    path("v1/chapters/<uuid:chapter_id>/scenes/<int:scene_number>", SceneView.as_view(), name="scene"),
    path(
        "v1/chapters/<uuid:chapter_id>/images/generate-missing",
        GenerateMissingView.as_view(),
        name="generate-missing",
    ),
    path("v1/chapters/<uuid:chapter_id>/images/scenes", ChapterImageListView.as_view(), name="chapter-images"),
    path(
        "v1/chapters/<uuid:chapter_id>/images/scenes/<int:scene_number>", SceneTakesView.as_view(), name="scene-takes"
    ),
    path(
        "v1/chapters/<uuid:chapter_id>/images/scenes/<int:scene_number>/status",
        SceneStatusView.as_view(),
        name="scene-status",
    ),
    path("v1/scene-images/<uuid:record_id>", SceneImageView.as_view(), name="scene-image"),
    path("v1/scene-images/<uuid:record_id>/choose", ChooseView.as_view(), name="scene-image-choose"),
    path("v1/exports", ExportListView.as_view(), name="exports"),
    path("v1/exports/formats", FormatListView.as_view(), name="export-formats"),
    path("v1/exports/<uuid:export_id>", ExportView.as_view(), name="export"),
    path("v1/exports/<uuid:export_id>/regenerate", ExportRegenerateView.as_view(), name="export-regenerate"),
    path("v1/batches/<uuid:batch_id>/zip", BatchZipView.as_view(), name="batch-zip"),
    path("v1/providers", ProviderListView.as_view(), name="providers"),
    path("v1/library", LibraryListView.as_view(), name="library"),
    path("v1/library/upload", LibraryUploadView.as_view(), name="library-upload"),
    path("v1/library/<number:item_id>", LibraryItemView.as_view(), name="library-item"),
    path("v1/library/<number:item_id>/favourite", FavouriteView.as_view(), name="library-favourite"),
    path("v1/library/<number:item_id>/download", DownloadView.as_view(), name="library-download"),
    path("v1/prompts", PromptListView.as_view(), name="prompts"),
    path("v1/prompts/compare", PromptCompareView.as_view(), name="prompt-compare"),
    path("v1/prompts/versions/<uuid:version_id>", PromptVersionView.as_view(), name="prompt-version"),
    path("v1/prompts/versions/<uuid:version_id>/generations", PromptResultsView.as_view(), name="prompt-results"),
    path("v1/prompts/<uuid:prompt_id>", PromptView.as_view(), name="prompt"),
    path("v1/prompts/<uuid:prompt_id>/versions", PromptVersionListView.as_view(), name="prompt-versions"),
    path("v1/credits", CreditsView.as_view(), name="credits"),
    path("v1/credits/ledger", LedgerView.as_view(), name="ledger"),
    path("v1/dead-letters", GroupListView.as_view(), name="dead-letters"),
    path("v1/dead-letters/generations", DeadLetterListView.as_view(), name="dead-letter-generations"),
    path("v1/dead-letters/replay", ReplayView.as_view(), name="dead-letter-replay"),
    path("v1/dead-letters/dismiss", DismissView.as_view(), name="dead-letter-dismiss"),
    path("v1/dead-letters/restore", RestoreView.as_view(), name="dead-letter-restore"),
    path("v1/unknown-outcomes", UnknownOutcomeListView.as_view(), name="unknown-outcomes"),
    path("v1/unknown-outcomes/<uuid:submission_id>/resolve", ResolveView.as_view(), name="resolve"),
    path("v1/balances", BalanceListView.as_view(), name="balances"),
    path("v1/wallets", WalletListView.as_view(), name="wallets"),
    path("v1/wallets/<str:username>", WalletView.as_view(), name="wallet"),
    path("v1/wallets/<str:username>/ledger", WalletLedgerView.as_view(), name="wallet-ledger"),
    path("v1/switches", SwitchListView.as_view(), name="switches"),
    path("v1/switches/changes", SwitchChangeListView.as_view(), name="switch-changes"),
    path("v1/switches/<str:key>", SwitchView.as_view(), name="switch"),
    path("v1/webhooks", WebhookListView.as_view(), name="webhooks"),
    path("v1/webhooks/secret/rotate", RequestSecretView.as_view(), name="webhook-request-secret"),
    path("v1/webhooks/deliveries", DeliveryListView.as_view(), name="webhook-deliveries"),
    path("v1/webhooks/deliveries/<uuid:delivery_id>", DeliveryView.as_view(), name="webhook-delivery"),
    path("v1/webhooks/deliveries/<uuid:delivery_id>/redeliver", RedeliverView.as_view(), name="webhook-redeliver"),
    path("v1/webhooks/<uuid:endpoint_id>", WebhookView.as_view(), name="webhook"),
    path("v1/webhooks/<uuid:endpoint_id>/rotate", RotateView.as_view(), name="webhook-rotate"),
    path("v1/webhooks/<uuid:endpoint_id>/test", TestView.as_view(), name="webhook-test"),
]
