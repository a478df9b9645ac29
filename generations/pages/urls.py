"""Where the pages answer."""

from __future__ import annotations

from django.contrib.auth.views import LogoutView
from django.urls import path

from generations.pages import views

app_name = "pages"

urlpatterns = [
    path("", views.home, name="home"),
    path("newest/", views.newest, name="newest"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", LogoutView.as_view(next_page="pages:login"), name="logout"),
]
