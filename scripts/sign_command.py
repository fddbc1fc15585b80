#!/usr/bin/env python3
"""Signs a command for a device as another program would: Python's standard library and OpenSSL 3.

Prints the topic and the envelope (DSSE with Ed25519) that belong on the broker, for example:

    scripts/sign_command.py --key operator.pem --fleet press --device jetson-3 promote version=3

docs/mqtt.md explains every step; tests/mqtt/signing.rs gives the result to a device.
"""

import argparse
import base64
import hashlib
import json
import secrets
import subprocess
import tempfile
import time

PAYLOAD_TYPE = "application/vnd.latrod.command+json"


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.PIPE).stdout


def pae(payload_type, body):
    """DSSE's pre-authentication encoding: the bytes that are signed."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def sign(key, payload):
    """The envelope around `payload`, signed with the private key in the PEM file `key`."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(pae(PAYLOAD_TYPE, payload))
        file.flush()
        signature = openssl("pkeyutl", "-sign", "-inkey", key, "-rawin", "-in", file.name)
    public = openssl("pkey", "-in", key, "-pubout", "-outform", "DER")
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": hashlib.sha256(public).hexdigest(), "sig": base64.b64encode(signature).decode()}
        ],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--key", required=True, help="the operator's private key (PEM)")
    parser.add_argument("--fleet", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--id", default=secrets.token_hex(16))
    parser.add_argument("--valid", type=int, default=3600, help="seconds")
    parser.add_argument("command", help="pause, resume, train_now, check, promote, rollback, set, restore_tasks")
    parser.add_argument("arguments", nargs="*", metavar="NAME=VALUE", help="version=…, or key=… value=…")
    args = parser.parse_args()
    now = int(time.time())
    command = {
        "v": 2,
        "fleet": args.fleet,
        "device": args.device,
        "id": args.id,
        "command": args.command,
        "issued": now,
        "expires": now + args.valid,
        **dict(argument.split("=", 1) for argument in args.arguments),
    }
    # Whatever these bytes are, they are what is signed and sent.
    payload = json.dumps(command, indent=1).encode()
    print(f"latro/v2/{args.fleet}/{args.device}/cmd/{args.command}/{args.id}")
    print(json.dumps(sign(args.key, payload)))


if __name__ == "__main__":
    main()
