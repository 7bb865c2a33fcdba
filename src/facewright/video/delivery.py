"""Events to a webhook or an MQTT broker, from a thread of their own: whoever watches never waits for a network."""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from facewright.errors import UsageError, require_extra
from facewright.video.frames import shown

WAITING = 1000  # events; further ones are lost
PAUSES = (1.0, 2.0, 4.0)  # seconds before the second and each further attempt
TIMEOUT = 10.0  # seconds of one attempt
END_PATIENCE = 30.0  # seconds to deliver what waits at the end
MQTT_PORT, MQTTS_PORT = 1883, 8883

Send = Callable[[bytes], None]
"""Send a message once; raises OSError where that failed."""


class Delivery:
    """Sends messages in their order; tries again, then gives a message up and counts it.

    Args:
        say: takes a line about the first message that was given up since one was delivered.
        wait: a pause of so many seconds; default: a real one, which ends when this is closed.
    """

    def __init__(
        self, target: str, send: Send, say: Callable[[str], None], *, wait: Callable[[float], object] | None = None
    ) -> None:
        self.target, self.lost = target, 0
        self._send, self._say = send, say
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait
        self._queue: queue.Queue[bytes | None] = queue.Queue(WAITING + 1)
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="facewright-delivery", daemon=True)
        self._thread.start()

    def put(self, message: bytes) -> None:
        """Take a message; it returns at once."""
        if self._queue.qsize() >= WAITING:
            self._lose("too many events are waiting")
        else:
            self._queue.put_nowait(message)

    def close(self, patience: float = END_PATIENCE) -> None:
        """Deliver what is waiting, without pauses, for at most so many seconds."""
        self._closed.set()
        self._queue.put_nowait(None)
        self._thread.join(patience)
        if self._thread.is_alive():
            self.lost += self._queue.qsize()

    def _work(self) -> None:
        while (message := self._queue.get()) is not None:
            for pause in (*PAUSES, None):
                try:
                    self._send(message)
                    self._failing = False
                    break
                except OSError as error:
                    if pause is None:
                        self._lose(f"{error.strerror or error}")
                    else:
                        self._wait(pause)

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if not self._failing:
            self._say(f"warning: {self.target}: an event could not be delivered: {reason}")
        self._failing = True


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def webhook(url: str) -> Send:
    """Return what posts a message as application/json. Raises UsageError: no http or https address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise UsageError(f"expected --webhook http(s)://host/path, without a user, got {shown(url)}")
    opener = urllib.request.build_opener(_NoRedirects)

    def send(message: bytes) -> None:
        request = urllib.request.Request(url, data=message, headers={"Content-Type": "application/json"})
        try:
            with opener.open(request, timeout=TIMEOUT):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise OSError(f"the server answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise OSError(str(getattr(error.reason, "strerror", None) or error.reason)) from None

    return send


def mqtt(url: str) -> Send:
    """Return what publishes a message to mqtt(s)://user:password@host:port/topic at least once (QoS 1).

    Raises:
        UsageError: no such address, a topic with wildcards, or paho-mqtt is not installed.
    """
    require_extra("mqtt", "--mqtt")
    parts = urlsplit(url)
    topic = unquote(parts.path.removeprefix("/"))
    try:
        port = parts.port or (MQTTS_PORT if parts.scheme == "mqtts" else MQTT_PORT)
    except ValueError:
        port = 0
    wrong = not topic or set(topic) & set("+#") or set(url) & set("#?") or not port
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or wrong:
        raise UsageError(f"expected --mqtt mqtt(s)://user:password@host:port/topic, got {shown(url)}")
    from paho.mqtt import MQTTException, publish

    user = None if parts.username is None else unquote(parts.username)
    auth = None if user is None else {"username": user, "password": unquote(parts.password or "")}
    tls: dict[str, str] | None = {} if parts.scheme == "mqtts" else None  # the system's certificates, checked

    def send(message: bytes) -> None:
        try:
            publish.single(topic, message, qos=1, hostname=parts.hostname, port=port, auth=auth, tls=tls)  # type: ignore[arg-type]
        except MQTTException as error:
            raise OSError(f"the broker answers: {error}") from None

    return send
