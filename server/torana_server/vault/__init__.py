"""The vault: credentials, encrypted at rest, read by the resources and by nobody else."""

from torana_server.vault.envelope import Binding, TenantKey, seal, unseal
from torana_server.vault.hardening import Hardening, harden_process
from torana_server.vault.key_sources import (
    KeyFile,
    generated_key_file,
    keyring_from_file,
    keyring_from_text,
)
from torana_server.vault.keyring import Keyring, KeyWrapper, LocalKey, require_operator_key
from torana_server.vault.memory import MemorySecretStore
from torana_server.vault.open_vault import Rotation
from torana_server.vault.ports import (
    Action,
    AuditRecord,
    NewVersion,
    Outcome,
    SecretInfo,
    SecretRow,
    SecretStore,
    TenantKeyRow,
    VersionInfo,
)
from torana_server.vault.redaction import Redactor
from torana_server.vault.secret import REDACTED, Secret
from torana_server.vault.tenant_keys import check_keyring
from torana_server.vault.values import encode_value
from torana_server.vault.vault import SecretManager

__all__ = [
    "REDACTED",
    "Action",
    "AuditRecord",
    "Binding",
    "Hardening",
    "KeyFile",
    "KeyWrapper",
    "Keyring",
    "LocalKey",
    "MemorySecretStore",
    "NewVersion",
    "Outcome",
    "Redactor",
    "Rotation",
    "Secret",
    "SecretInfo",
    "SecretManager",
    "SecretRow",
    "SecretStore",
    "TenantKey",
    "TenantKeyRow",
    "VersionInfo",
    "check_keyring",
    "encode_value",
    "generated_key_file",
    "harden_process",
    "keyring_from_file",
    "keyring_from_text",
    "require_operator_key",
    "seal",
    "unseal",
]
