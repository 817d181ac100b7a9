"""Signed bundles in the lake: everything that a prediction needs, checked before any of it is used.

A bundle is `models/<task>/<digest>/`. `digests.json` names the SHA-256 of every other file, its own
SHA-256 is `<digest>`, and `signature` is an ed25519 signature over its bytes.
"""

import hashlib
import json
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict

from features.contract.errors import ConfigError, ModelGateError
from features.contract.manifest import Manifest
from features.contract.paths import Location
from features.contract.persons import write_private
from features.contract.settings import SigningSettings, TaskSettings, TrustSettings
from models.architecture import check_architecture
from models.evaluate.calibration import Calibrator
from models.evaluate.results import Metrics

ARCHITECTURE = "architecture.json"
WEIGHTS = "model.weights.h5"
CALIBRATOR = "calibrator.json"
MANIFEST = "manifest.json"
SETTINGS = "settings.json"
METRICS = "metrics.json"
HISTORY = "history.json"
EVALUATION = "evaluation.parquet"
FILES = frozenset({ARCHITECTURE, WEIGHTS, CALIBRATOR, MANIFEST, SETTINGS, METRICS, HISTORY, EVALUATION})
DIGESTS = "digests.json"
SIGNATURE = "signature"


class BundleSettings(BaseModel):
    """`settings.json`: what the model was trained with and on.

    `risk_quantiles` are the 0th to 100th percentile of the calibrated risk of the training people,
    to which a population's risks can be compared.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: TaskSettings
    modalities: list[str]
    statistics_key: str
    training_version: int
    manifest_digest: str
    risk_quantiles: list[float]


@dataclass(frozen=True)
class Bundle:
    """A bundle whose signature, digests and architecture were found right."""

    digest: str
    files: Mapping[str, bytes]

    @cached_property
    def calibrator(self) -> Calibrator:
        return Calibrator.model_validate_json(self.files[CALIBRATOR])

    @cached_property
    def manifest(self) -> Manifest:
        return Manifest.model_validate_json(self.files[MANIFEST])

    @cached_property
    def settings(self) -> BundleSettings:
        return BundleSettings.model_validate_json(self.files[SETTINGS])

    @cached_property
    def metrics(self) -> Metrics:
        return Metrics.model_validate_json(self.files[METRICS])

    def network(self) -> Any:
        """The Keras model with its weights, uncompiled."""
        import keras

        network = keras.models.model_from_json(self.files[ARCHITECTURE].decode())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / WEIGHTS
            path.write_bytes(self.files[WEIGHTS])
            network.load_weights(path)
        return network


def bundle_path(task: str, digest: str) -> str:
    return f"models/{task}/{digest}"


def write_bundle(lake: Location, task: str, files: Mapping[str, bytes], signing: SigningSettings) -> str:
    """Write and sign a bundle; its digest. Content that is already there is left alone.

    The signature comes last: a folder without one is a killed job's leftover and is replaced.
    """
    if set(files) != FILES:
        raise ValueError(f"a bundle holds {sorted(FILES)}, not {sorted(files)}")
    digests = json.dumps({name: _sha256(files[name]) for name in sorted(files)}, indent=1).encode()
    folder = lake / bundle_path(task, _sha256(digests))
    signature = _private_key(signing).sign(digests)
    if (folder / SIGNATURE).exists():
        # The same content, perhaps signed with a key since replaced: never unmake a finished bundle.
        if (folder / SIGNATURE).read_bytes() != signature:
            (folder / SIGNATURE).write_bytes(signature)
        return _sha256(digests)
    folder.delete()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / DIGESTS).write_bytes(digests)
    (folder / SIGNATURE).write_bytes(signature)
    return _sha256(digests)


def open_bundle(lake: Location, task: str, digest: str, trust: TrustSettings) -> Bundle:
    """Read a bundle once into memory and check it there.

    Raises ModelGateError for a foreign or missing signature, a file that is missing, extra or
    changed, or an architecture with a class that is not on the closed list.
    """
    name = bundle_path(task, digest)
    folder = lake / name
    digests = _read(folder, DIGESTS, name)
    if _sha256(digests) != digest:
        raise ModelGateError(f"{name}: the SHA-256 of {DIGESTS} is not the folder's name; {WHAT_TO_DO}")
    _check_signature(digests, _read(folder, SIGNATURE, name), trust, name)
    expected: dict[str, str] = json.loads(digests)
    found = {entry.path for entry in folder.files()} - {DIGESTS, SIGNATURE}
    if found != set(expected) or found != FILES:
        odd = ", ".join(sorted((found ^ set(expected)) | (found ^ FILES)))
        raise ModelGateError(f"{name}: files missing or extra: {odd}; {WHAT_TO_DO}")
    files = {file: (folder / file).read_bytes() for file in sorted(expected)}
    for file, data in files.items():
        if _sha256(data) != expected[file]:
            raise ModelGateError(f"{name}/{file}: its SHA-256 is not the signed one; {WHAT_TO_DO}")
    check_architecture(files[ARCHITECTURE], f"{name}/{ARCHITECTURE}")
    return Bundle(digest, files)


WHAT_TO_DO = "do not use this bundle: find out who changed it, then train again or restore it from a backup"


def ensure_signing_key(signing: SigningSettings, trust: TrustSettings) -> None:
    """Before training: there is a private signing key (made where `signing.create` allows it), none
    but its owner can read it, and `trust.public_keys` names its public half."""
    location = Location.parse(signing.key_uri)
    if not location.exists():
        if not signing.create:
            raise ConfigError(
                f"signing.key_uri: no key at {signing.key_uri}; make one with "
                "`openssl genpkey -algorithm ed25519`, or set signing.create"
            )
        _create_key(location)
    own = _raw(_private_key(signing).public_key())
    if own not in {_raw(key) for key in _public_keys(trust)}:
        raise ConfigError(
            "trust.public_keys: none is the public half of signing.key_uri, so the new bundle could not be "
            "used; add it (`openssl pkey -pubout`)"
        )


def _create_key(location: Location) -> None:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    Location(location.uri.removesuffix(".key") + ".pub").write_bytes(public)
    write_private(location, private)


def _private_key(signing: SigningSettings) -> Ed25519PrivateKey:
    location = Location.parse(signing.key_uri)
    if not location.exists():
        raise ConfigError(f"signing.key_uri: no key at {signing.key_uri}")
    if not location.on_hdfs and stat.S_IMODE(Path(location.path).stat().st_mode) & 0o077:
        raise ConfigError(f"signing.key_uri: {signing.key_uri} is readable by others; chmod 0400 it")
    try:
        key = serialization.load_pem_private_key(location.read_bytes(), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"signing.key_uri: {signing.key_uri} is not an unencrypted ed25519 private key in PEM")
    return key


def _public_keys(trust: TrustSettings) -> list[Ed25519PublicKey]:
    return [_public_key(uri) for uri in trust.public_keys]


def _public_key(uri: str) -> Ed25519PublicKey:
    location = Location.parse(uri)
    if not location.exists():
        raise ConfigError(f"trust.public_keys: no key at {uri}")
    try:
        key = serialization.load_pem_public_key(location.read_bytes())
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"trust.public_keys: {uri} is not an ed25519 public key in PEM")
    return key


def _check_signature(digests: bytes, signature: bytes, trust: TrustSettings, name: str) -> None:
    for key in _public_keys(trust):
        try:
            return key.verify(signature, digests)
        except InvalidSignature:
            continue
    raise ModelGateError(
        f"{name}: not signed by any key of trust.public_keys; {WHAT_TO_DO}, or add its signer's public key"
    )


def _read(folder: Location, file: str, name: str) -> bytes:
    if not (folder / file).exists():
        raise ModelGateError(f"{name}: {file} is missing; the bundle was never finished: run train_model")
    return (folder / file).read_bytes()


def _raw(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes_raw()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
