"""Every setting of a server, and where its value comes from."""

from torana_server.settings.loading import LoadedSettings, load_settings, secret_settings
from torana_server.settings.model import Settings, current_settings, settings_in_force
from torana_server.settings.sources import CONFIG_VARIABLE, DEFAULT, SERVER_VARIABLE, Origin, environment, variable

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT",
    "SERVER_VARIABLE",
    "LoadedSettings",
    "Origin",
    "Settings",
    "current_settings",
    "environment",
    "load_settings",
    "secret_settings",
    "settings_in_force",
    "variable",
]
