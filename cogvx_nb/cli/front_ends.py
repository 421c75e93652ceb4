"""``cogvx lab`` and ``cogvx app``: the workbench in a browser."""

from __future__ import annotations

import argparse
import logging
import secrets
import signal
import socket
import warnings
import webbrowser
from pathlib import Path

from .. import settings
from ..errors import optional_import
from ..text import print_error
from .signals import ENDING

NOTEBOOK = "03_generate.ipynb"
APP = Path(__file__).parent.parent / "data" / "CogVideoX.ipynb"

RATE = 100_000_000
"""Bytes a second that a kernel may send: a video goes to the page through the server, which by
default drops what is beyond 1 MB a second."""


def add_lab(command: argparse.ArgumentParser) -> None:
    _add_address(command)
    command.add_argument(
        "arguments", nargs="*", metavar="ARGUMENT", help="arguments of JupyterLab, after --"
    )


def add_app(command: argparse.ArgumentParser) -> None:
    _add_address(command)


def _add_address(command: argparse.ArgumentParser) -> None:
    flag = command.add_argument
    flag("--port", type=int, metavar="N", help="to listen on (default: a free one)")
    flag("--no-browser", action="store_true", help="only print the address")


def open_lab(options: argparse.Namespace) -> int:
    """Open the workbench's notebook in JupyterLab, in a browser."""
    from jupyterlab.labapp import LabApp

    folder = settings.notebooks_dir()
    arguments = [
        f"--ServerApp.root_dir={folder.parent}",
        f"--ZMQChannelsWebsocketConnection.iopub_data_rate_limit={RATE}",
        "--Application.log_level=WARN",
        *([f"--ServerApp.port={options.port}"] if options.port else []),
        "--no-browser",  # opened below, with the address that is printed
        *options.arguments,
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own defaults
        server = LabApp.initialize_server(argv=arguments)
    # Its banner, which has the address thrice, and its farewell.
    server.log.addFilter(lambda record: record.levelno < logging.CRITICAL)
    for number in (signal.SIGINT, *ENDING):  # at once, also where there is no terminal to ask
        signal.signal(number, lambda number, frame: server.stop(from_signal=True))
    page = f"lab/tree/{folder.name}/{NOTEBOOK}?token={server.identity_provider.token}"
    # It listens once its loop runs: what is called after that can open the page.
    server.io_loop.add_callback(_announce, f"{server.connection_url}{page}", options)
    server.start()
    return 0


def open_app(options: argparse.Namespace) -> int:
    """Open the workbench alone in a browser, without a notebook around it."""
    voila = optional_import("voila.app", "app", "the workbench without a notebook")

    class App(voila.Voila):
        """Says where it is once it listens, and opens the browser with the token."""

        def launch_browser(self) -> None:
            _announce(f"http://{host}:{self.port}/?token={token}", options)

    # A shell lets what it starts in the background ignore it; here it is how to end the server.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    host, token = "127.0.0.1", secrets.token_hex(24)
    port = options.port or _free_port(host)
    App.launch_instance(
        argv=[
            str(APP),
            f"--Voila.ip={host}",
            f"--Voila.port={port}",
            "--Voila.port_retries=0",
            f"--Voila.token={token}",
            "--Voila.open_browser=True",
            "--Voila.log_level=WARN",
            "--VoilaConfiguration.show_tracebacks=True",
            f"--ZMQChannelsWebsocketConnection.iopub_data_rate_limit={RATE}",
        ]
    )
    return 0


def _announce(address: str, options: argparse.Namespace) -> None:
    print(address, flush=True)
    print_error("cogvx: the workbench is there; Ctrl-C ends it and its kernels")
    if not options.no_browser:
        webbrowser.open(address)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]
