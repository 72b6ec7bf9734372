import pytest

from clients import RecommenderClient, Tls
from clients.connection import Connection
from clients.errors import ClientError


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001", "localhost", "127.0.0.1:", ":8001", "a b:1", 8001, ""])
def test_addresses_without_host_and_port_are_refused(url):
    with pytest.raises(ClientError, match="expected host:port without a scheme"):
        RecommenderClient(url)


@pytest.mark.parametrize("url", ["127.0.0.1:8001", "recommender.shop.svc:443", "[::1]:8001"])
def test_addresses(url):
    RecommenderClient(url).close()


@pytest.mark.parametrize("metadata", [{"Authorization": "Bearer x"}, {"a b": "x"}, {"a": "x\ny"}, {"a": "ü"}, {"a": 1}])
def test_metadata_that_grpc_cannot_send_is_refused(metadata):
    with pytest.raises(ClientError, match="metadata: found key") as caught:
        RecommenderClient(metadata=metadata)
    assert "Bearer" not in str(caught.value)


def test_settings_become_channel_arguments():
    options = dict(Connection(keepalive_s=20, max_message_bytes=1000, tls=Tls(server_name="shop")).options)
    assert options["grpc.keepalive_time_ms"] == 20_000
    assert options["grpc.max_receive_message_length"] == options["grpc.max_send_message_length"] == 1000
    assert options["grpc.ssl_target_name_override"] == "shop"


def test_tls_files(tmp_path):
    with pytest.raises(ClientError, match=r"TLS authority .*ca\.pem: cannot be read \(No such file"):
        RecommenderClient(tls=Tls(ca=tmp_path / "ca.pem"))
    with pytest.raises(ClientError, match="a certificate without a key"):
        RecommenderClient(tls=Tls(cert=tmp_path / "cert.pem"))


def test_no_secret_is_shown():
    assert "token" not in repr(RecommenderClient(metadata={"authorization": "token"}))
    assert "token" not in repr(Connection(metadata={"authorization": "token"}))


@pytest.mark.parametrize(("url", "here"), [
    ("127.0.0.1:8001", True), ("127.0.1.1:8001", True), ("localhost:1", True), ("[::1]:8001", True),
    ("10.0.0.1:8001", False), ("localhost.example.com:1", False), ("127.example.com:1", False), ("[::2]:1", False),
])  # fmt: skip
def test_what_lies_on_this_machine(url, here):
    assert Connection(url).on_this_machine is here
