"""What the server sets up for its connections."""

from starlette.types import Receive, Scope, Send

from service.api.connection import Connection, Draining
from service.api.middleware import ContextMiddleware, RequestContext
from service.api.server import DrainPolicy, HttpServer
from service.processes import request_id
from tests.service.api.support import Wire, turn


async def test_a_request_that_is_sent_behind_another_begins_without_its_id() -> None:
    begun: list[str | None] = []
    answered: list[str | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answered.append(request_id.get())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    context = ContextMiddleware(app, RequestContext(log_all=False))

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(request_id.get())
        await context(scope, receive, send)

    server = HttpServer(outermost, Draining(), DrainPolicy(unready=0.0, finish=0.0))
    server.config.load()
    connection = Connection(config=server.config, server_state=server.server_state, app_state={})
    connection.connection_made(Wire())
    head = "GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: {}\r\n\r\n"
    connection.data_received("".join(map(head.format, ("one", "two", "three"))).encode())
    for _ in range(3):
        await turn()
    assert answered == ["one", "two", "three"]
    assert begun == [None] * 3
