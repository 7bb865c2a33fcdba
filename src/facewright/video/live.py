"""Cameras and network streams: the newest frame, and a connection that is made again when it breaks.

A thread decodes. A frame that comes while another one is waiting takes its place, and the other one is counted as
dropped: what is seen is never older than the search of one frame takes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace

from facewright.errors import DataError
from facewright.video.frames import Frame, Reading

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a new connection; doubled each time that it fails
GONE = 3600.0  # seconds of such pauses in a row after which a source is given up
END_PATIENCE = 2.0  # seconds to wait for the thread

Connect = Callable[[], Iterable[Frame]]


class Live:
    """The frames of a source that does not wait for its reader.

    Args:
        connect: returns the frames of a new connection. reading: the counts; filled. say: takes a line about a broken
            connection. duration: seconds after which the frames end. wait: a pause of so many seconds, True if it was
            ended by `close`; default: a real one. clock: seconds; the times of the frames are those of their arrival.
    """

    def __init__(
        self,
        connect: Connect,
        reading: Reading,
        say: Callable[[str], None],
        *,
        duration: float | None = None,
        wait: Callable[[float], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect, self._reading, self._say, self._clock = connect, reading, say, clock
        self._duration, self._begun = duration, clock()
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait
        self._changed = threading.Condition()
        self._waiting: Frame | None = None
        self._error: Exception | None = None
        self._done = False
        self._thread = threading.Thread(target=self._work, name="facewright-live", daemon=True)

    def frames(self) -> Generator[Frame]:
        """Yield the newest frame, again and again, until this generator is closed or the duration is over, or until the
        source is given up: `reading.broken` then says why.

        Raises:
            DataError: the first connection failed.
        """
        self._begun = self._clock()
        self._thread.start()
        try:
            while True:
                with self._changed:
                    left = None if self._duration is None else self._duration - (self._clock() - self._begun)
                    self._changed.wait_for(lambda: self._waiting is not None or self._done, left)
                    frame, self._waiting = self._waiting, None
                if frame is not None:
                    yield frame
                elif self._error is not None:
                    raise self._error
                else:
                    return
        finally:
            self._closed.set()
            self._thread.join(END_PATIENCE)

    def _work(self) -> None:
        try:
            self._keep_connected()
        except Exception as error:  # raised again where the frames are read
            self._error = error
        with self._changed:
            self._done = True
            self._changed.notify()

    def _keep_connected(self) -> None:
        pause, lost, reason = FIRST_PAUSE, 0.0, ""
        while not self._closed.is_set():
            new = True
            try:
                for frame in self._connect():
                    self._offer(replace(frame, seconds=self._clock() - self._begun, cut=frame.cut or new))
                    pause, lost, new = FIRST_PAUSE, 0.0, False
                    if self._closed.is_set():
                        return
                reason, self._reading.broken = self._reading.broken or "the stream has ended", None
            except DataError as error:
                if self._reading.decoded == 0:
                    raise
                reason = str(error)
            if lost >= GONE:
                self._reading.broken = f"no connection for {lost:,.0f} s: {reason}"
                return
            self._reading.reconnects += 1
            self._say(f"connection lost: {reason}; connecting again in {pause:g} s")
            if self._wait(pause):
                return
            lost += pause
            pause = min(2 * pause, LONGEST_PAUSE)

    def _offer(self, frame: Frame) -> None:
        with self._changed:
            if self._waiting is not None:
                self._reading.dropped += 1
                frame = replace(frame, cut=frame.cut or self._waiting.cut)
            self._waiting = frame
            self._changed.notify()
