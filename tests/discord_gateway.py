"""The gateway of Discord's emulator: sessions over web sockets, resumed or begun anew, in any compression."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import zstandard
from aiohttp import WSMsgType, web
from discord_world import APP_ID, BOT_ID, CONTENT_FLAG, CONTENT_INTENT, TOKEN, Json, World

Pack = Callable[[bytes], bytes]


@dataclass(slots=True)
class Session:
    """A session of the gateway: what was sent in it, and the socket it goes to now."""

    id: str
    intents: int
    shard: list[int] | None
    socket: web.WebSocketResponse | None = None
    pack: Pack | None = None
    sent: list[Json] = field(default_factory=list)


class Gateway:
    """What stands behind the URL that `/gateway/bot` names; `url` is that URL, once the server listens."""

    def __init__(self, world: World, shards: int, heartbeat_s: float) -> None:
        self.url = ""
        self.sessions: dict[str, Session] = {}
        self.counted: Counter[str] = Counter()  # what was sent to it, by name
        self.closes: list[int | None] = []  # codes with which connections ended
        self.identified: list[Json] = []
        self.open = True
        self.asked: list[str | None] = []  # the compressions
        self.packing: str | None = None  # instead of the one that is asked for
        self._world = world
        self._shards = shards
        self._heartbeat_s = heartbeat_s

    def is_connected(self) -> bool:
        """Whether the bot has a session on every shard."""
        return sum(session.socket is not None for session in self.sessions.values()) == self._shards

    async def dispatch(self, kind: str, data: Any, *, times: int = 1) -> None:
        """An event to all sessions it concerns, kept for those that are away."""
        for session in list(self.sessions.values()):
            if session.shard is not None and not self._concerns(session.shard, data):
                continue
            shown = data
            if kind in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
                shown = seen_with(session.intents, data)
            for _ in range(times):
                await self._event(session, kind, shown)

    async def drop(self, *, forget: bool = False) -> None:
        """Break all connections of the gateway; `forget`: no session can be resumed."""
        for session in self.sessions.values():
            if session.socket is not None and session.socket._req is not None:
                transport = session.socket._req.transport
                if transport is not None:
                    transport.abort()
            session.socket = None
        if forget:
            self.sessions.clear()

    async def send_op(self, op: int, data: Any = None) -> None:
        """Tell every connection an opcode: 7 to reconnect, 9 that its session is invalid."""
        for session in list(self.sessions.values()):
            if session.socket is not None:
                await self._write(session, {"op": op, "d": data})
                if op in (7, 9):
                    session.socket = None
        if op == 9 and data is False:
            self.sessions.clear()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection until it ends."""
        if not self.open:
            return web.Response(status=503)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        self.asked.append(request.query.get("compress"))
        pack = _packer(self.packing or self.asked[-1])
        current: Session | None = None
        await _send(socket, pack, {"op": 10, "d": {"heartbeat_interval": int(self._heartbeat_s * 1000)}})
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                break
            got = json.loads(frame.data)
            self.counted[{1: "HEARTBEAT", 2: "IDENTIFY", 6: "RESUME"}.get(got["op"], "other")] += 1
            if got["op"] == 1:
                await _send(socket, pack, {"op": 11})
            elif got["op"] in (2, 6):
                refused = self._refusal(got["d"])
                if refused:
                    await socket.close(code=refused)
                    break
                current = await (self._identify if got["op"] == 2 else self._resume)(socket, pack, got["d"])
        if current is not None and current.socket is socket:
            current.socket = None
        self.closes.append(socket.close_code)
        return socket

    def _refusal(self, data: Json) -> int | None:
        if data["token"] != TOKEN:
            return 4004
        if data.get("intents", 0) & CONTENT_INTENT and not self._world.flags & CONTENT_FLAG:
            return 4014
        return None

    async def _identify(self, socket: web.WebSocketResponse, pack: Pack | None, data: Json) -> Session:
        self.identified.append(data)
        session = Session(f"session{self.counted['IDENTIFY']}", data["intents"], data.get("shard"), socket, pack)
        self.sessions = {k: s for k, s in self.sessions.items() if s.shard != session.shard}
        self.sessions[session.id] = session
        here = self._concerns(session.shard, self._world.guild())
        guild = [{"id": self._world.guild_id, "unavailable": True}] if here else []
        ready = {
            "v": 10,
            "user": self._world.bot,
            "guilds": guild,
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "application": {"id": APP_ID, "flags": self._world.flags},
            **({"shard": session.shard} if session.shard else {}),
        }
        await self._event(session, "READY", ready)
        if guild:
            await self._event(session, "GUILD_CREATE", self._world.guild())
        return session

    async def _resume(self, socket: web.WebSocketResponse, pack: Pack | None, data: Json) -> Session | None:
        session = self.sessions.get(data["session_id"])
        if session is None:
            await _send(socket, pack, {"op": 9, "d": False})
            return None
        session.socket, session.pack = socket, pack
        for event in [event for event in session.sent if event["s"] > (data["seq"] or 0)]:
            await self._write(session, event)
        await self._event(session, "RESUMED", {})
        return session

    async def _event(self, session: Session, kind: str, data: Any) -> None:
        event = {"op": 0, "t": kind, "s": len(session.sent) + 1, "d": data}
        session.sent.append(event)
        await self._write(session, event)

    async def _write(self, session: Session, payload: Json) -> None:
        if session.socket is not None and not session.socket.closed:
            try:
                await _send(session.socket, session.pack, payload)
            except ConnectionError:
                session.socket = None

    def _concerns(self, shard: list[int] | None, data: Json) -> bool:
        if shard is None:
            return True
        guild = data.get("guild_id") or (data["id"] if "roles" in data else None)
        return shard[0] == (int(guild) >> 22) % shard[1] if guild else shard[0] == 0


def seen_with(intents: int, message: Json) -> Json:
    """A message as a bot sees it: without the privileged intent, only its own, those to it, and direct ones."""
    to_bot = any(user.get("id") == BOT_ID for user in message.get("mentions", []))
    if intents & CONTENT_INTENT or "guild_id" not in message or to_bot or message.get("author", {}).get("id") == BOT_ID:
        return message
    return {**message, "content": "", "attachments": [], "embeds": [], "components": []}


def _packer(kind: str | None) -> Pack | None:
    """What packs the frames of one connection, in the compression that it has asked for."""
    if kind == "zlib-stream":
        squeeze = zlib.compressobj()
        return lambda data: squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    if kind == "zstd-stream":
        stream = zstandard.ZstdCompressor().compressobj()
        return lambda data: stream.compress(data) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    return None


async def _send(socket: web.WebSocketResponse, pack: Pack | None, payload: Json) -> None:
    text = json.dumps(payload)
    if pack is None:
        await socket.send_str(text)
    else:
        await socket.send_bytes(pack(text.encode()))
