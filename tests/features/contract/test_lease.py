"""One writer at a time per table; a dead one's lease is taken over."""

import json
import socket
import subprocess
import time

import pytest

from features.contract import lease
from features.contract.errors import ClusterError
from features.contract.lease import Holder, leases
from features.contract.paths import Location


def hold(lake: Location, holder: Holder) -> Location:
    file = lake / "_leases/variants.json"
    file.write_bytes(json.dumps(lease.asdict(holder)).encode())
    return file


def test_a_second_writer_is_told_who_holds_it(lake: Location) -> None:
    with leases(lake, ["variants"], "first"):
        told = pytest.raises(ClusterError, match=f"written by first .* on {socket.gethostname()}")
        with told, leases(lake, ["genotypes", "variants"], "second"):
            pass
        with leases(lake, ["genotypes"], "third"):
            pass
    with leases(lake, ["variants"], "fourth"):
        pass
    assert list((lake / "_leases").filesystem.ls((lake / "_leases").path)) == []


def test_a_dead_process_and_a_silent_host_hold_nothing(lake: Location) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale = [
        Holder(socket.gethostname(), dead.pid, "dead", time.time()),
        Holder("another", 1, "silent", time.time() - lease.STALE_SECONDS - 1),
    ]
    for holder in stale:
        hold(lake, holder)
        with leases(lake, ["variants"], "next"):
            pass
    hold(lake, Holder("another", 1, "alive", time.time()))
    with pytest.raises(ClusterError, match="alive"), leases(lake, ["variants"], "next"):
        pass


def test_of_two_who_find_a_stale_lease_one_takes_it(lake: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(lake, Holder("another", 1, "silent", time.time() - lease.STALE_SECONDS - 1))
    monkeypatch.setattr(Location, "create_exclusive", lambda *_: False)  # the other one was faster
    with pytest.raises(ClusterError, match="took over the stale lease"), leases(lake, ["variants"], "next"):
        pass


def test_a_lease_cut_short_by_a_crash_is_nobodys(lake: Location) -> None:
    (lake / "_leases/variants.json").write_bytes(b'{"host": ')
    with leases(lake, ["variants"], "next"):
        assert json.loads((lake / "_leases/variants.json").read_bytes())["application"] == "next"


def test_the_heartbeat_keeps_a_long_job_alive(lake: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    file = lake / "_leases/variants.json"
    with leases(lake, ["variants"], "long"):
        first = json.loads(file.read_bytes())["heartbeat"]
        deadline = time.monotonic() + 10
        while json.loads(file.read_bytes())["heartbeat"] == first:
            assert time.monotonic() < deadline
    assert not file.exists()


def test_a_lease_lost_to_another_job_is_noticed_before_publishing_and_left_to_it(lake: Location) -> None:
    with leases(lake, ["variants"], "suspended") as still_held:
        still_held()
        file = hold(lake, Holder("another", 1, "thief", time.time()))
        with pytest.raises(ClusterError, match="taken over"):
            still_held()
    assert json.loads(file.read_bytes())["application"] == "thief"
