"""The bodies of chapters and scenes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from generations import scene_table
from generations.api.requests import Body, without_default
from generations.intake.chapters import Change
from generations.intake.scenes import Wanted

MOST_MEMBERS = 200

Title = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Description = Annotated[str, Field(max_length=2000)]


class MemberRequest(Body):
    """Somebody to share a chapter with."""

    username: str = Field(min_length=1, max_length=150)
    access: Literal["view", "generate"] = Field(
        default="generate", description="`view`: see the pictures; `generate`: make and choose them too."
    )


Members = Annotated[list[MemberRequest], Field(max_length=MOST_MEMBERS)]


class _Shared(Body):
    """Base of what names members."""

    members: Members = []

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [one.username for one in self.members]
        if len(names) != len(set(names)):
            raise ValueError("members: name each of them once")
        return self

    def by_name(self) -> dict[str, str]:
        """What each may do."""
        return {one.username: one.access for one in self.members}


class ChapterRequest(_Shared):
    """A new chapter of yours."""

    title: Title = Field(examples=["The lighthouse"])
    members: Members = Field(default=[], description="With whom it is shared; you may do everything in it anyway.")


class ChapterChange(_Shared):
    """What shall be different; what is left out stays as it is."""

    title: Title = Field(default="", validate_default=False, json_schema_extra=without_default)
    members: Members = Field(
        default=[],
        description="All of them: who is left out has no access any more.",
        json_schema_extra=without_default,
    )

    def to_intake(self) -> Change:
        """The same in intake's words."""
        given = self.model_fields_set
        return Change(
            title=self.title if "title" in given else None, members=self.by_name() if "members" in given else None
        )


class SceneRequest(Body):
    """A scene, without a picture."""

    description: Description = Field(description="What is to be seen.", examples=["A lighthouse in a storm at night"])


class MissingRequest(Body):
    """What all pictures shall be like. May be left out."""

    style: Annotated[str, Field(min_length=1, max_length=60, pattern=r"\S")] | None = Field(
        default=None,
        description="A style of the house's, or words of your own; `cinematic` if left out, as the house is set up.",
        examples=["cinematic"],
    )
    aspect_ratio: Annotated[str, Field(max_length=10)] | None = Field(
        default=scene_table.RATIO, description="As the model takes it; null: the model's own.", examples=["16:9"]
    )
    script_id: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None, description="Yours; kept and shown. Requests that differ in it are different."
    )
    user_tier: Annotated[str, Field(min_length=1, max_length=40)] | None = Field(
        default=None, description="Chooses the model, and so the price; the first one, `free`, if left out."
    )

    def to_intake(self) -> Wanted:
        """The same in intake's words."""
        return Wanted(
            style=self.style, aspect_ratio=self.aspect_ratio, script_id=self.script_id, user_tier=self.user_tier
        )


class SceneImageRequest(MissingRequest):
    """A picture of a scene."""

    scene_description: Annotated[Description, Field(min_length=1, pattern=r"\S")] | None = Field(
        default=None,
        description="What is to be seen; it becomes the scene's description. Left out: the one that it has.",
        examples=["A lighthouse in a storm at night"],
    )

    def to_intake(self) -> Wanted:
        """The same in intake's words."""
        return Wanted(
            description=self.scene_description,
            style=self.style,
            aspect_ratio=self.aspect_ratio,
            script_id=self.script_id,
            user_tier=self.user_tier,
        )


class ChooseRequest(Body):
    """May be left out."""

    chosen: bool = Field(default=True, description="false: show the latest completed take again.")
