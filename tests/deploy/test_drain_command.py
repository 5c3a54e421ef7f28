"""A pod that is to end drains itself: the command that the chart gives it is one, and finds what it needs."""

from __future__ import annotations

from longtake.cli.main import cli
from tests.deploy.commands import understood
from tests.deploy.manifests import pod, pods, render, require_helm


def test_a_pod_that_is_to_end_can_run_its_command() -> None:
    require_helm()
    values = {"auth": {"tenantsSecret": "t"}, "tls": {"secretName": "s"}, "drain": {"tokenSecret": "o"}}
    container = pod(render(values), "frontend").container
    understood(container["lifecycle"]["preStop"]["exec"]["command"])
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    known = {name for option in cli.commands["drain"].params if option.envvar for name in [option.envvar]}
    ours = {name for name in environment if name.startswith("LONGTAKE_")}
    assert ours == {"LONGTAKE_SERVER", "LONGTAKE_CA", "LONGTAKE_TOKEN_FILE"} <= known
    mounted = tuple(f"{mount['mountPath']}/" for mount in container["volumeMounts"])
    assert environment["LONGTAKE_CA"].startswith(mounted) and environment["LONGTAKE_TOKEN_FILE"].startswith(mounted)
    assert len([*pods(render(values))]) == 4
