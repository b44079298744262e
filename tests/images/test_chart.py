"""A Deployment of the chart, run by podman: the image and what the chart asks of it fit together."""

import json
from collections.abc import Iterator

import pytest

from tests.conftest import MINILM
from tests.deploy.chart_tools import CPU_ONLY, rendered
from tests.images.conftest import NETWORK, await_health, image
from tests.images.podman import RIGHTS, Podman

pytestmark = [pytest.mark.images, pytest.mark.timeout(3600)]

VALUES = ("--set", "image.repository=localhost/embedscale", "--set", "embedders.pools[0].replicas=1")
ADDRESS = f'{{{{(index .NetworkSettings.Networks "{NETWORK}").IPAddress}}}}'


@pytest.fixture(scope="module")
def container(podman: Podman) -> Iterator[str]:
    """The embedder of the example that has no GPU."""
    manifests = rendered(CPU_ONLY, *VALUES, "--show-only", "templates/embedder.yaml").text.encode()
    podman("play", "kube", "--network", NETWORK, "-", standard_input=manifests)
    (name,) = podman("ps", "--filter=name=-pod.*-embedder$", "--format={{.Names}}").splitlines()
    yield name
    podman("play", "kube", "--down", "-", standard_input=manifests)


def test_a_deployment_of_the_chart_serves_within_its_rights_and_stops_well(podman: Podman, container: str) -> None:
    await_health(podman, container)
    found = json.loads(podman("exec", container, "python", "-c", RIGHTS))
    assert (found["uid"], found["capabilities"], found["no_new_privileges"]) == (10001, 0, 1)
    assert found["writable"] == ["/tmp", "/var/lib/embedscale"]
    assert podman("inspect", "--format={{.HostConfig.Memory}}", container) == str(3 * 2**30)
    pod = podman("inspect", "--format={{.Pod}}", container)
    network = podman("pod", "inspect", "--format={{.InfraContainerID}}", pod)
    address = podman("inspect", f"--format={ADDRESS}", network)
    where = f"--env=EVALCTL_EMBEDDING_ADDRESS={address}:50051"
    command = ("embed", "--model", MINILM, "-o", "json", "What is a lease?")
    answer = json.loads(podman.once(image("evalctl"), f"--network={NETWORK}", where, command=command))
    assert answer["tokens_used"] == 7
    podman("stop", "--time=40", container)
    assert podman("inspect", "--format={{.State.ExitCode}}", container) == "0"
