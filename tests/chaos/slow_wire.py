"""A TCP proxy between the platform and one Kafka broker, whose wire can be slow or cut.

  slow_wire.py LISTEN_PORT TARGET_PORT CONTROL_FILE

CONTROL_FILE (read ten times a second) has one word: "ok", "cut" (connections are closed and refused), "stall"
(they stay, nothing passes), or a number: so many milliseconds of delay in each direction.
"""
import asyncio, os, sys, time

port, target, control = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
state, writers = "ok", set()


def delay():
    return int(state) / 1000 if state.isdigit() else 0


async def carry(reader, writer):
    """In order, each piece not before its time."""
    queue = asyncio.Queue(64)
    behind = 0  # pieces not yet written: while there are any, none may overtake

    async def deliver():
        nonlocal behind
        while True:
            at, piece = await queue.get()
            if at > time.monotonic():
                await asyncio.sleep(at - time.monotonic())
            while state == "stall":
                await asyncio.sleep(0.05)
            writer.write(piece)
            await writer.drain()
            behind -= 1
    delivery = asyncio.create_task(deliver())
    try:
        while piece := await reader.read(65536):
            if state == "ok" and not behind:
                writer.write(piece)
                await writer.drain()
            else:
                behind += 1
                await queue.put((time.monotonic() + delay(), piece))
    finally:
        while behind and not writer.is_closing() and not delivery.done():
            await asyncio.sleep(0.05)
        delivery.cancel()
        writer.close()


async def quietly(work):
    try:
        await work
    except (OSError, asyncio.CancelledError):
        pass


async def client(reader, writer):
    if state == "cut":
        writer.transport.abort()
        return
    try:
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target)
    except OSError:
        writer.transport.abort()
        return
    pair = {writer, to_writer}
    writers.update(pair)
    await asyncio.gather(quietly(carry(reader, to_writer)), quietly(carry(to_reader, writer)))
    writers.difference_update(pair)


async def main():
    global state
    server = await asyncio.start_server(client, "127.0.0.1", port)
    async with server:
        while True:
            await asyncio.sleep(0.1)
            if os.path.exists(control):
                with open(control) as f:
                    state = f.read().strip() or "ok"
            if state == "cut":
                for writer in list(writers):
                    writer.transport.abort()

asyncio.run(main())
