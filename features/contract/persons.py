"""Person keys: one keyed pseudonym per person, the same from every source of a namespace."""

import hashlib
import hmac
import re
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from features.contract.errors import ConfigError, DataGateError
from features.contract.paths import Location
from features.contract.settings import IdentitySettings

UNIT_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class PersonKeyer:
    """Turns source ids into person keys and paths into digests; picklable, ships to executors.

    `person_key` = lower-case hex of HMAC-SHA-256(key, namespace + U+001F + normalised id).
    """

    key: bytes
    identity: IdentitySettings

    def __repr__(self) -> str:
        return f"PersonKeyer({fingerprint(self.key)})"

    def normalise(self, source_id: str) -> str | None:
        """The id without case, separator and aliquot differences; None when it is not an id at all."""
        text = source_id.strip()
        if self.identity.case == "upper":
            text = text.upper()
        if self.identity.case == "lower":
            text = text.lower()
        text = re.sub("[_-]", self.identity.separator, text)
        match = re.match(self.identity.pattern, text)
        if match is None:
            return None
        return match.group(1) if match.re.groups else match.group(0)

    def person_key(self, source_id: str | None) -> str | None:
        """64 hex digits, or None for an id that the identity pattern does not accept, or that was no UTF-8: what
        could not be read of it may be what tells two people apart."""
        if source_id is None or "\ufffd" in source_id:
            return None
        normal = self.normalise(source_id)
        return None if normal is None else self.digest(self.identity.namespace, normal)

    def digest(self, purpose: str, text: str) -> str:
        """A keyed digest of anything that may identify a person (a path, a record)."""
        message = (purpose + UNIT_SEPARATOR + text).encode()
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()

    def path_digest(self, relative_path: str) -> str:
        """The digest that logs and quarantine show for a raw file; `riskloom trace` resolves it."""
        return self.digest("path", relative_path)


def load_keyer(identity: IdentitySettings) -> PersonKeyer:
    """Read the identity key; make one where the settings allow it."""
    return PersonKeyer(read_key(identity.key_uri, identity.create), identity)


def read_key(uri: str, create: bool) -> bytes:
    """The 32 bytes of a key file; errors say which setting names it."""
    location = Location.parse(uri)
    if not location.exists():
        if not create:
            raise ConfigError(
                f"identity.key_uri: no key at {uri}; correct the setting, copy the key that a local run made, "
                "or make one of 32 random bytes that its owner alone may read (openssl rand -out FILE 32)"
            )
        location.create_exclusive(secrets.token_bytes(32))  # a job beside this one may be first
        location.restrict()
    _check_private(location)
    key = location.read_bytes()
    if len(key) < 32:
        raise DataGateError(f"identity.key_uri: {uri} holds {len(key)} bytes, expected at least 32")
    return key


def write_private(location: Location, data: bytes) -> None:
    """Write a secret that its owner alone can read."""
    location.write_bytes(data)
    location.restrict()


def fingerprint(key: bytes) -> str:
    """What may be shown of a key: twelve hex digits of its SHA-256."""
    return hashlib.sha256(key).hexdigest()[:12]


def _check_private(location: Location) -> None:
    if not location.on_hdfs and stat.S_IMODE(Path(location.path).stat().st_mode) & 0o077:
        raise ConfigError(f"identity.key_uri: {location.uri} is readable by others; chmod 0400 it")
