"""The gRPC server of an http process: its port, and an end that loses no call."""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

import grpc

from service.api.deps import Services
from service.api.draining import DrainPolicy
from service.errors import Misconfigured
from service.grpc_api.calls import Calls, Context, Work
from service.grpc_api.connections import hear_no_more
from service.grpc_api.methods import SERVICE, methods_of, not_here
from service.serving.pipeline import Limits

log = logging.getLogger(__name__)

_CANCEL_SECONDS = 1.0
# In which what was written last arrives.
_ARRIVAL_SECONDS = 0.1
_POLL_SECONDS = 0.02
# In which clients that are told of the end say goodbye.
_GOODBYE_SECONDS = 0.5


class GrpcServer:
    """Serves the Open Inference Protocol on `address`, which others that share the port may serve too.

    `services` have been opened before its start and are closed after its end.
    """

    def __init__(self, address: str, services: Services, limits: Limits, *, log_all: bool = False) -> None:
        self._services = services
        self._address = address
        self._calls = Calls(services.bodies, services.max_body_bytes, limits, log_all=log_all)
        self._server: grpc.aio.Server | None = None
        self.port = 0
        """Where it listens, once it was started."""

    async def start(self) -> None:
        """Begin to serve. Raises Misconfigured."""
        options = [
            ("grpc.max_receive_message_length", self._services.max_body_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 1),
        ]
        server = grpc.aio.server(options=options)
        server.add_generic_rpc_handlers([_Methods(self._calls, methods_of(self._services))])
        try:
            self.port = server.add_insecure_port(self._address)
        except RuntimeError:
            raise Misconfigured(f"can't serve gRPC on {self._address}") from None
        await server.start()
        self._server = server
        log.info("gRPC is served", extra={"address": self._address})

    async def drain(self, policy: DrainPolicy) -> None:
        """Within the policy's seconds: answer what comes, then refuse it, and finish what was accepted."""
        if self._server is None:
            return
        await asyncio.sleep(policy.unready)
        self._calls.refuses = True
        ends = time.monotonic() + policy.finish
        while (under_way := set(self._calls.under_way)) and (left := ends - time.monotonic()) > 0:
            await asyncio.wait(under_way, timeout=left)
        if under_way:
            log.error("calls were not finished in time", extra={"calls": len(under_way)})
            self._calls.cut()
            await asyncio.wait(under_way, timeout=_CANCEL_SECONDS)
        ends = max(ends, time.monotonic() + _CANCEL_SECONDS)
        await asyncio.sleep(_ARRIVAL_SECONDS)
        while hear_no_more(self.port) and time.monotonic() < ends:
            await asyncio.sleep(_POLL_SECONDS)
        await self._server.stop(_GOODBYE_SECONDS)


class _Methods(grpc.GenericRpcHandler):
    """Finds what answers a call. Messages are read by us, because gRPC would wait for a slow one for ever."""

    def __init__(self, calls: Calls, methods: Mapping[str, Work]) -> None:
        self._calls = calls
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        service, _, name = handler_call_details.method.lstrip("/").partition("/")
        if service != SERVICE.full_name:
            return None
        work = self._methods.get(name) or not_here(name)

        async def answer(_: Any, context: Context) -> bytes:
            return await self._calls.answer(name, work, context)

        return grpc.stream_unary_rpc_method_handler(answer)
