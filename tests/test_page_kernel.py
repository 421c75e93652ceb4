"""The workbench's page in a kernel of its own: which of its threads answers."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

pytestmark = pytest.mark.slow

SHOW = "from cogvx_nb.workbench import app; print(app.show_workbench().model_id)"


@pytest.fixture
def client() -> Iterator[BlockingKernelClient]:
    manager, client = start_new_kernel()
    yield client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def control(client: BlockingKernelClient, kind: str, **content: object) -> dict:
    message = client.session.msg(f"{kind}_subshell_request", content)
    client.control_channel.send(message)
    while True:
        reply = client.get_control_msg(timeout=60)
        if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
            assert reply["content"]["status"] == "ok"
            return reply["content"]


def show_page(client: BlockingKernelClient) -> str:
    """Show the workbench; the id of its comm."""
    said = []
    client.execute_interactive(SHOW, timeout=300, output_hook=said.append)
    printed = [message["content"] for message in said if message["msg_type"] == "stream"]
    return "".join(part["text"] for part in printed if part["name"] == "stdout").strip()


def answered_in(client: BlockingKernelClient, comm: str, ask: int, subshell: str | None) -> str:
    """Send a question to a subshell, as a tab does; the one that has answered."""
    question = {"ask": ask, "client": "tab", "action": "page.pulse", "arguments": {}}
    content = {"comm_id": comm, "data": {"method": "custom", "content": question}}
    message = client.session.msg("comm_msg", content)
    message["header"]["subshell_id"] = subshell
    client.shell_channel.send(message)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        heard = client.get_iopub_msg(timeout=300)
        data = heard["content"].get("data", {})
        if heard["msg_type"] == "comm_msg" and data.get("content", {}).get("reply") == ask:
            return heard["parent_header"].get("subshell_id")
    raise AssertionError("no answer")


def test_a_question_is_answered_where_it_was_sent(client):
    comm = show_page(client)
    first, second = (control(client, "create")["subshell_id"] for _ in range(2))
    assert answered_in(client, comm, 1, first) == first
    assert answered_in(client, comm, 2, second) == second, "as of a second tab"
    assert answered_in(client, comm, 3, first) == first
    control(client, "delete", subshell_id=first)  # as of a tab that is reloaded
    assert answered_in(client, comm, 4, second) == second
    assert answered_in(client, comm, 5, None) is None
