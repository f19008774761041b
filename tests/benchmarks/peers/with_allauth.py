"""django-allauth headless with Django's sessions: `gunicorn --worker-class gthread with_allauth:application`, in an
empty folder.

https://docs.allauth.org/en/latest/headless/installation.html
"""

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.http import HttpRequest, JsonResponse
from django.urls import include, path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    SECRET_KEY="benchmark-7f3a9c52e8b14d60a1-benchmark-44c0b9d2",
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "users.db", "CONN_MAX_AGE": None}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "allauth",
        "allauth.account",
        "allauth.headless",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "allauth.account.middleware.AccountMiddleware",
    ],
    AUTHENTICATION_BACKENDS=["allauth.account.auth_backends.AuthenticationBackend"],
    ACCOUNT_EMAIL_VERIFICATION="none",
    ACCOUNT_LOGIN_METHODS={"email"},
    ACCOUNT_SIGNUP_FIELDS=["email*", "password1*"],
    HEADLESS_ONLY=True,
    HEADLESS_CLIENTS=("app",),
)
django.setup()
call_command("migrate", verbosity=0)


def health(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({})


urlpatterns = [
    path("accounts/", include("allauth.urls")),
    path("_allauth/", include("allauth.headless.urls")),
    path("health", health),
]
application = WSGIHandler()
