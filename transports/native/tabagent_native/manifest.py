"""Native messaging manifests: what is in them, and where each browser looks for them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from .shim import CHROMIUM_MANIFEST, FIREFOX_MANIFEST, HOST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "BROWSERS",
    "Browser",
    "Extensions",
    "Family",
    "Manifest",
    "ManifestPlace",
    "Platform",
    "manifest_name",
    "manifest_places",
    "manifest_text",
]

Platform: TypeAlias = Literal["linux", "darwin", "win32"]
Family: TypeAlias = Literal["chromium", "firefox"]

DESCRIPTION: Final = "TabAgent: local models for browser extensions"

_CHROMIUM_ID = re.compile(r"[a-p]{32}")
_ADD_ON_ID = re.compile(
    r"\{[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\}|[A-Za-z0-9._-]*@[A-Za-z0-9._-]+"
)


class Browser(Struct, frozen=True):
    """One browser and the places, per platform, where it looks for manifests.

    Attributes:
        linux: Folders below the configuration folder, or, for Firefox, below the home.
        macos: Folders below `~/Library/Application Support`.
        windows: Keys below `HKEY_CURRENT_USER\\Software`.
    """

    name: str
    family: Family
    linux: tuple[str, ...]
    macos: tuple[str, ...]
    windows: tuple[str, ...]


_CHROME_LINUX = "google-chrome/NativeMessagingHosts"
_CHROME_MACOS = "Google/Chrome/NativeMessagingHosts"
_CHROME_WINDOWS = r"Google\Chrome\NativeMessagingHosts"

BROWSERS: Final = (
    Browser("chrome", "chromium", (_CHROME_LINUX,), (_CHROME_MACOS,), (_CHROME_WINDOWS,)),
    Browser(
        "chromium",
        "chromium",
        ("chromium/NativeMessagingHosts",),
        ("Chromium/NativeMessagingHosts",),
        (r"Chromium\NativeMessagingHosts",),
    ),
    Browser(
        "edge",
        "chromium",
        ("microsoft-edge/NativeMessagingHosts",),
        ("Microsoft Edge/NativeMessagingHosts",),
        (r"Microsoft\Edge\NativeMessagingHosts",),
    ),
    Browser(
        "brave",  # some of its versions look where Chrome does
        "chromium",
        ("BraveSoftware/Brave-Browser/NativeMessagingHosts", _CHROME_LINUX),
        ("BraveSoftware/Brave-Browser/NativeMessagingHosts", _CHROME_MACOS),
        (_CHROME_WINDOWS,),
    ),
    Browser(
        "vivaldi",
        "chromium",
        ("vivaldi/NativeMessagingHosts",),
        ("Vivaldi/NativeMessagingHosts",),
        (_CHROME_WINDOWS,),
    ),
    Browser(
        "firefox",
        "firefox",
        (".mozilla/native-messaging-hosts",),
        ("Mozilla/NativeMessagingHosts",),
        (r"Mozilla\NativeMessagingHosts",),
    ),
)


class Extensions(Struct, frozen=True):
    """The extensions that may call: ids of Chromium browsers, and ids of Firefox add-ons."""

    chromium: frozenset[str] = frozenset()
    firefox: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Extensions:
        """Sort ids by their browsers; a `chrome-extension://` origin stands for its id.

        :raises ValueError: for what is neither.
        """
        chromium, firefox = set(), set()
        for text in texts:
            candidate = text.removeprefix("chrome-extension://").removesuffix("/")
            if _CHROMIUM_ID.fullmatch(candidate):
                chromium.add(candidate)
            elif _ADD_ON_ID.fullmatch(text):
                firefox.add(text)
            else:
                raise ValueError(
                    f"{text!r} is no extension id: 32 letters a to p, "
                    "or for Firefox name@domain or {UUID}"
                )
        return cls(frozenset(chromium), frozenset(firefox))

    def __or__(self, other: Extensions) -> Extensions:
        return Extensions(self.chromium | other.chromium, self.firefox | other.firefox)

    def __sub__(self, other: Extensions) -> Extensions:
        return Extensions(self.chromium - other.chromium, self.firefox - other.firefox)

    def __bool__(self) -> bool:
        return bool(self.chromium or self.firefox)

    def of(self, family: Family) -> frozenset[str]:
        """Return the ids of one family."""
        return self.chromium if family == "chromium" else self.firefox


class ManifestPlace(Struct, frozen=True):
    """Where one browser finds its manifest: a file, or on Windows a registry key."""

    browser: Browser
    file: Path | None = None
    key: str | None = None

    @property
    def target(self) -> str:
        """The file or the key, for people."""
        return rf"HKEY_CURRENT_USER\{self.key}" if self.key else str(self.file)


def manifest_places(
    browsers: Iterable[Browser], platform: Platform, home: Path, config_home: Path
) -> list[ManifestPlace]:
    """Return the places of `browsers`, each once.

    :param home: The user's home folder.
    :param config_home: Where Linux browsers keep their profiles: `$XDG_CONFIG_HOME`.
    """
    places: dict[str, ManifestPlace] = {}
    for browser in browsers:
        if platform == "win32":
            for key in browser.windows:
                place = ManifestPlace(browser, key=rf"Software\{key}\{HOST_NAME}")
                places.setdefault(place.target, place)
            continue
        root = home / "Library/Application Support"
        if platform == "linux":
            root = home if browser.family == "firefox" else config_home
        for folder in browser.linux if platform == "linux" else browser.macos:
            place = ManifestPlace(browser, file=root / folder / f"{HOST_NAME}.json")
            places.setdefault(place.target, place)
    return list(places.values())


def manifest_name(family: Family) -> str:
    """Return the name of a family's manifest beside the shim."""
    return CHROMIUM_MANIFEST if family == "chromium" else FIREFOX_MANIFEST


def manifest_text(family: Family, extensions: Extensions, launcher: str) -> str:
    """Return the manifest that lets `extensions` start `launcher`.

    The list of extensions comes last: the shim reads nothing before it.
    """
    fields: dict[str, object] = {
        "name": HOST_NAME,
        "description": DESCRIPTION,
        "path": launcher,
        "type": "stdio",
    }
    if family == "chromium":
        origins = [f"chrome-extension://{id}/" for id in sorted(extensions.chromium)]
        fields["allowed_origins"] = origins
    else:
        fields["allowed_extensions"] = sorted(extensions.firefox)
    return json.dumps(fields, indent=2) + "\n"


class Manifest(Struct):
    """A manifest as a browser reads it."""

    name: str
    path: str
    type: Literal["stdio"]
    allowed_origins: list[str] = []
    allowed_extensions: list[str] = []

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Read a manifest; raises `ValueError` for what is none."""
        return msgspec.json.decode(text, type=cls)

    @property
    def extensions(self) -> Extensions:
        """The extensions that it names."""
        return Extensions.parse([*self.allowed_origins, *self.allowed_extensions])
