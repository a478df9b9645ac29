"""A plain load generator: threads with kept connections, prepared bytes, latencies."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Load:
    """What a round of requests showed: ``seconds`` in all, each one's ``latencies``, and the statuses that came."""

    seconds: float
    latencies: list[float]
    statuses: dict[int, int]

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """The latency in seconds below which ``share`` (0 to 1) of the requests stayed."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def post(port: int, path: str, token: str, bodies: Sequence[bytes], *, connections: int) -> Load:
    """POST every body once over ``connections`` kept connections, as fast as the answers come."""
    queue = list(bodies)[::-1]
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    latencies: list[float] = []
    statuses: dict[int, int] = {}

    def work() -> None:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while True:
            try:
                body = queue.pop()
            except IndexError:
                break
            started = time.perf_counter()
            client.request("POST", path, body, headers)
            reply = client.getresponse()
            reply.read()
            latencies.append(time.perf_counter() - started)
            statuses[reply.status] = statuses.get(reply.status, 0) + 1
        client.close()

    started = time.perf_counter()
    in_parallel([work] * connections)
    return Load(time.perf_counter() - started, latencies, statuses)


def in_parallel(calls: Sequence[Callable[[], None]]) -> None:
    """Run the calls in threads that begin together; raises the first error of any."""
    barrier = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], None]) -> None:
        barrier.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001  raised below, in the caller's thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
