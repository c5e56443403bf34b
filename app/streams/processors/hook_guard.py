"""Where webhooks may go: an allow-list of hosts and networks, asked again at each connection.

An entry is a host name (``hooks.example.com``, ``*.example.com`` for all below it, ``*`` for any),
with a port where it isn't the scheme's own (``hooks.example.com:8443``), or a network
(``10.1.0.0/16``). A name says which hosts may be called; whatever a name leads to must be a public
address, unless a network of the list holds it. Without an entry nothing may be called.

The address that was examined is the address that is connected to: a name that leads elsewhere a
moment later gains nothing.
"""

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
_PORTS: Final = {"http": 80, "https": 443}
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ENTRY: Final = re.compile(rf"(?P<host>\*|(?:\*\.)?{_NAME.pattern})(?::(?P<port>[0-9]{{1,5}}))?")
_VISIBLE: Final = re.compile(r"[!-~]{1,2000}")
_TARGET_DOT: Final = "."


class NotAllowed(Exception):
    """A URL, or the address it leads to, that no entry of the allow-list admits."""


@dataclass(frozen=True)
class Target:
    """A URL taken apart: what is connected to, and what is asked for there."""

    secure: bool
    host: str
    port: int
    path: str

    @property
    def host_header(self) -> str:
        """The value of the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        own = self.port == _PORTS["https" if self.secure else "http"]
        return host if own else f"{host}:{self.port}"


@dataclass(frozen=True)
class _Entry:
    host: str
    port: int | None

    def admits(self, target: Target) -> bool:
        usual = _PORTS["https" if target.secure else "http"]
        if target.port != (self.port or usual):
            return False
        host = target.host.rstrip(_TARGET_DOT)
        if self.host == "*":
            return True
        if self.host.startswith("*."):
            return host.endswith(self.host[1:])
        return host == self.host.rstrip(_TARGET_DOT)


class HookGuard:
    """Decides by an allow-list."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError for an entry that is neither a host nor a network."""
        self._hosts: list[_Entry] = []
        self._networks: list[Network] = []
        for text in entries:
            self._add(text.strip().lower())

    def _add(self, text: str) -> None:
        if "/" in text:
            self._networks.append(ip_network(text))
            return
        found = _ENTRY.fullmatch(text)
        if found is None or not 0 < int(found["port"] or 1) < 65_536:
            raise ValueError(f"neither a host nor a network: {text}")
        self._hosts.append(_Entry(found["host"], int(found["port"]) if found["port"] else None))

    def check(self, url: str) -> Target:
        """What a URL names; raises NotAllowed, without asking any resolver."""
        target = parse(url)
        if not any(entry.admits(target) for entry in self._hosts):
            raise NotAllowed("no entry of the allow-list admits this host and port")
        literal = _literal(target.host)
        if literal is not None:
            self._check_address(literal)
        return target

    def addresses(self, target: Target, resolve: Resolve | None = None) -> list[str]:
        """The addresses to connect to; raises NotAllowed unless every one is allowed, OSError."""
        found = list((resolve or resolved)(target.host, target.port))
        if not found:
            raise NotAllowed("the name leads nowhere")
        for text in found:
            self._check_address(ip_address(text))
        return found

    def _check_address(self, address: Address) -> None:
        embedded = _embedded(address)
        if any(one in network for one in (address, embedded) for network in self._networks):
            return
        if not (_is_public(address) and _is_public(embedded)):
            raise NotAllowed("it leads to an address that is not public")


def parse(url: str) -> Target:
    """A URL taken apart; raises NotAllowed for what is no plain http(s) URL."""
    if _VISIBLE.fullmatch(url) is None or "\\" in url or "#" in url:
        raise NotAllowed("not a plain URL of visible ASCII characters without a fragment")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise NotAllowed("not a URL") from error
    if parts.scheme not in _PORTS or "@" in parts.netloc or not parts.hostname or port == 0:
        raise NotAllowed("say https://host/path, without a user")
    host = parts.hostname
    if _NAME.fullmatch(host) is None and _literal(host) is None:
        raise NotAllowed("not the name of a host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or _PORTS[parts.scheme], path)


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host, by the system's resolver; raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _embedded(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, by whatever way; itself where there is none."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or address in _COMPATIBLE:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


_NAT64: Final = IPv6Network("64:ff9b::/96")
_UNICAST: Final = IPv6Network("2000::/3")
_COMPATIBLE: Final = IPv6Network("::/96")


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _UNICAST:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved)
