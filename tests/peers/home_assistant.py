"""Asks for a snapshot and for a moving picture as Home Assistant's "MJPEG IP Camera" does, with its library:
home_assistant.py URL USER PASSWORD. Prints the status of each, and the bytes of the snapshot."""

import asyncio
import sys

import aiohttp


async def main(url, user, password):
    # homeassistant/components/mjpeg/camera.py: a login is always Basic there unless it is told otherwise, and what the
    # library makes of it is ISO 8859-1.
    auth = aiohttp.BasicAuth(user, password)
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        async with session.get(f"{url}/snapshot", auth=auth) as answer:
            picture = await answer.read()
            print(answer.status, len(picture) if picture.startswith(b"\xff\xd8") else "no picture")
        async with session.get(f"{url}/stream", auth=auth) as stream:
            print(stream.status)
            if stream.status != 200:
                return
            reader = aiohttp.MultipartReader.from_response(stream)
            for _ in range(5):
                part = await reader.next()
                picture = await part.read()
                assert picture[:2] == b"\xff\xd8" and picture[-2:] == b"\xff\xd9", "no JPEG"


asyncio.run(main(*sys.argv[1:]))
