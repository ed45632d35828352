"""The emulator's answers as Snowflake gives them: nulls that stay null, and large answers in chunks to be fetched.

Snowflake puts the first rows of a large answer into the response and the others behind addresses, from which the
connector takes them one after the other; fakesnow puts all into one response, which no client could stream.
"""

import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from fakesnow import arrow, server
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

CHUNK_ROWS = 131_072

_waiting: dict[str, pa.Table] = {}
_of_this_answer: ContextVar[list[dict[str, Any]]] = ContextVar("_of_this_answer")


def cure_answers(address: str) -> None:
    """Makes both so; `address` is where the server can be reached."""
    arrow.timestamp_to_sf_struct = _keeping_nulls(arrow.timestamp_to_sf_struct)
    server.to_ipc = _first_chunk(server.to_ipc, address)
    server.JSONResponse = AnswerWithChunks
    server.app.router.routes.append(Route("/chunks/{id}", _chunk, methods=["GET"]))


def _keeping_nulls(to_struct: Callable[..., pa.StructArray]) -> Callable[..., pa.StructArray]:
    """fakesnow makes a structure of every timestamp, and forgets which were null: they came back as 1970-01-01."""

    def made(column: pa.ChunkedArray) -> pa.StructArray:
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        struct = to_struct(column)
        parts = [pc.fill_null(part, 0) for part in struct.flatten()]
        return pa.StructArray.from_arrays(parts, fields=list(struct.type), mask=pc.is_null(column))

    return made


def _first_chunk(to_ipc: Callable[[pa.Table], pa.Buffer], address: str) -> Callable[[pa.Table], pa.Buffer]:
    def made(table: pa.Table) -> pa.Buffer:
        chunks = []
        for start in range(CHUNK_ROWS, table.num_rows, CHUNK_ROWS):
            number, part = uuid.uuid4().hex, table.slice(start, CHUNK_ROWS)
            _waiting[number] = part
            size = part.nbytes
            chunks.append(
                {
                    "url": f"{address}/chunks/{number}",
                    "rowCount": part.num_rows,
                    "uncompressedSize": size,
                    "compressedSize": size,
                }
            )
        _of_this_answer.set(chunks)
        return to_ipc(table.slice(0, CHUNK_ROWS))

    return made


class AnswerWithChunks(JSONResponse):
    """A response that names the chunks which the answer just made has left to fetch."""

    def render(self, content: Any) -> bytes:
        if chunks := _of_this_answer.get([]):
            content["data"] |= {"chunks": chunks, "chunkHeaders": {}}
            _of_this_answer.set([])
        return super().render(content)


def _chunk(request: Request) -> Response:
    table = _waiting.pop(request.path_params["id"])
    return Response(arrow.to_ipc(table).to_pybytes(), media_type="application/octet-stream")
