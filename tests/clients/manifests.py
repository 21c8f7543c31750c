"""Checks a compose file and a Kubernetes file against their specifications, and prints both as one JSON text.

Must never change them, or accept anything that is not in a specification.
"""

import json
import sys

import compose_spec
import kubernetes_validate
import yaml

KUBERNETES = "1.37"


def main(compose_file, kubernetes_file):
    with open(compose_file, encoding="utf-8") as file:
        compose = yaml.safe_load(file)
    compose_spec.PyCompose.from_json(json.dumps(compose)).validate()
    with open(kubernetes_file, encoding="utf-8") as file:
        kubernetes = list(yaml.safe_load_all(file))
    for resource in kubernetes:
        kubernetes_validate.validate(resource, KUBERNETES, strict=True)
    print(json.dumps({"compose": compose, "kubernetes": kubernetes}))


main(*sys.argv[1:])
