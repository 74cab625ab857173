"""An upstream with scripted answers.

A test scripts the answers of a model by its name; calls of that model get the answers in turn, and
the last one repeatedly. So tests with different names never share state. Under /v1 the server has no
/v1/responses, and does not count calls of it; under /native/v1 it has. Webhooks are sent to
/hooks/NAME; they are answered in the same way, and kept in their original bytes (`raw`).

    PUT  /script/NAME             replaces the answers by a list; each has these fields, all optional:
                                    status, headers, json (the body), text (the body, unchanged),
                                    base64 (the body, as any bytes),
                                    events (of a stream: data, or {"event": ..., "data": ...},
                                      or {"base64": ...}: bytes that are sent unchanged),
                                    hold (wait for a release before it answers), cut (break off),
                                    after (wait for this number of seconds before it answers)
                                  "hold" in the list of events waits there
    POST /release/NAME            ends one hold
    GET  /calls/NAME?wait=N       the calls so far, once there are N
    GET  /left/NAME?wait=N        the number of callers that left in a hold or wait, once it is N

Holds and waits end after PATIENCE; only a failing test waits for so long.
"""

import asyncio
import base64
import json
import re
import sys
from collections import defaultdict
from urllib.parse import parse_qs, unquote, urlsplit

PATIENCE = 30.0
MAX_HEAD = 1 << 16


class Name:
    """The script and the calls of one name."""

    def __init__(self, answers=()):
        self.answers = answers
        self.calls = []
        self.left = 0
        self.releases = asyncio.Semaphore(0)
        self.changed = asyncio.Condition()

    async def note_left(self):
        async with self.changed:
            self.left += 1
            self.changed.notify_all()

    async def until(self, holds):
        async with self.changed:
            await asyncio.wait_for(self.changed.wait_for(holds), PATIENCE)

    async def take(self, call):
        """Records a call; returns its answer."""
        async with self.changed:
            self.calls.append(call)
            place = min(len(self.calls), len(self.answers)) - 1
            self.changed.notify_all()
        return self.answers[place] if self.answers else {"status": 400, "text": "no script"}


names = defaultdict(Name)


class Left(Exception):
    """The caller has closed its connection."""


class Call:
    """One call until its answer."""

    def __init__(self, name, reader, writer):
        self.name, self.reader, self.writer = name, reader, writer

    async def hold(self):
        released = asyncio.ensure_future(self.name.releases.acquire())
        gone = asyncio.ensure_future(self.reader.read(1))
        done, waiting = await asyncio.wait(
            {released, gone}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED
        )
        for one in waiting:
            one.cancel()
        if released not in done:
            raise Left

    async def pause(self, seconds):
        try:
            await asyncio.wait_for(self.reader.read(1), seconds)
        except TimeoutError:
            return
        raise Left

    async def send(self, text):
        data = text if isinstance(text, bytes) else text.encode()
        self.writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await self.writer.drain()

    async def answer(self, said):
        if said.get("hold"):
            await self.hold()
        if said.get("after"):
            await self.pause(said["after"])
        events = said.get("events")
        kind = "application/json" if events is None else "text/event-stream"
        headers = {"content-type": kind} | said.get("headers", {})
        lines = [f"{name}: {value}" for name, value in headers.items()]
        lines += ["transfer-encoding: chunked", "connection: close"]
        head = "\r\n".join([f"HTTP/1.1 {said.get('status', 200)} Said", *lines, "", ""])
        self.writer.write(head.encode())
        if events is None:
            await self.send(whole(said))
        for event in events or []:
            if event == "hold":
                await self.hold()
            else:
                await self.send(block(event))
        if said.get("cut"):
            self.writer.transport.abort()
        else:
            self.writer.write(b"0\r\n\r\n")


def whole(said):
    if "base64" in said:
        return base64.b64decode(said["base64"])
    return said["text"] if "text" in said else json.dumps(said.get("json", {}))


def model_of(body):
    """Returns the model that a body names, in JSON or a form."""
    if body.startswith(b"{"):
        return json.loads(body).get("model", "")
    named = re.search(rb'name="model"\r\n(?:.+\r\n)*\r\n(.*)\r\n', body)
    return named.group(1).decode() if named else ""


def block(event):
    if isinstance(event, str):
        return f"data: {event}\n\n"
    if "base64" in event:
        return base64.b64decode(event["base64"])
    if "event" not in event:
        return f"data: {json.dumps(event)}\n\n"
    return f"event: {event['event']}\ndata: {json.dumps(event['data'])}\n\n"


async def control(method, path, wait, body):
    kind, name = path.strip("/").split("/", 1)
    name = names[unquote(name)]
    if (method, kind) == ("PUT", "script"):
        name.__init__(json.loads(body))
    elif (method, kind) == ("POST", "release"):
        name.releases.release()
    elif (method, kind) == ("GET", "calls"):
        await name.until(lambda: len(name.calls) >= wait)
        return name.calls
    elif (method, kind) == ("GET", "left"):
        await name.until(lambda: name.left >= wait)
        return name.left
    return None


async def request(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    pairs = (line.split(":", 1) for line in head[1:] if line)
    headers = {name.lower(): value.strip() for name, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return method, target, headers, body


async def serve(reader, writer):
    try:
        method, target, headers, body = await request(reader)
        url = urlsplit(target)
        path = url.path.removeprefix("/native")
        if path.startswith(("/v1/", "/hooks/")):
            if path.startswith("/hooks/"):
                name = names[unquote(path.removeprefix("/hooks/"))]
                call = {"headers": headers, "raw": body.decode()}
            else:
                name = names[model_of(body)]
                call = {"path": path, "headers": headers, "bytes": len(body)}
                call["body"] = json.loads(body) if body.startswith(b"{") else body.decode("latin-1")
            if url.path == "/v1/responses":
                said = {"status": 404, "json": {"detail": "Not Found"}}
            else:
                said = await name.take(call)
            try:
                await Call(name, reader, writer).answer(said)
            except Left:
                await name.note_left()
        else:
            wait = int(parse_qs(url.query).get("wait", ["0"])[0])
            text = json.dumps(await control(method, url.path, wait, body)).encode()
            head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\nconnection: close\r\n\r\n"
            writer.write(head.encode() + text)
        await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        pass  # The caller has gone, or waited in vain: the closed connection tells it.
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=MAX_HEAD)
    print(f"serving http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
