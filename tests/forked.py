"""What is done in a process of its own, since there is no way back from it."""

import json
import os
import traceback
from collections.abc import Callable
from typing import Any


def in_child(act: Callable[[], Any]) -> Any:
    """Run a function in a forked process; its result, which JSON can carry, comes back."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = {"result": act()}
        except BaseException:
            answer = {"error": traceback.format_exc()}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        octets = file.read()
    os.waitpid(pid, 0)
    assert octets, "the child has ended without an answer"
    answer = json.loads(octets)
    assert "error" not in answer, answer["error"]
    return answer["result"]
