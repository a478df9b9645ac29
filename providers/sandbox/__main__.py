"""``python -m providers.sandbox``: see the package's docstring."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from providers.sandbox.app import App, Settings
from providers.sandbox.faults import UnknownFault, checked_rates
from providers.sandbox.record import Taken
from providers.sandbox.web import Server


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns the exit code: 0 stopped, 2 cannot start."""
    parser = argparse.ArgumentParser(prog="python -m providers.sandbox", description="A stand-in for the providers.")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=0, help="the port to listen on; 0 takes a free one (0)")
    parser.add_argument("--data", type=Path, required=True, help="the folder of the record and the media")
    parser.add_argument("--seed", type=int, default=1, help="steers the draw by the rates (1)")
    parser.add_argument("--speed", type=float, help="how long work takes, times 1 s a picture and 3 s a video (1)")
    parser.add_argument("--never", type=float, help="after how many seconds 'never_finishes' ends all the same (600)")
    parser.add_argument("--rates", default="{}", help='faults by probability, as in {"accept_then_drop": 0.05}')
    parser.add_argument("--light", action="store_true", help="draw few motifs only, for drills")
    options = parser.parse_args()
    try:
        rates = checked_rates(json.loads(options.rates))
    except (UnknownFault, ValueError, AttributeError) as error:
        parser.error(f"--rates: {error}")
    settings = Settings(options.data, options.seed, options.speed, options.never, rates, options.light)
    sys.setswitchinterval(0.001)  # the thread that writes the record must not wait 5 ms for its turn
    try:
        return asyncio.run(_serve(settings, options.host, options.port))
    except Taken as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"The sandbox cannot listen on {options.host}:{options.port}: {error.strerror}.", file=sys.stderr)
    return 2


async def _serve(settings: Settings, host: str, port: int) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    app = App(settings)
    server = Server(app.handle)
    try:
        bound = await server.start(host, port)
        gc.freeze()
        print(f"sandbox listening on http://{host}:{bound}", flush=True)
        await stop.wait()
        await server.stop()
    finally:
        await app.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
