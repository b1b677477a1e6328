"""How much memory there is, where the system tells."""

import os


def available_bytes():
    """Bytes that a process may still take without swapping, or `None` where that is not known."""
    found = [limit for limit in (_of_machine(), _of_container()) if limit is not None]
    return min(found, default=None)


def _of_machine():
    try:
        with open("/proc/meminfo") as lines:
            sizes = dict(line.split(":") for line in lines)
        return 1024 * int(sizes["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_container():
    """What the control group of this process leaves, in version 2 or 1."""
    root = "/sys/fs/cgroup/"
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            with open(root + limit) as most, open(root + used) as now:
                return max(int(most.read()) - int(now.read()), 0)
        except (OSError, ValueError):
            # There is none, or it says "max".
            continue
    return None
