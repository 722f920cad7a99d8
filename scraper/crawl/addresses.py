"""Which schemes and addresses may be asked.

Every address that a name resolves to is checked, and the connection goes to the address that was checked: a name
that changes its mind between check and use gains nothing.
"""

import asyncio
import ipaddress
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache

from scraper.errors import Failure, VisitFailed
from scraper.urls import Parts, parts

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RESOLVERS = 64
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Not the public internet, whatever this Python knows of them: shared address space, IETF protocols, 6to4 relays, benchmarks, reserved.
_NEVER = [
    ipaddress.ip_network(n)
    for n in (
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "240.0.0.0/4",
        "fec0::/10",
        "3fff::/20",
    )
]


@lru_cache(maxsize=256)
def networks(cidrs: tuple[str, ...]) -> tuple[Network, ...]:
    """Return the networks of a list of CIDR texts. Raises ValueError."""
    return tuple(ipaddress.ip_network(cidr) for cidr in cidrs)


def checked_parts(url: str) -> Parts:
    """Return the pieces of a URL that may be asked. Raises VisitFailed: invalid_url, blocked_scheme."""
    try:
        found = parts(url)
    except ValueError:
        raise VisitFailed(Failure.INVALID_URL, "is no URL") from None
    if found.scheme not in ("http", "https"):
        raise VisitFailed(Failure.BLOCKED_SCHEME, f"{found.scheme}: is never asked; only http and https are")
    if found.userinfo:
        raise VisitFailed(Failure.INVALID_URL, "carries a user name or password")
    if not found.host or not 0 < found.port < 65536:
        raise VisitFailed(Failure.INVALID_URL, "names no host or a port out of range")
    return found


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one (mapped, 6to4, Teredo, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is not None:
            return inner
        if int(address) >> 32 == 0 and int(address) > 1:  # IPv4-compatible, deprecated
            return ipaddress.IPv4Address(int(address))
    return address


@lru_cache(maxsize=4096)
def may_ask(address: Address, allowed: tuple[Network, ...]) -> bool:
    """Say whether an address is on the public internet or in a network that the operator allows."""
    inner = unwrapped(address)
    if any(candidate in network for network in allowed for candidate in (address, inner)):
        return True
    if any(inner in network for network in _NEVER if network.version == inner.version):
        return False
    return inner.is_global and not inner.is_multicast and not inner.is_reserved


def checked_literal(host: str, allowed: tuple[Network, ...]) -> None:
    """Refuse a host that is itself an address which may not be asked. Raises VisitFailed: blocked_address."""
    bare = host.rstrip(".")
    local = bare == "localhost" or bare.endswith(".localhost")  # RFC 6761 section 6.3
    try:
        address = ipaddress.ip_address("127.0.0.1" if local else host.partition("%")[0])
    except ValueError:
        return
    if not may_ask(address, allowed):
        raise VisitFailed(Failure.BLOCKED_ADDRESS, _blocked(host, host))


def _blocked(host: str, address: str) -> str:
    return (
        f"{host} is {address}, which is not on the public internet; to ask it all the same, list its network in "
        "[http] allow_networks"
    )


@cache
def _resolvers() -> ThreadPoolExecutor:
    """Threads that wait for name servers, and for nothing else."""
    return ThreadPoolExecutor(RESOLVERS, "dns")


_under_way: dict[str, Future[list[str]]] = {}


async def _looked_up(host: str) -> list[str]:
    """The addresses of a name. Who asks for one that is being looked up waits with the others: a silent server holds one thread for each of its names."""
    asked = _under_way.get(host)
    if asked is None:
        asked = _under_way[host] = _resolvers().submit(_look_up, host)
        asked.add_done_callback(lambda _: _under_way.pop(host, None))
    answer = asyncio.wrap_future(asked)
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())  # who waited may have gone
    return await asyncio.shield(answer)


def _look_up(host: str) -> list[str]:
    infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


async def resolve(host: str, allowed: tuple[Network, ...]) -> list[str]:
    """Return the addresses of a host, each of them checked. Raises VisitFailed: dns, blocked_address."""
    try:
        literal: Address | None = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        literal = None
    if literal is not None:
        found = [str(literal)]
    else:
        try:
            found = await _looked_up(host)
        except (socket.gaierror, UnicodeError) as error:
            raise VisitFailed(Failure.DNS, f"{host} cannot be resolved: {error}") from None
    for text in found:
        if not may_ask(ipaddress.ip_address(text.partition("%")[0]), allowed):
            raise VisitFailed(Failure.BLOCKED_ADDRESS, _blocked(host, text))
    if not found:
        raise VisitFailed(Failure.DNS, f"{host} has no address")
    return found
