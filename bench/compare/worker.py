"""The measured process: does what it is told on standard input, one JSON line a request, one a reply.

It waits in a blocking read between requests, so while another worker is measured this one uses no processor.
"""

import json
import sys
import time
import timeit
import traceback

CLOCKS = {"wall": time.perf_counter, "cpu": time.thread_time}


def main() -> None:
    space: dict = {"__name__": "measured"}
    timers: dict[str, timeit.Timer] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "exec" in request:
                exec(request["exec"], space)
                reply = None
            elif "eval" in request:
                reply = eval(request["eval"], space)
            else:
                key = request["time"]
                if key not in timers:
                    timers[key] = timeit.Timer(key, timer=CLOCKS[request["clock"]], globals=space)
                reply = timers[key].timeit(request["times"])  # seconds; the collector is off meanwhile
            answer = {"ok": reply}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


main()
