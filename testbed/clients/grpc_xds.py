"""gRPC's stock Python client, dialling the mesh by xds:///. Driven by lines of JSON on standard input.

A line {"target": "xds:///gateway", "calls": 100, "metadata": [["x-model", "m"]]} is answered by one with how many calls each
upstream answered, {"by": {"name": 97}}, and how many failed, {"failed": {"UNAVAILABLE": [3, "details of the last"]}}.
Messages are bytes here, since the request is an empty message and the reply says who answered in its header.
"""

import collections
import json
import sys

import grpc

METHOD = "/inference.GRPCInferenceService/ServerReady"
# Far beyond what a busy machine delays, so that only what hangs runs into it.
TIMEOUT_S = 20

channels = {}


def ask(target, calls, metadata):
    if target not in channels:
        channels[target] = grpc.insecure_channel(target)
    call = channels[target].unary_unary(METHOD)
    by, failed = collections.Counter(), {}
    for _ in range(calls):
        try:
            _, reply = call.with_call(b"", timeout=TIMEOUT_S, metadata=metadata)
            by[dict(reply.initial_metadata())["x-upstream"]] += 1
        except grpc.RpcError as error:
            code = error.code().name
            failed[code] = [failed.get(code, [0])[0] + 1, error.details()]
    return {"by": by, "failed": failed}


for line in sys.stdin:
    asked = json.loads(line)
    answer = ask(asked["target"], asked["calls"], [tuple(pair) for pair in asked["metadata"]])
    print(json.dumps(answer), flush=True)
