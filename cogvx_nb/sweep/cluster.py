"""A Ray cluster: the one at an address, or one of its own that ends with the sweep."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator

from .. import settings
from ..errors import SpecError
from ..text import first_line

STORE_BYTES = 256 * 2**20
"""Size of Ray's object store on this machine; a video takes some megabytes of it."""

CONNECT_SECONDS = 10
"""Seconds for a cluster to accept a connection; Ray itself would try for minutes."""

HTTP2_SETTINGS = b"\4"
"""Type of the frame with which servers of gRPC, such as Ray's, begin (RFC 9113, 3.4 and 6.5)."""

HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0" + HTTP2_SETTINGS + bytes(5)
"""What a client sends first: the preface and an empty frame of settings."""


@contextlib.contextmanager
def join_or_start(count: int | None, address: str) -> Iterator[None]:
    """Join or start Ray without its logs and with our signal handlers; leave it at the end.

    Args:
        count: of workers, for a cluster that is started.
        address: see ``find_cluster``; empty to start a cluster on this machine.

    Raises:
        SpecError: if the cluster can't be reached or started.
    """
    import ray

    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address:
        options["address"] = find_cluster(address)
    else:  # "local": not the cluster that RAY_ADDRESS or `ray start` announces
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        options |= {"object_store_memory": STORE_BYTES}
        options["num_cpus"] = max(os.cpu_count() or 1, count or 1)
    main = threading.current_thread() is threading.main_thread()
    handlers = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGINT)}
    settings.prepare_ray(own_cluster=not address)
    try:
        ray.init(**options)
    except Exception as error:  # Ray raises what its parts do
        if not address:
            raise SpecError(
                f"Ray can't be started ({first_line(error)}): use --workers 1"
            ) from error
        raise _no_cluster(options["address"], first_line(error)) from error
    finally:
        for name, handler in handlers.items() if main else ():
            signal.signal(name, handler)
    try:
        yield
    finally:
        ray.shutdown()


def find_cluster(address: str) -> str:
    """The address of a running cluster; tried first, since Ray would try for minutes.

    Args:
        address: ``HOST:PORT``, ``ray://HOST:PORT``, or ``auto`` for the one that ``RAY_ADDRESS`` or
            ``ray start`` announces.

    Raises:
        SpecError: if it is no address, or no cluster answers there.
    """
    source = "ray-address"
    if address == "auto":
        source, address = "RAY_ADDRESS", settings.ray_address()
        if not address:
            source, address = "ray start", _started_cluster()
    scheme, _, place = address.rpartition("://")
    host, _, port = place.rpartition(":")
    if scheme not in ("", "ray") or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise SpecError(f"{source} = {address[:60]!r}: must be HOST:PORT, ray://HOST:PORT or auto")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS) as connection:
            connection.sendall(HTTP2_START)
            answer = connection.recv(9)
    except (OSError, ValueError) as error:  # ValueError: a host that is no name
        raise _no_cluster(address, getattr(error, "strerror", None) or str(error)) from error
    if answer[3:4] != HTTP2_SETTINGS:
        raise _no_cluster(address, "something else answers there")
    return address


def _started_cluster() -> str:
    """The address of the cluster that ``ray start`` started on this machine, or joined."""
    from ray._private import services

    try:
        return services.get_ray_address_from_environment("auto", None)
    except ConnectionError as error:
        raise SpecError("ray-address = 'auto': no cluster runs here: use 'ray start'") from error


def _no_cluster(address: str, reason: str) -> SpecError:
    return SpecError(f"Ray can't be had ({address[:60]}: {reason}): see that its cluster runs")
