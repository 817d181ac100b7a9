"""Whether a one-machine Hadoop is well, by its own account: what the daemons say in their JMX."""

import http.client
import json
import urllib.request
from typing import Any

from configuration import Ports

FILE_SYSTEM = "Hadoop:service=NameNode,name=FSNamesystemState"
NODES = "Hadoop:service=ResourceManager,name=RMNMInfo"  # unlike ClusterMetrics not 10 s old
LOOPBACK = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever http_proxy says


def complaints(ports: Ports) -> dict[str, str]:
    """What each daemon lacks, by its name; empty when all is well."""
    files, yarn = bean(ports["namenode_http"], FILE_SYSTEM), bean(ports["resourcemanager_http"], NODES)
    running = [node for node in json.loads(yarn.get("LiveNodeManagers", "[]")) if node["State"] == "RUNNING"]
    found = {
        "namenode": lacks("state", files.get("FSState"), "Operational"),
        "datanode": lacks("live DataNodes", files.get("NumLiveDataNodes"), 1),
        "resourcemanager": "" if yarn else "no answer",
        "nodemanager": lacks("running NodeManagers", len(running), 1),
    }
    return {name: complaint for name, complaint in found.items() if complaint}


def lacks(what: str, value: object, expected: object) -> str:
    """A complaint, or nothing if the value is as expected."""
    return "" if value == expected else f"{what}: {value}, expected {expected}"


def bean(port: int, name: str) -> dict[str, Any]:
    """One JMX bean of the daemon on this port; empty while it does not answer."""
    try:
        with LOOPBACK.open(f"http://127.0.0.1:{port}/jmx?qry={name}", timeout=5) as answer:
            beans = json.load(answer)["beans"]
            return dict(beans[0]) if beans else {}
    except (OSError, ValueError, http.client.HTTPException):
        return {}
