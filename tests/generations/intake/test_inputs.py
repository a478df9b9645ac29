"""The files that a request is made from."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from PIL import Image
from pytest_django.fixtures import Settings
from pytest_httpserver import HTTPServer
from werkzeug import Response

from generations import storage
from generations.intake import inputs
from generations.intake.errors import Invalid, NotFound, Refusal, Unavailable
from generations.intake.inputs import InputRef, resolve, store_upload
from generations.intake.validation import validated_params
from generations.models import Asset, Generation
from providers import fetch
from tests.disks import down, small_disk
from tests.factories import AssetFactory, UserFactory, picture
from tests.generations.intake.conftest import Ask, Scale

pytestmark = pytest.mark.django_db
Upload = Callable[..., Asset]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files of the test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def upload(user: User) -> Upload:
    def stored(content: bytes, *, by: User | None = None, name: str = "it.png") -> Asset:
        return store_upload((by or user).pk, io.BytesIO(content), name=name)

    return stored


def read(key: str) -> bytes:
    with storage.open_key(key) as file:
        return file.read()


def refusal(call: Callable[[], object]) -> tuple[str, str | None]:
    with pytest.raises(Refusal) as refused:
        call()
    return refused.value.code, refused.value.field


class TestUploads:
    """Judged by their bytes."""

    def test_are_kept_with_what_they_are(self, upload: Upload, user: User, temporary: Path) -> None:
        content = picture(size=(80, 60))

        asset = Asset.objects.get(pk=upload(content, name="my cat.png").pk)

        assert (asset.user, asset.role, asset.submission, asset.name) == (user, "input", None, "my cat.png")
        assert (asset.mime_type, asset.kind, asset.width, asset.height) == ("image/png", "image", 80, 60)
        assert (asset.size, asset.duration) == (len(content), None)
        assert asset.sha256 == hashlib.sha256(content).hexdigest()
        assert asset.key == storage.key_of(asset.sha256, "png")
        assert read(asset.key) == content
        with Image.open(io.BytesIO(read(asset.thumbnail_key))) as thumbnail:
            assert thumbnail.format == "WEBP"
        assert list(temporary.iterdir()) == []

    def test_are_what_their_bytes_say(self, upload: Upload) -> None:
        asset = upload(picture(format="JPEG"), name="it.mp4")

        assert (asset.mime_type, Path(asset.key).suffix) == ("image/jpeg", ".jpg")

    def test_are_one_asset_for_the_same_bytes(self, upload: Upload) -> None:
        content = picture()

        assert upload(content).pk == upload(content, name="another name.png").pk
        assert Asset.objects.count() == 1

    def test_belong_to_each_user(self, upload: Upload) -> None:
        content = picture()
        mine, theirs = upload(content), upload(content, by=UserFactory.create())

        assert mine.pk != theirs.pk
        assert mine.key == theirs.key

    def test_have_names_that_fit(self, upload: Upload) -> None:
        assert len(upload(picture(), name="x" * 500).name) == 200

    @pytest.mark.parametrize(
        "content",
        [b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n\x1a\n", picture()[:-30], b"MZ" + bytes(100)],
        ids=["empty", "svg", "only a head", "cut short", "a program"],
    )
    def test_are_refused_unless_they_can_be_used(self, upload: Upload, temporary: Path, content: bytes) -> None:
        assert refusal(lambda: upload(content)) == ("invalid_input", "file")
        assert not Asset.objects.exists()
        assert list(temporary.iterdir()) == []

    def test_are_refused_when_too_large(self, upload: Upload, scale: Scale) -> None:
        content = picture()
        scale(max_input_bytes=len(content))
        upload(content)

        scale(max_input_bytes=len(content) - 1)
        assert refusal(lambda: upload(content)) == ("too_large", "file")

    def test_are_not_read_to_the_end_when_too_large(self, user: User, scale: Scale) -> None:
        scale(max_input_bytes=1000)

        class Endless(io.RawIOBase):
            given = 0

            def read(self, size: int = -1) -> bytes:
                self.given += size
                assert self.given < 10 * inputs.CHUNK
                return bytes(size)

        assert refusal(lambda: store_upload(user.pk, Endless(), name="")) == ("too_large", "file")  # type: ignore[arg-type]


class TestRoles:
    """What an operation takes."""

    @pytest.fixture
    def made(self, user: User) -> Callable[..., tuple[str, ...]]:
        """Resolves inputs of these roles for an operation of Pixverse; the roles that came out."""

        def resolved(operation: str, *roles: str, kind: str = "image/png", **params: Any) -> tuple[str, ...]:
            wanted = validated_params("pixverse", operation, {"prompt": "x", **params})
            refs = [InputRef(role, AssetFactory.create(role="input", user=user, mime_type=kind).pk) for role in roles]
            return tuple(one.role for one in resolve(user.pk, refs, wanted))

        return resolved

    @pytest.mark.parametrize(
        ("operation", "roles"),
        [
            ("text_to_video", []),
            ("image_to_video", ["image"]),
            ("video_transition", ["last_frame", "first_frame"]),
            ("fusion", ["image", "image", "image"]),
        ],
    )
    def test_are_taken_in_their_order(self, made: Callable[..., Any], operation: str, roles: list[str]) -> None:
        assert made(operation, *roles) == tuple(roles)

    @pytest.mark.parametrize(
        ("operation", "roles"),
        [
            ("text_to_video", ["image"]),
            ("image_to_video", []),
            ("image_to_video", ["image", "image"]),
            ("image_to_video", ["video"]),
            ("video_transition", ["first_frame"]),
            ("video_transition", ["first_frame", "first_frame"]),
            ("fusion", []),
            ("fusion", ["image"] * 4),
        ],
    )
    def test_are_refused_too_few_too_many_or_unknown(
        self, made: Callable[..., Any], operation: str, roles: list[str]
    ) -> None:
        assert refusal(lambda: made(operation, *roles)) == ("invalid_input", "inputs")

    @pytest.mark.parametrize(
        ("operation", "role", "kind", "fits"),
        [
            ("image_to_video", "image", "image/webp", True),
            ("image_to_video", "image", "video/mp4", False),
            ("video_extend", "video", "video/mp4", True),
            ("video_extend", "video", "image/png", False),
        ],
    )
    def test_take_their_kind_of_media(
        self, made: Callable[..., Any], operation: str, role: str, kind: str, fits: bool
    ) -> None:
        if fits:
            assert made(operation, role, kind=kind) == (role,)
        else:
            assert refusal(lambda: made(operation, role, kind=kind)) == ("invalid_input", "inputs")


class TestAssets:
    """Named by their id."""

    @pytest.fixture
    def params(self) -> Any:
        return validated_params("pixverse", "image_to_video", {"prompt": "x"})

    def test_are_the_user_s_own(self, user: User, params: Any) -> None:
        theirs = AssetFactory.create(role="input")

        for asset_id in (theirs.pk, uuid4()):
            with pytest.raises(NotFound, match=str(asset_id)) as refused:
                resolve(user.pk, [InputRef("image", asset_id)], params)
            assert (refused.value.code, refused.value.field) == ("unknown_asset", "inputs")

    def test_may_be_results_of_the_user(self, params: Any) -> None:
        output = AssetFactory.create(submission__generation__status="completed")

        (one,) = resolve(output.user_id, [InputRef("image", output.pk)], params)

        assert one.asset == output


class TestURLs:
    """Fetched once, stored, hashed."""

    @pytest.fixture
    def site(self, httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
        """A server that may be fetched from although it is on this machine; all else is as it is."""
        origin = httpserver.url_for("").rstrip("/")
        for name in ("check_url", "download"):
            monkeypatch.setattr(fetch, name, partial(getattr(fetch, name), allowed_origin=origin))
        return httpserver

    @pytest.fixture
    def from_url(self, ask: Ask) -> Callable[[str], Any]:
        return lambda url: ask(operation_type="image_to_image", inputs=(InputRef("image", url=url),))

    def test_is_refused_for_now_while_the_storage_is_down(
        self, site: HTTPServer, from_url: Callable[[str], Any], tmp_path: Path
    ) -> None:
        site.expect_request("/cat.png").respond_with_data(picture())
        with down(tmp_path / "media"), pytest.raises(Unavailable) as refused:
            from_url(site.url_for("/cat.png"))
        assert (refused.value.code, refused.value.retry_after) == ("storage_unavailable", 30)
        assert not Asset.objects.exists()
        assert not Generation.objects.exists()
        assert from_url(site.url_for("/cat.png")).generation.inputs.count() == 1

    def test_is_refused_for_now_on_a_full_disk(
        self, site: HTTPServer, from_url: Callable[[str], Any], settings: Settings, tmp_path: Path
    ) -> None:
        site.expect_request("/cat.png").respond_with_data(picture())
        with small_disk(tmp_path / "small") as disk:
            location = {"OPTIONS": {"location": str(disk.folder)}}
            settings.STORAGES = {**settings.STORAGES, "default": {**settings.STORAGES["default"], **location}}
            disk.fill()
            with pytest.raises(Unavailable):
                from_url(site.url_for("/cat.png"))
            assert disk.files() == []
            assert not Asset.objects.exists()

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "nonsense",
            "ftp://example.com/a.png",
            "file:///etc/passwd",
            "data:image/png;base64,AAAA",
            "http://127.0.0.1/a.png",
            "http://[::ffff:127.0.0.1]/a.png",
            "http://169.254.169.254/latest/meta-data",
            "http://10.0.0.1/a.png",
            "https://name:word@example.com/a.png",
        ],
    )
    def test_are_refused_where_nobody_should_look(self, from_url: Callable[[str], Any], url: str) -> None:
        assert refusal(lambda: from_url(url)) == ("unsafe_url", "inputs")
        assert not Asset.objects.exists()

    def test_are_kept(self, site: HTTPServer, from_url: Callable[[str], Any], temporary: Path) -> None:
        content = picture()
        site.expect_request("/cat.png").respond_with_data(content, content_type="text/plain")

        accepted = from_url(site.url_for("/cat.png"))

        asset = Asset.objects.get()
        assert accepted.generation.inputs.get().asset == asset
        assert (read(asset.key), asset.mime_type, asset.role) == (content, "image/png", "input")
        assert list(temporary.iterdir()) == []

    def test_are_known_by_what_is_there(self, site: HTTPServer, from_url: Callable[[str], Any]) -> None:
        content = picture()
        site.expect_ordered_request("/cat.png").respond_with_data(content)
        site.expect_ordered_request("/copy.png").respond_with_data(content)
        site.expect_ordered_request("/cat.png").respond_with_data(picture())

        first = from_url(site.url_for("/cat.png"))

        assert from_url(site.url_for("/copy.png")).generation == first.generation
        assert Asset.objects.count() == 1
        assert not from_url(site.url_for("/cat.png")).reused

    @pytest.mark.parametrize(
        "reply",
        [
            Response("gone", 404),
            Response("broken", 500),
            Response(b"", 200),
            Response("<html>log in first</html>", 200, content_type="image/png"),
        ],
        ids=["404", "500", "empty", "a page"],
    )
    def test_are_refused_where_nothing_usable_is(
        self, site: HTTPServer, from_url: Callable[[str], Any], reply: Response
    ) -> None:
        site.expect_request("/cat.png").respond_with_response(reply)

        assert refusal(lambda: from_url(site.url_for("/cat.png"))) == ("invalid_input", "inputs")
        assert not Asset.objects.exists()

    def test_are_refused_when_too_large(self, site: HTTPServer, from_url: Callable[[str], Any], scale: Scale) -> None:
        site.expect_request("/cat.png").respond_with_data(picture())
        scale(max_input_bytes=50)

        with pytest.raises(Invalid):
            from_url(site.url_for("/cat.png"))

    def test_may_not_lead_elsewhere(self, site: HTTPServer, from_url: Callable[[str], Any]) -> None:
        site.expect_request("/cat.png").respond_with_data(status=302, headers={"Location": "http://169.254.169.254/"})

        assert refusal(lambda: from_url(site.url_for("/cat.png"))) == ("unsafe_url", "inputs")
