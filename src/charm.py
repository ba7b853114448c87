#!/usr/bin/env python3
"""A machine charm that runs tinyproxy as a reverse proxy."""

import dataclasses
import os

import ops

import tinyproxy

PORT = 8000


@dataclasses.dataclass(frozen=True)
class TinyproxyConfig:
    """The charm's options, as charmcraft.yaml defines them."""

    slug: str = "example"

    def __post_init__(self) -> None:
        tinyproxy.check_slug(self.slug)


class TinyproxyCharm(ops.CharmBase):
    """Install, run and remove tinyproxy on the unit's machine."""

    def __init__(self, framework: ops.Framework):
        super().__init__(framework)
        # https://documentation.ubuntu.com/juju/3.6/reference/hook/#hook-execution
        os.environ["http_proxy"] = os.environ.get("JUJU_CHARM_HTTP_PROXY", "")
        os.environ["no_proxy"] = os.environ.get("JUJU_CHARM_NO_PROXY", "")
        framework.observe(self.on.install, self._on_install)
        framework.observe(self.on.start, self._on_start)
        framework.observe(self.on.config_changed, self._on_config_changed)
        framework.observe(self.on.stop, self._on_stop)
        framework.observe(self.on.remove, self._on_remove)
        framework.observe(self.on.update_status, self._on_update_status)
        framework.observe(self.on.website_relation_joined, self._on_website_relation_joined)
        framework.observe(self.on.collect_unit_status, self._on_collect_unit_status)

    def _on_install(self, event: ops.InstallEvent) -> None:
        self._install()

    def _on_start(self, event: ops.StartEvent) -> None:
        self._ensure_serving()

    def _on_config_changed(self, event: ops.ConfigChangedEvent) -> None:
        self._ensure_serving()

    def _on_stop(self, event: ops.StopEvent) -> None:
        if self._open_port():
            tinyproxy.stop()

    def _on_remove(self, event: ops.RemoveEvent) -> None:
        if self._open_port():
            progress = tinyproxy.get_apt_wait() or "Removing tinyproxy"
            self.unit.status = ops.MaintenanceStatus(progress)
            tinyproxy.uninstall()

    def _on_update_status(self, event: ops.UpdateStatusEvent) -> None:
        if not (tinyproxy.is_installed() or tinyproxy.is_configured()):
            self._install()  # Another unit was here, and took tinyproxy away when it left.
        self._ensure_serving()

    def _on_website_relation_joined(self, event: ops.RelationJoinedEvent) -> None:
        self._ensure_serving()

    def _on_collect_unit_status(self, event: ops.CollectStatusEvent) -> None:
        running = tinyproxy.is_running()
        has_port = self._open_port()
        taken = f"Port {PORT} is taken"
        try:
            self.load_config(TinyproxyConfig)
        except ValueError as e:
            event.add_status(ops.BlockedStatus(str(e)))
        if not has_port:
            event.add_status(ops.BlockedStatus(f"{taken} by another unit on this machine"))
        elif not running:
            self.unit.close_port("tcp", PORT)
            if tinyproxy.is_port_taken(PORT):
                event.add_status(ops.BlockedStatus(f"{taken}: stop the program that uses it"))
        try:
            tinyproxy.get_proxy()
        except ValueError as e:
            event.add_status(ops.BlockedStatus(f"Invalid juju-http-proxy: {e}"))
        if not tinyproxy.is_installed():
            event.add_status(ops.MaintenanceStatus("Waiting for tinyproxy to be installed"))
        elif not running:
            event.add_status(ops.MaintenanceStatus("Waiting for tinyproxy to start"))
        elif tinyproxy.is_full():
            event.add_status(ops.ActiveStatus("Full: new clients wait until others leave"))
        event.add_status(ops.ActiveStatus())
        self._publish(has_port and running)

    def _ensure_serving(self) -> None:
        """Make tinyproxy serve the last valid settings, if it's installed and gets the port."""
        if not (tinyproxy.is_installed() and self._open_port()):
            return
        try:
            changed = tinyproxy.ensure_config(PORT, self.load_config(TinyproxyConfig).slug)
        except ValueError:  # _on_collect_unit_status reports it. Former settings stay in force.
            if not tinyproxy.is_configured():
                return
            changed = False
        if not tinyproxy.is_running() or tinyproxy.is_outdated():
            tinyproxy.start()
            self.unit.set_workload_version(tinyproxy.get_version())
        elif changed or not tinyproxy.is_serving():
            tinyproxy.reload_config()

    def _install(self) -> None:
        """Install tinyproxy if this unit has the port, and set the workload version."""
        if self._open_port():
            progress = tinyproxy.get_apt_wait() or "Installing tinyproxy"
            self.unit.status = ops.MaintenanceStatus(progress)
            tinyproxy.install()
            self.unit.set_workload_version(tinyproxy.get_version())

    def _open_port(self) -> bool:
        """Return whether Juju opens the port: a unit that doesn't get it changes nothing."""
        try:
            self.unit.open_port("tcp", PORT)
        except ops.ModelError as e:
            if "port range conflicts" in str(e):
                return False
            raise
        return True

    def _publish(self, serving: bool) -> None:
        """Publish the unit's address and port to load balancers, or withdraw them."""
        for relation in self.model.relations["website"]:
            binding = self.model.get_binding(relation)
            address = binding.network.ingress_address if binding and serving else None
            hostname, port = (str(address), str(PORT)) if address else ("", "")
            relation.data[self.unit].update(hostname=hostname, port=port)


if __name__ == "__main__":  # pragma: no cover
    ops.main(TinyproxyCharm)
