"""What the API tells of the library, beside ``generations.api.answers``."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from generations.api.answers import Page
from generations.reports.answers import Answer, AssetAnswer


class LibraryItemAnswer(Answer):
    """A picture, a text, or both, to make generations from."""

    id: int
    shared: bool = Field(description="For all users; the operators change it. Else it is yours alone.")
    name: str
    category: str
    prompt: str
    tags: list[str]
    picture: AssetAnswer | None
    favourite: bool = Field(description="Of yours.")
    favourites: int = Field(description="How many users like it.")
    uses: int = Field(description="In how many items of batches it was used.")
    downloads: int = Field(description="How often its picture was asked for by `/download`.")
    created_at: datetime
    updated_at: datetime


class LibraryPage(Page):
    """Items that you may use."""

    results: list[LibraryItemAnswer]


class UploadError(Answer):
    """Why a file became no item."""

    code: str
    detail: str


class UploadResult(Answer):
    """What became of one file: an item or an error."""

    file: str = Field(description="Its name, as it was sent.")
    item: LibraryItemAnswer | None
    error: UploadError | None


class UploadAnswer(Answer):
    """What became of each file, in their order."""

    created: int
    results: list[UploadResult]
