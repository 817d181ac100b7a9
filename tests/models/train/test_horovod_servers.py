"""Horovod's servers, which would listen on every interface."""

from horovod.runner.common.util import secret
from horovod.runner.common.util.network import BasicService
from horovod.runner.http.http_server import RendezvousServer

from models.train.horovod_servers import LOOPBACK, address_towards, bind_servers


def test_the_rendezvous_and_the_services_listen_on_loopback_only():
    bind_servers(LOOPBACK)
    rendezvous, service = RendezvousServer(), BasicService("test", secret.make_secret_key(), None)
    rendezvous.start()
    try:
        assert rendezvous._httpd.socket.getsockname()[0] == LOOPBACK
        assert service._server.socket.getsockname()[0] == LOOPBACK
    finally:
        rendezvous.stop()
        rendezvous._httpd.server_close()
        service.shutdown()


def test_the_way_to_this_machine_is_loopback():
    assert address_towards("localhost") == LOOPBACK
