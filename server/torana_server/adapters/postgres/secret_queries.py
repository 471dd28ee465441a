"""Every statement of the vault by name, and the rows that come out. `schema.sql` says what columns mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torana_server.adapters.postgres.texts import escaped, plain
from torana_server.vault import Action, AuditRecord, Outcome, SecretInfo, SecretRow, TenantKeyRow

NEXT_VERSION: Final = """
    INSERT INTO secrets AS s (tenant, name, latest, live, create_time, update_time, expire_time)
    VALUES ($1, $2, 1, true, $3, $3, $4)
    ON CONFLICT (tenant, name) DO UPDATE SET
        latest = s.latest + 1, live = true, update_time = $3, expire_time = $4,
        create_time = CASE WHEN s.live THEN s.create_time ELSE $3 END
    RETURNING name, latest, create_time, update_time, expire_time
"""
ADD_VERSION: Final = """
    INSERT INTO secret_versions (tenant, name, version, create_time, expire_time, envelope)
    VALUES ($1, $2, $3, $4, $5, $6)
"""
ROW: Final = "SELECT tenant, name, version, envelope, expire_time FROM secret_versions WHERE tenant = $1 AND name = $2"
GET_VERSION: Final = f"{ROW} AND version = $3"
GET_LATEST: Final = f"{ROW} ORDER BY version DESC LIMIT 1"
VERSIONS: Final = """
    SELECT version, create_time, expire_time FROM secret_versions
    WHERE tenant = $1 AND name = $2 AND version < $3 ORDER BY version DESC LIMIT $4
"""
INFO: Final = "SELECT name, latest, create_time, update_time, expire_time FROM secrets WHERE live AND tenant = $1"
DESCRIBE: Final = f"{INFO} AND name = $2"
LIST: Final = f"{INFO} AND name > $2 ORDER BY name LIMIT $3"
BURY: Final = "UPDATE secrets SET live = false WHERE tenant = $1 AND name = $2 AND live RETURNING latest"
DELETE_VERSIONS: Final = "DELETE FROM secret_versions WHERE tenant = $1 AND name = $2"
ADVANCE_EPOCH: Final = "UPDATE secret_epoch SET value = value + 1"
EPOCH: Final = "SELECT value FROM secret_epoch"
TENANT_KEY: Final = "SELECT tenant, version, key_id, wrapped FROM tenant_keys WHERE tenant = $1"
TENANT_KEY_VERSION: Final = f"{TENANT_KEY} AND version = $2"
TENANT_KEY_LATEST: Final = f"{TENANT_KEY} ORDER BY version DESC LIMIT 1"
ADD_TENANT_KEY: Final = """
    INSERT INTO tenant_keys (tenant, version, key_id, wrapped) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
TENANT_KEYS_TO_REWRAP: Final = """
    SELECT tenant, version, key_id, wrapped FROM tenant_keys
    WHERE key_id <> $1 AND (tenant, version) > ($2, $3) ORDER BY tenant, version LIMIT $4
"""
REWRAP: Final = """
    UPDATE tenant_keys SET key_id = $5, wrapped = $6
    WHERE tenant = $1 AND version = $2 AND key_id = $3 AND wrapped = $4 RETURNING version
"""
TENANT_KEYS_BY_KEY: Final = "SELECT key_id, count(*) FROM tenant_keys GROUP BY key_id"
CANARY: Final = "SELECT wrapped FROM canaries WHERE key_id = $1"
CANARIES: Final = "SELECT key_id, wrapped FROM canaries"
ADD_CANARY: Final = "INSERT INTO canaries (key_id, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING"
ADD_AUDIT: Final = """
    INSERT INTO secret_audit (at, tenant, subject, action, name, version, purpose, outcome)
    SELECT at, tenant, subject, action, name, version, purpose, outcome
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[])
        WITH ORDINALITY AS a (at, tenant, subject, action, name, version, purpose, outcome, number)
    ORDER BY number
"""
AUDIT: Final = """
    SELECT at, tenant, subject, action, name, version, purpose, outcome, sequence FROM secret_audit
    WHERE tenant = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT $3
"""
TRIM_AUDIT: Final = """
    WITH gone AS (DELETE FROM secret_audit WHERE at < $1 RETURNING 1) SELECT count(*) FROM gone
"""
COUNT: Final = "SELECT count(*) FROM secrets WHERE live"


def info(row: Sequence[Any]) -> SecretInfo:
    """From (name, latest, create_time, update_time, expire_time)."""
    return SecretInfo(plain(row[0]), row[1], row[2], row[3], row[4])


def secret(row: Sequence[Any]) -> SecretRow:
    """From (tenant, name, version, envelope, expire_time)."""
    return SecretRow(plain(row[0]), plain(row[1]), row[2], row[3], row[4])


def tenant_key(row: Sequence[Any]) -> TenantKeyRow:
    """From (tenant, version, key_id, wrapped)."""
    return TenantKeyRow(plain(row[0]), row[1], plain(row[2]), row[3])


def audit_record(row: Sequence[Any]) -> AuditRecord:
    """From the columns of AUDIT."""
    at, tenant, subject, action, name, version, purpose, outcome, sequence = row
    return AuditRecord(
        at, plain(tenant), plain(subject), Action(action), plain(name), version, plain(purpose), Outcome(outcome),
        sequence,
    )  # fmt: skip


def audit_columns(records: Sequence[AuditRecord]) -> list[list[Any]]:
    """For ADD_AUDIT."""
    return [
        [record.at for record in records],
        [escaped(record.tenant) for record in records],
        [escaped(record.subject) for record in records],
        [record.action.value for record in records],
        [escaped(record.name) for record in records],
        [record.version for record in records],
        [escaped(record.purpose) for record in records],
        [record.outcome.value for record in records],
    ]
