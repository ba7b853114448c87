#!/usr/bin/env python3
"""Run tinyproxy as a reverse proxy, as Juju asks for it."""

import dataclasses

import ops

import tinyproxy

PORT = 8000


@dataclasses.dataclass(frozen=True)
class TinyproxyConfig:
    """The options of the charm, as charmcraft.yaml defines them."""

    slug: str = "example"

    def __post_init__(self) -> None:
        tinyproxy.check_slug(self.slug)


class TinyproxyCharm(ops.CharmBase):
    """Run tinyproxy on one machine."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        self._port_problem = ""
        framework.observe(self.on.install, self._on_install)
        framework.observe(self.on.start, self._on_start)
        framework.observe(self.on.config_changed, self._on_config_changed)
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    def _on_install(self, event: ops.InstallEvent) -> None:
        self.unit.status = ops.MaintenanceStatus("Installing tinyproxy")
        tinyproxy.install()
        self.unit.set_workload_version(tinyproxy.get_version())

    def _on_start(self, event: ops.StartEvent) -> None:
        self._ensure_serving()

    def _on_config_changed(self, event: ops.ConfigChangedEvent) -> None:
        self._ensure_serving()

    def _on_stop(self, event: ops.StopEvent) -> None:
        tinyproxy.stop()
        self.unit.close_port("tcp", PORT)

    def _on_remove(self, event: ops.RemoveEvent) -> None:
        tinyproxy.uninstall()

    def _on_update_status(self, event: ops.UpdateStatusEvent) -> None:
        self._ensure_serving()

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        try:
            self.load_config(TinyproxyConfig)
        except ValueError as e:
            event.add_status(ops.BlockedStatus(str(e)))
        if self._port_problem:
            event.add_status(ops.BlockedStatus(self._port_problem))
        if not tinyproxy.is_installed():
            event.add_status(ops.MaintenanceStatus("Waiting for tinyproxy to be installed"))
        elif not tinyproxy.is_running():
            event.add_status(ops.MaintenanceStatus("Waiting for tinyproxy to start"))
        event.add_status(ops.ActiveStatus())

    def _ensure_serving(self) -> None:
        """Make tinyproxy serve the configured slug, if it is installed and the slug is valid."""
        try:
            config = self.load_config(TinyproxyConfig)
        except ValueError:
            return  # The unit status tells the operator.
        if not tinyproxy.is_installed():
            return
        changed = tinyproxy.ensure_config(PORT, config.slug)
        try:
            if not tinyproxy.is_running():
                tinyproxy.start()
            elif changed or not tinyproxy.is_serving():
                tinyproxy.reload_config()
        except tinyproxy.PortTakenError as e:
            self._port_problem = str(e)
        else:
            self.unit.open_port("tcp", PORT)


if __name__ == "__main__":  # pragma: no cover
    ops.main(TinyproxyCharm)
