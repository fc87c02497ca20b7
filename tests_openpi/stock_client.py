"""What a script of somebody's own does with openpi's client, told in JSON: run in its own venv.

    python stock_client.py URL [KEY]     observations as JSON lines on stdin, one answer each

An array is {"zeros": shape, "dtype": name} or {"array": values, "dtype": name}.
"""

from __future__ import annotations

import json
import sys
import warnings

# Of websockets 17: the client connects without `with`.
warnings.simplefilter("ignore", DeprecationWarning)

import numpy as np  # noqa: E402
from openpi_client import msgpack_numpy  # noqa: E402
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # noqa: E402


def revived(told):
    """The observation that a JSON line tells of."""
    if not isinstance(told, dict):
        return told
    if "zeros" in told:
        return np.zeros(told["zeros"], told["dtype"])
    if "array" in told:
        return np.array(told["array"], told["dtype"])[()]
    return {key: revived(value) for key, value in told.items()}


def answer(policy, observation):
    """The server's, or what openpi's client makes of its refusal."""
    try:
        result = policy.infer(observation)
    except RuntimeError as error:
        return {"error": str(error)}
    actions = result["actions"]
    return {
        "actions": actions.tobytes().hex(),
        "shape": actions.shape,
        "dtype": str(actions.dtype),
        "policy_timing": result["policy_timing"],
        "server_timing": result["server_timing"],
    }


def main(url, key=None):
    policy = WebsocketClientPolicy(url, None, key)
    print(json.dumps(policy.get_server_metadata()), flush=True)
    for line in sys.stdin:
        observation = revived(json.loads(line))
        packed = msgpack_numpy.packb(observation)
        print(json.dumps(answer(policy, observation) | {"packed": packed.hex()}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
