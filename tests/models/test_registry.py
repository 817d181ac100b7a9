"""A bundle is used whole and untouched, or not at all."""

import json
import stat
from pathlib import Path

import keras
import numpy as np
import pytest

from features.contract.errors import ConfigError, ModelGateError
from features.contract.paths import Location
from features.contract.settings import SigningSettings, TrustSettings
from models import registry
from models.architecture import check_architecture
from models.registry import FILES, ensure_signing_key, open_bundle, write_bundle


@pytest.fixture
def keys(tmp_path):
    signing = SigningSettings(key_uri=str(tmp_path / "lake.keys/signing.key"), create=True)
    trust = TrustSettings(public_keys=[str(tmp_path / "lake.keys/signing.pub")])
    ensure_signing_key(signing, trust)
    return signing, trust


@pytest.fixture(scope="module")
def network():
    x = keras.Input((3,), name="x")
    return keras.Model(x, keras.layers.Dense(2, activation="relu")(x))


def files_of(network, tmp_path):
    weights = tmp_path / "a.weights.h5"
    network.save_weights(weights)
    files = {name: name.encode() for name in FILES}
    return files | {registry.ARCHITECTURE: network.to_json().encode(), registry.WEIGHTS: weights.read_bytes()}


@pytest.fixture
def bundle(lake, keys, network, tmp_path):
    digest = write_bundle(lake, "little", files_of(network, tmp_path), keys[0])
    return digest, Path((lake / f"models/little/{digest}").path)


def test_a_bundle_opens_and_predicts_as_before(lake, keys, network, bundle):
    opened = open_bundle(lake, "little", bundle[0], keys[1]).network()
    x = np.ones((4, 3), np.float32)
    assert np.array_equal(opened(x), network(x))


def test_the_same_content_is_the_same_bundle_and_is_not_written_again(lake, keys, network, bundle, tmp_path):
    digest, folder = bundle
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    files = {name: (folder / name).read_bytes() for name in FILES}
    assert write_bundle(lake, "little", files, keys[0]) == digest
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_leftover_of_a_killed_job_is_replaced(lake, keys, bundle):
    digest, folder = bundle
    files = {name: (folder / name).read_bytes() for name in FILES}
    (folder / "signature").unlink()
    (folder / "metrics.json.77.tmp").write_bytes(b"half")
    with pytest.raises(ModelGateError, match="never finished"):
        open_bundle(lake, "little", digest, keys[1])
    write_bundle(lake, "little", files, keys[0])
    open_bundle(lake, "little", digest, keys[1])


@pytest.mark.parametrize("name", sorted(FILES | {"digests.json", "signature"}))
def test_one_changed_bit_in_any_file_is_refused(lake, keys, bundle, name):
    digest, folder = bundle
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(ModelGateError):
        open_bundle(lake, "little", digest, keys[1])


def test_an_extra_or_missing_file_is_refused(lake, keys, bundle):
    digest, folder = bundle
    (folder / "extra.py").write_text("print()")
    with pytest.raises(ModelGateError, match=r"extra\.py"):
        open_bundle(lake, "little", digest, keys[1])
    (folder / "extra.py").unlink()
    (folder / "metrics.json").unlink()
    with pytest.raises(ModelGateError, match=r"metrics\.json"):
        open_bundle(lake, "little", digest, keys[1])


def test_a_foreign_signature_is_refused(lake, keys, bundle, tmp_path):
    foreign = SigningSettings(key_uri=str(tmp_path / "foreign.key"), create=True)
    ensure_signing_key(foreign, TrustSettings(public_keys=[str(tmp_path / "foreign.pub")]))
    digest, folder = bundle
    files = {name: (folder / name).read_bytes() for name in FILES}
    assert write_bundle(lake, "little", files, foreign) == digest
    with pytest.raises(ModelGateError, match="not signed by any key"):
        open_bundle(lake, "little", digest, keys[1])


def test_a_signed_lambda_is_refused_before_keras_sees_it(lake, keys, network, tmp_path, monkeypatch):
    architecture = json.loads(network.to_json())
    architecture["config"]["layers"][1]["class_name"] = "Lambda"
    files = files_of(network, tmp_path) | {registry.ARCHITECTURE: json.dumps(architecture).encode()}
    digest = write_bundle(lake, "little", files, keys[0])
    monkeypatch.setattr(keras.models, "model_from_json", lambda *_: pytest.fail("Keras saw it"))
    with pytest.raises(ModelGateError, match="Lambda"):
        open_bundle(lake, "little", digest, keys[1])


@pytest.mark.parametrize(
    "node",
    [
        {"class_name": "system", "module": "os", "config": {}},
        {"class_name": "Dense", "module": "evil.layers", "registered_name": None},
        {"class_name": "Dense", "module": "keras.layers", "registered_name": "evil>Dense"},
        {"class_name": "function", "module": "builtins", "config": "exec"},
        {"class_name": "__lambda__", "config": {"value": "x"}},
        {"class_name": ["Dense"], "module": "keras.layers"},
        {"module": "os"},
        {"compile_config": {"optimizer": "adam"}},
    ],
)
def test_what_is_not_on_the_closed_list_is_refused_at_any_depth(network, node):
    architecture = json.loads(network.to_json())
    check_architecture(json.dumps(architecture).encode(), "a")
    architecture["config"]["layers"][1]["config"]["bias_initializer"] = [{"config": node}]
    with pytest.raises(ModelGateError):
        check_architecture(json.dumps(architecture).encode(), "a")


def test_keys_are_made_once_private_and_only_where_allowed(tmp_path, keys):
    signing, trust = keys
    private = Path(signing.key_uri)
    assert stat.S_IMODE(private.stat().st_mode) == 0o400
    before = private.read_bytes()
    ensure_signing_key(signing, trust)
    assert private.read_bytes() == before
    with pytest.raises(ConfigError, match=r"signing\.key_uri"):
        ensure_signing_key(SigningSettings(key_uri=str(tmp_path / "none.key")), trust)
    private.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 0400"):
        ensure_signing_key(signing, trust)


def test_a_signing_key_nobody_trusts_is_a_config_error(tmp_path, keys):
    other = SigningSettings(key_uri=str(tmp_path / "other.key"), create=True)
    with pytest.raises(ConfigError, match=r"trust\.public_keys"):
        ensure_signing_key(other, keys[1])
    assert Location.parse(str(tmp_path / "other.pub")).exists()
