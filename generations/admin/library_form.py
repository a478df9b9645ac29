"""What an operator fills in for the library: one shared item, or what several uploaded pictures have in common."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from generations.intake.library import LONGEST_CATEGORY, LONGEST_NAME, Fields
from generations.intake.prompts import LONGEST_TEXT
from generations.models import LibraryItem

PICTURES = "image/png,image/jpeg,image/webp,image/gif"


class _Common(forms.Form):
    category = forms.CharField(
        max_length=LONGEST_CATEGORY, widget=UnfoldAdminTextInputWidget, help_text="For example pose, outfit, place."
    )
    tags = forms.CharField(required=False, widget=UnfoldAdminTextInputWidget, help_text="With commas between them.")

    def clean_tags(self) -> list[str]:
        """One by one."""
        return [tag for tag in self.cleaned_data["tags"].split(",") if tag.strip()]


class ItemForm(_Common):
    """One item."""

    name = forms.CharField(max_length=LONGEST_NAME, widget=UnfoldAdminTextInputWidget)
    prompt = forms.CharField(
        required=False,
        max_length=LONGEST_TEXT,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 4}),
        help_text="What it is, in words for the provider. Needed where there is no picture.",
    )
    file = forms.FileField(
        required=False,
        label="Picture",
        widget=forms.FileInput(attrs={"accept": PICTURES}),
        help_text="Judged by its bytes. Left empty: as it is.",
    )
    no_picture = forms.BooleanField(required=False, label="It shall have no picture any more")
    field_order = ("name", "category", "tags", "prompt", "file", "no_picture")

    def __init__(self, *args: Any, item: LibraryItem | None = None, **kwargs: Any) -> None:
        if item is not None:
            kwargs["initial"] = {
                "name": item.name,
                "category": item.category,
                "tags": ", ".join(item.tags),
                "prompt": item.prompt,
            }
        super().__init__(*args, **kwargs)
        if item is None or item.picture_id is None:
            del self.fields["no_picture"]

    def fields_given(self) -> Fields:
        """The same in intake's words, but for a new picture."""
        given = self.cleaned_data
        fields: Fields = {
            "name": given["name"],
            "category": given["category"],
            "tags": given["tags"],
            "prompt": given["prompt"],
        }
        if given.get("no_picture"):
            fields["picture_id"] = None
        return fields


class _Several(forms.FileInput):
    allow_multiple_selected = True


class _SeveralField(forms.FileField):
    widget = _Several(attrs={"accept": PICTURES})

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile[bytes]]:
        """All of them."""
        clean = super().clean
        return [clean(one, initial) for one in data] if isinstance(data, list | tuple) and data else [clean(data)]


class UploadForm(_Common):
    """Several pictures."""

    pictures = _SeveralField(label="Pictures", help_text="Each becomes an item, named as its file is.")
    field_order = ("pictures", "category", "tags")
