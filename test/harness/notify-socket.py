# The end of NOTIFY_SOCKET that the service manager has: prints each message as JSON on a line, with when it came (CLOCK_MONOTONIC,
# microseconds) and from which process. What a message carries besides is closed, which is what a barrier waits for.
import json
import os
import socket
import sys
import time

path = sys.argv[1]
listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
listener.bind(path)
os.chmod(path, 0o777)
print(json.dumps({"words": ["BOUND=1"], "usec": 0, "pid": os.getpid()}), flush=True)
while True:
    data, ancillary, _flags, _address = listener.recvmsg(65536, 1024)
    pid = 0
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
            pid = int.from_bytes(content[:4], "little")
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            for start in range(0, len(content) - 3, 4):
                os.close(int.from_bytes(content[start : start + 4], "little"))
    words = data.decode().rstrip("\n").split("\n")
    print(json.dumps({"words": words, "usec": time.monotonic_ns() // 1000, "pid": pid}), flush=True)
