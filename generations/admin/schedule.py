"""What beat runs and when, in the console's look. The schedule itself is declared in code; intervals may be edited."""

from __future__ import annotations

from django.contrib import admin
from django.forms import ModelForm
from django.http import HttpRequest
from django_celery_beat.admin import ClockedScheduleAdmin as BaseClocked
from django_celery_beat.admin import CrontabScheduleAdmin as BaseCrontab
from django_celery_beat.admin import PeriodicTaskAdmin as BasePeriodicTask
from django_celery_beat.admin import PeriodicTaskForm as BasePeriodicTaskForm
from django_celery_beat.admin import TaskSelectWidget
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, SolarSchedule
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin.base import ConsoleAdmin

for model in (PeriodicTask, IntervalSchedule, CrontabSchedule, SolarSchedule, ClockedSchedule):
    admin.site.unregister(model)


class TaskWidget(UnfoldAdminSelectWidget, TaskSelectWidget):  # type: ignore[misc]
    """The choice of tasks, styled."""


class PeriodicTaskForm(BasePeriodicTaskForm):  # type: ignore[misc]
    """django-celery-beat's form, styled."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.fields["task"].widget = UnfoldAdminTextInputWidget()
        self.fields["regtask"].widget = TaskWidget()


@admin.register(PeriodicTask)
class PeriodicTaskAdmin(BasePeriodicTask, ConsoleAdmin[PeriodicTask]):  # type: ignore[misc]
    """Periodic tasks."""

    form = PeriodicTaskForm
    list_display = ("name", "enabled", "interval", "last_run_at", "total_run_count")
    list_filter = ("enabled",)
    date_hierarchy = None
    actions = ("enable_tasks", "disable_tasks", "run_tasks")
    list_fullwidth = False

    def save_model(self, request: HttpRequest, obj: PeriodicTask, form: ModelForm[PeriodicTask], change: bool) -> None:  # noqa: FBT001
        """A message expires after its interval, also after one that was edited."""
        if obj.interval is not None and obj.expires is None:
            obj.expire_seconds = int(obj.interval.schedule.run_every.total_seconds())
        super().save_model(request, obj, form, change)


@admin.register(IntervalSchedule, SolarSchedule)
class ScheduleAdmin(ConsoleAdmin[IntervalSchedule]):
    """Intervals and sun times."""


@admin.register(CrontabSchedule)
class CrontabScheduleAdmin(BaseCrontab, ConsoleAdmin[CrontabSchedule]):  # type: ignore[misc]
    """Times of the calendar."""

    inlines = ()


@admin.register(ClockedSchedule)
class ClockedScheduleAdmin(BaseClocked, ConsoleAdmin[ClockedSchedule]):  # type: ignore[misc]
    """Single moments."""

    inlines = ()
