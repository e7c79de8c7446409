"""The network of `docs/remote.md`: its recipes' TURN server, proxy and TabAgent, each running."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
import subprocess
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct

from tests.e2e.conftest import serving
from tests.remote.namespaces import (
    PROXY_INSIDE,
    SERVER,
    TURN,
    Namespace,
    Network,
    forbidden,
    missing,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.gguf_fixtures import ChainModel

GUIDE = Path(__file__).parents[2] / "docs" / "remote.md"
TOKEN = "known-to-both"
SECRET = "shared-with-turn"


class Remote(Struct, frozen=True):
    """A running network.

    Attributes:
        direct: The server's address for its neighbours.
        public: Its address on the internet.
        trust: Takes the proxy's certificate.
        answer: What its model says.
    """

    network: Network
    direct: str
    public: str
    trust: ssl.SSLContext
    answer: str


@pytest.fixture
def loopback_only() -> None:
    """Allow other addresses: from these namespaces no way leads out of the machine."""


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The namespaces and their cables."""
    if reason := forbidden():
        pytest.skip(reason)
    if reason := missing("turnserver", "nginx"):
        assert os.environ.get("TABAGENT_REQUIRE_BROWSER") != "1", reason
        pytest.skip(reason)
    with ExitStack() as stack:
        roles = ("server", "internet", "nat", "peer")
        yield Network(*[stack.enter_context(Namespace(role)) for role in roles])


@pytest.fixture(scope="session")
def remote(
    network: Network, long_chain_model: ChainModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remote]:
    """A server that peers reach through TURN only, behind a proxy."""
    folder = tmp_path_factory.mktemp("remote")
    flags = [f"--model=chain={long_chain_model.path}", f"--host={SERVER}", f"--token={TOKEN}"]
    flags += [f"--trusted-proxy={PROXY_INSIDE}", f"--allow-host={TURN}"]
    flags += [
        f"--ice-server=turn:{TURN}",
        f"--turn-secret={SECRET}",
        "--ice-transport-policy=relay",
    ]
    with (
        turn_server(network.internet, folder),
        serving(folder, *flags, within=network.server.inside) as direct,
        proxy(network.internet, folder, direct) as trust,
    ):
        yield Remote(network, direct, f"https://{TURN}", trust, long_chain_model.answer)


@pytest.fixture(scope="session")
def neighbour(
    network: Network, long_chain_model: ChainModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a server without TURN, as those in its local network see it."""
    flags = [f"--model=chain={long_chain_model.path}", f"--host={SERVER}", f"--token={TOKEN}"]
    folder = tmp_path_factory.mktemp("neighbour")
    with serving(folder, *flags, within=network.server.inside) as address:
        yield address


@contextmanager
def turn_server(namespace: Namespace, folder: Path) -> Iterator[None]:
    """Run coturn as the guide configures it."""
    settings = recipe("ini").replace("CHANGE-ME", SECRET)
    own = [f"listening-ip={TURN}", f"log-file={folder}/turn.log", "simple-log"]
    own += [f"pidfile={folder}/turn.pid", f"userdb={folder}/turn.db"]
    path = folder / "turnserver.conf"
    path.write_text(settings + "\n".join(own) + "\n")

    def start() -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["turnserver", "-c", str(path)], stdout=subprocess.DEVNULL)
        while not answers_stun(TURN):
            assert process.poll() is None, (folder / "turn.log").read_text()
        return process

    with namespace.inside(start) as process:
        try:
            yield
        finally:
            process.terminate()


def answers_stun(address: str) -> bool:
    """Whether a binding request is answered, asked once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(0.2)
        caller.connect((address, 3478))
        with suppress(OSError):
            caller.send(struct.pack(">HHI", 1, 0, 0x2112A442) + os.urandom(12))
            return bool(caller.recv(1024))
    return False


@contextmanager
def proxy(namespace: Namespace, folder: Path, target: str) -> Iterator[ssl.SSLContext]:
    """Run nginx as the guide configures it, in front of `target`."""
    certificate, key = write_certificate(folder, TURN)
    site = recipe("nginx").replace("http://127.0.0.1:8484", target)
    site = site.replace("tabagent.example.org", TURN)
    site = re.sub(r"(ssl_certificate +)\S+;", rf"\1{certificate};", site)
    site = re.sub(r"(ssl_certificate_key +)\S+;", rf"\1{key};", site)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    head = f"pid {folder}/nginx.pid;\nerror_log {folder}/error.log;\nevents {{}}\n"
    http = f"http {{\naccess_log off;\n{temporary}{site}\n}}\n"
    path = folder / "nginx.conf"
    path.write_text(head + http)
    command = ["nginx", "-p", str(folder), "-c", str(path)]
    namespace.command(*command)  # returns once it listens
    try:
        yield ssl.create_default_context(cafile=certificate)
    finally:
        namespace.command(*command, "-s", "stop")


def recipe(language: str) -> str:
    """Return the guide's block in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert found, f"the guide has no {language}"
    return found[1]


def write_certificate(folder: Path, address: str) -> tuple[Path, Path]:
    """Make a certificate for an address that vouches for itself; returns it and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(encoding))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain))
    return paths
