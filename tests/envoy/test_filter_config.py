"""Configurations of the filter: how Envoy handles one that is refused, and updates."""

from __future__ import annotations

import http.client
import json

import pytest
from conftest import fetch, statuses, wait_until
from envoy_process import EnvoyFailed, EnvoyProcess

PATH = {"path": {}}
LOCAL = {"limits": ["2/h"]}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"key": PATH, "local": LOCAL, "burst": 1},
            (
                "burst: unknown field; known here: key, descriptors, missing_key, local, service, "
                "cost, status, stat_prefix, headers, header_form, body, content_type, grpc_status, "
                "enabled, enforced and allowed_headers"
            ),
        ),
        (
            {"key": PATH, "local": {"limits": ["10/s", "10/fortnight"]}},
            'local.limits[1]: found "10/fortnight": at byte 3: unknown unit of time',
        ),
        (
            {"key": PATH, "local": {"limits": ["0/s"]}},
            'local.limits[0]: found "0/s": tokens must be at least 1',
        ),
        (
            {"key": PATH, "local": {"limits": []}},
            "local.limits: found an empty list, wanted a list of 1 to 4 limits",
        ),
        (
            {"key": PATH},
            "configuration: neither local nor service is given; at least one of them must be",
        ),
        ({"local": LOCAL}, 'key: missing; wanted {"header": "x-api-key"}'),
        (
            {"key": {"cookie": "a"}, "local": LOCAL},
            "key.cookie: unknown field; known here: header, client_address and path",
        ),
        (
            {"key": PATH, "local": LOCAL, "status": "429"},
            'status: found "429", wanted a whole number from 400 to 599',
        ),
        (
            {"key": PATH, "local": LOCAL, "status": 200},
            "status: found 200, wanted a whole number from 400 to 599",
        ),
        (
            {"key": PATH, "local": {**LOCAL, "max_keys": 1_000_000}},
            "local.max_keys: found 1000000, wanted a whole number from 16 to 65536",
        ),
        (
            {"key": PATH, "service": {"cluster": "c", "timeout": "20"}},
            'service.timeout: found "20", wanted a whole number of ms or s from "1ms" to "60s"',
        ),
        (
            {"key": PATH, "service": {"domain": "d"}},
            "service.cluster: missing; wanted a string of 1 to 255 bytes",
        ),
        ("{", "configuration: not JSON at byte 1: expected the name of a field"),
        ("", "configuration: not JSON at byte 0: expected a value"),
        ("x" * 70_000, "it is larger than 64 KiB"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) and len(value) < 999 else "",
)
def test_envoy_does_not_start_with_a_bad_configuration(config, message):
    envoy = EnvoyProcess(config)
    with pytest.raises(EnvoyFailed) as failed, envoy:
        pass
    assert f"tidegate: configuration refused: {message}" in str(failed.value)


def test_a_configuration_can_be_the_text_of_a_json_object(start):
    envoy = start(json.dumps({"key": PATH, "local": LOCAL}, indent=2))
    assert statuses(envoy, 3) == [200, 200, 429]


def test_a_bad_update_is_rejected_and_the_old_configuration_stays_in_force(start):
    envoy = start({"key": PATH, "local": LOCAL}, reconfigurable=True)
    assert statuses(envoy, 3) == [200, 200, 429]
    envoy.configure({"key": PATH, "local": {"limits": ["0/s"]}})
    rejected = "listener_manager.lds.update_rejected"
    wait_until(lambda: envoy.stats(rejected)[rejected] == 1, "the update is rejected")
    assert 'local.limits[0]: found "0/s": tokens must be at least 1' in envoy.log()
    assert statuses(envoy, 1) == [429]


def test_a_good_update_is_applied_and_the_same_limits_keep_their_buckets(start):
    envoy = start({"key": PATH, "local": LOCAL}, reconfigurable=True)
    assert statuses(envoy, 3) == [200, 200, 429]
    envoy.configure({"key": PATH, "local": LOCAL, "status": 430})
    wait_until(lambda: statuses(envoy, 1) == [430], "the new status, from the old bucket")
    envoy.configure({"key": PATH, "local": {"limits": ["3/h"]}})
    wait_until(lambda: statuses(envoy, 1) == [200], "the new limit")
    assert statuses(envoy, 3) == [200, 200, 429]


def test_updates_faster_than_old_listeners_drain(start):
    """Each old configuration stays in the VM until its listener has drained."""
    envoy = start({"key": PATH, "local": LOCAL}, reconfigurable=True)
    statuses(envoy, 2)
    for status in range(430, 470):
        envoy.configure({"key": PATH, "local": LOCAL, "status": status})
        wait_until(lambda status=status: statuses(envoy, 1) == [status], "the update")
    assert envoy.stats("lds.update_rejected") == {"listener_manager.lds.update_rejected": 0}


def test_as_a_network_filter_it_closes_connections_and_says_where_it_belongs(start):
    envoy = start({"key": PATH, "local": LOCAL}, network_filter=True)
    for _ in range(2):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            fetch(envoy)
    wait_until(lambda: "configured as a network filter" in envoy.log(), "the log names the mistake")
    assert "put it into http_filters" in envoy.log()
    assert "unreachable" not in envoy.log()
