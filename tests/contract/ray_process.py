"""Ray Serve with `models.ray_app`, in the environment of Ray: started by tests and by `benchmarks.inference`, never imported.

    python ray_process.py PORT FOLDER     each line on standard input is a `RaySettings`, deployed; the end of it is the end

Writes `deployed` after each, and last `ended`.
"""

import sys

import ray
from ray import serve

from models.ray_app import RaySettings, build


def main() -> None:
    """Own a Ray of this machine alone."""
    port, folder = int(sys.argv[1]), sys.argv[2]
    ray.init(
        address="local",
        num_cpus=8,  # what replicas ask for, not what the machine has: tests put more models on it than it has cores
        include_dashboard=False,
        object_store_memory=80_000_000,
        _temp_dir=folder,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        for line in sys.stdin:
            serve.run(build(RaySettings.model_validate_json(line)), name="candor")
            sys.stdout.write("deployed\n")
            sys.stdout.flush()
    finally:
        serve.shutdown()
        ray.shutdown()
    sys.stdout.write("ended\n")


if __name__ == "__main__":
    main()
