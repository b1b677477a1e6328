"""What the system says of its memory."""

import io
import os

import pytest

from tfcomp.model import memory


def system(monkeypatch, files):
    def opened(path):
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(memory, "open", opened, raising=False)


GROUP = "/sys/fs/cgroup/"


def test_the_least_of_machine_and_container(monkeypatch):
    machine = {"/proc/meminfo": "MemTotal: 9 kB\nMemAvailable:   7 kB\n"}
    for container, expected in (
        ({}, 7168),
        ({GROUP + "memory.max": "max\n", GROUP + "memory.current": "5\n"}, 7168),
        ({GROUP + "memory.max": "5000\n", GROUP + "memory.current": "1000\n"}, 4000),
        ({GROUP + "memory.max": "5000\n", GROUP + "memory.current": "6000\n"}, 0),
        (
            {
                GROUP + "memory/memory.limit_in_bytes": "90\n",
                GROUP + "memory/memory.usage_in_bytes": "50\n",
            },
            40,
        ),
    ):
        system(monkeypatch, machine | container)
        assert memory.available_bytes() == expected


def test_where_the_system_tells_nothing(monkeypatch):
    system(monkeypatch, {})
    monkeypatch.delattr(os, "sysconf", raising=False)
    assert memory.available_bytes() is None


def test_this_machine():
    found = memory.available_bytes()
    if found is None:
        pytest.skip("The system does not tell.")
    assert 1 << 20 < found < 1 << 50
