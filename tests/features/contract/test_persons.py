"""One person, one key, however an id is spelt; and the key itself stays secret."""

import hashlib
import hmac
import stat
from pathlib import Path

import pytest

from features.contract.errors import ConfigError, DataGateError
from features.contract.persons import PersonKeyer, load_keyer
from features.contract.settings import IdentitySettings


def test_the_key_is_hmac_over_namespace_separator_and_normal_id(keyer: PersonKeyer) -> None:
    expected = hmac.new(bytes(range(32)), b"tests\x1fA-1", hashlib.sha256).hexdigest()
    assert {keyer.person_key(spelt) for spelt in ("A-1", "a_1", " A-1 ", "a-1-01B")} == {expected}


def test_ids_that_are_none_get_no_key(keyer: PersonKeyer) -> None:
    assert [keyer.person_key(text) for text in (None, "", "???", "1-A")] == [None] * 4


def test_names_of_which_a_letter_was_not_read_get_no_key(keyer: PersonKeyer) -> None:
    anything = PersonKeyer(keyer.key, keyer.identity.model_copy(update={"pattern": "^(.+)$"}))
    read = [name.encode("latin-1").decode(errors="replace") for name in ("Ren\u00e9", "Ren\u00e8", "Rene")]
    assert [anything.person_key(name) is None for name in read] == [True, True, False]


def test_namespaces_and_purposes_do_not_meet(keyer: PersonKeyer) -> None:
    other = PersonKeyer(keyer.key, keyer.identity.model_copy(update={"namespace": "elsewhere"}))
    assert len({keyer.person_key("A-1"), other.person_key("A-1"), keyer.path_digest("A-1")}) == 3


def test_a_key_is_made_private_once_and_never_shown(tmp_path: Path) -> None:
    uri = str(tmp_path / "keys" / "identity.key")
    identity = IdentitySettings(namespace="tests", key_uri=uri, create=True)
    keyer = load_keyer(identity)
    assert load_keyer(identity).key == keyer.key
    assert stat.S_IMODE(Path(uri).stat().st_mode) == 0o400
    assert keyer.key.hex() not in repr(keyer)


def test_a_missing_short_or_open_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.key"
    identity = IdentitySettings(namespace="tests", key_uri=str(path))
    with pytest.raises(ConfigError, match=r"identity.key_uri: no key"):
        load_keyer(identity)
    path.write_bytes(b"x" * 32)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 0400"):
        load_keyer(identity)
    path.write_bytes(b"short")
    path.chmod(0o400)
    with pytest.raises(DataGateError, match="5 bytes, expected at least 32"):
        load_keyer(identity)
