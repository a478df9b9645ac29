"""Django settings: one file, everything from environment variables (docs/configuration.md lists them).

``DATABASE_URL`` and ``REDIS_URL`` are always set when this is read: by the operator, or by
``manage.py``, which starts PostgreSQL and Valkey of its own and sets them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from config import log
from config.files import where_files_are

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(os.environ.get("DARKROOM_VAR", BASE_DIR / "var"))

env = environ.Env()

# --- who may come in ---------------------------------------------------------------------

DEVELOPMENT_SECRET = "development-only-secret-key-that-production-refuses-to-start-with"

PRODUCTION = env.bool("DARKROOM_PRODUCTION", default=False)
DEBUG = env.bool("DEBUG", default=False)
SECRET_KEY = env.str("SECRET_KEY", default=DEVELOPMENT_SECRET)
# Keys that encrypt the accounts' credentials, newest first; older ones still decrypt.
CREDENTIAL_KEYS = env.list("CREDENTIAL_KEYS", default=[SECRET_KEY])
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])
# Where users and providers reach this instance; callbacks are asked for only when it is set.
PUBLIC_URL = env.str("PUBLIC_URL", default="").rstrip("/")
# Where users' webhooks may go although it is a private address: scheme://host:port each.
WEBHOOK_ALLOWED_ORIGINS = env.list("WEBHOOK_ALLOWED_ORIGINS", default=[])

if PRODUCTION:
    if DEBUG:
        raise ImproperlyConfigured("DEBUG must be off in production. Unset DEBUG or DARKROOM_PRODUCTION.")
    if SECRET_KEY == DEVELOPMENT_SECRET or len(SECRET_KEY) < 40:
        raise ImproperlyConfigured(
            "SECRET_KEY is the development default or too short. Set it to at least 40 random characters, "
            "for example: python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    if "CREDENTIAL_KEYS" not in os.environ:
        raise ImproperlyConfigured(
            "CREDENTIAL_KEYS is not set. It encrypts the providers' credentials; set it to random text of its "
            "own, so that SECRET_KEY can be changed without losing them."
        )
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = env.bool("SECURE_COOKIES", default=True)

# --- the house ------------------------------------------------------------------------------

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "rest_framework",
    "knox",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "django_prometheus",
    "django_structlog",
    "accounts",
    "generations",
    "config",
]

MIDDLEWARE = [
    "config.middleware.RequestLog",  # outermost: whatever happens further in has a request id
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("MinimumLengthValidator", "CommonPasswordValidator", "NumericPasswordValidator")
]
LOGIN_REDIRECT_URL = "/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "static/"
STATIC_ROOT = VAR_DIR / "static"
WHITENOISE_USE_FINDERS = not PRODUCTION
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024

# --- data -------------------------------------------------------------------------------------

_database = env.db_url("DATABASE_URL", default="postgres://127.0.0.1/darkroom")
DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        **_database,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "ATOMIC_REQUESTS": False,
        "OPTIONS": {
            **_database.get("OPTIONS", {}),
            "connect_timeout": 3,
            # A lost server is noticed by a hung connection too, not only by a closed one.
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "options": (
                "-c lock_timeout=3s -c statement_timeout=15s -c idle_in_transaction_session_timeout=15s -c timezone=UTC"
            ),
        },
    }
}

# Where results and inputs are: a folder, or with STORAGE_URL a bucket of an S3-compatible object store.
STORAGES: dict[str, dict[str, Any]] = {
    "default": where_files_are(
        env.str("STORAGE_URL", default=""), env.str("MEDIA_ROOT", default=str(VAR_DIR / "media"))
    ),
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
}

REDIS_URL = env.str("REDIS_URL", default="redis://127.0.0.1:6379/0")

# --- REST API -----------------------------------------------------------------------------------

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "generations.api.authentication.BearerAuthentication",
        "generations.api.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_THROTTLE_CLASSES": ["generations.api.throttling.UserThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["generations.api.rendering.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "generations.api.problems.handle",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
    "URL_FORMAT_OVERRIDE": None,  # a query parameter that is not known is refused
}
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": None}
# Per user, and for wrong tokens per address; each web process counts for itself. 0 switches it off.
API_RATE = env.str("API_RATE", default="6000/minute")
API_FAILED_LOGIN_RATE = env.str("API_FAILED_LOGIN_RATE", default="300/minute")
# Who shows it may read /metrics without being a member of staff; empty: only staff may.
METRICS_TOKEN = env.str("METRICS_TOKEN", default="")
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Darkroom",
    "DESCRIPTION": (
        "Ask for pictures and videos, follow them, fetch them. Errors are RFC 9457 problem documents with a stable "
        "`code`. Lists are read page by page with `next`, newest first. Log in with a token: `Authorization: Bearer`."
    ),
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/v1",
    # Several nouns have a state; each set of them gets a name of its own in the schema.
    "ENUM_NAME_OVERRIDES": {
        "DeliveryState": ["pending", "delivered", "failed"],
        "GenerationStatus": ["pending", "processing", "completed", "failed", "cancelled"],
        "TakeStatus": ["pending", "in_progress", "completed", "failed"],
        "MemberAccess": ["view", "generate"],
    },
    "COMPONENT_SPLIT_PATCH": False,  # a change has a body of its own already
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "DISABLE_ERRORS_AND_WARNINGS": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_SETTINGS": {"persistAuthorization": True, "displayRequestDuration": True},
}

# --- logs -----------------------------------------------------------------------------------------

LOGGING = log.configure(json=env.bool("LOG_JSON", default=PRODUCTION), level=env.str("LOG_LEVEL", default="INFO"))
# One line a request, when it has ended; users are bound by the API's authentication.
DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
DJANGO_STRUCTLOG_STATUS_4XX_LOG_LEVEL = logging.INFO
DJANGO_STRUCTLOG_USER_ID_FIELD = ""
DJANGO_STRUCTLOG_IP_LOGGING_ENABLED = False

# --- what workers do: the times and limits of docs/configuration.md -------------------------------

# Every field of ``generations.conf.Limits`` can be set as DARKROOM_<FIELD>; a drill scales them so.
DARKROOM = {
    name.removeprefix("DARKROOM_").lower(): value for name, value in os.environ.items() if name.startswith("DARKROOM_")
}

# Which models and styles the scenes of a chapter get; generations.scene_table reads these.
SCENE_MODELS = env.str("DARKROOM_SCENE_MODELS", default="")
SCENE_STYLES = env.str("DARKROOM_SCENE_STYLES", default="")

# --- the console and the pages ------------------------------------------------------------------------

STATICFILES_DIRS = [BASE_DIR / "templates" / "static"]
LOGIN_URL = "pages:login"
# Where operators find Flower; shown as a link.
FLOWER_URL = env.str("FLOWER_URL", default="")

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Darkroom",
    "SITE_HEADER": "Darkroom",
    "SITE_SUBHEADER": "Generations, accounts, credits",
    "SITE_ICON": lambda _request: static("console/icon.svg"),
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _request: static("console/icon.svg")},
    ],
    "SHOW_VIEW_ON_SITE": False,
    "SHOW_BACK_BUTTON": True,
    "STYLES": [lambda _request: static("console/console.css")],
    "SCRIPTS": [lambda _request: static("console/console.js")],
    "GLOBAL_CALLBACK": "generations.admin.switch.stopped",
    "DASHBOARD_CALLBACK": "generations.admin.dashboard.dashboard",
    "SIDEBAR": {"show_search": False, "navigation": "generations.admin.site.navigation"},
    # A safelight's red, from pale to deep.
    "COLORS": {
        "primary": {
            "50": "oklch(97.5% .014 40)",
            "100": "oklch(94.5% .03 39)",
            "200": "oklch(89% .06 38)",
            "300": "oklch(81% .11 37)",
            "400": "oklch(72% .16 36)",
            "500": "oklch(64% .19 35)",
            "600": "oklch(56% .185 33)",
            "700": "oklch(48% .16 32)",
            "800": "oklch(41% .13 31)",
            "900": "oklch(35% .105 30)",
            "950": "oklch(25% .075 29)",
        },
    },
}
