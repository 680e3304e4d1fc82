//! The tables, as a list of migrations. `user_version` counts how many were applied.

/// Applied in order, each in the same transaction as its `user_version`. Never edit a released one.
pub(super) const MIGRATIONS: &[&str] = &[
    r"
CREATE TABLE containers (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    image_id TEXT NOT NULL,
    created INTEGER NOT NULL,
    phase TEXT NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_by_image ON containers (image_id);

CREATE TABLE container_volumes (
    container TEXT NOT NULL,
    volume TEXT NOT NULL,
    PRIMARY KEY (container, volume)
) WITHOUT ROWID;
CREATE INDEX container_volumes_by_volume ON container_volumes (volume);

CREATE TABLE addresses (
    network TEXT NOT NULL,
    address INTEGER NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (network, address),
    UNIQUE (owner, network)
) WITHOUT ROWID;

-- host_ip is empty for 'all addresses'.
CREATE TABLE ports (
    protocol TEXT NOT NULL,
    host_port INTEGER NOT NULL,
    host_ip TEXT NOT NULL,
    container_port INTEGER NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (protocol, host_port, host_ip)
) WITHOUT ROWID;
CREATE INDEX ports_by_owner ON ports (owner);

CREATE TABLE images (
    id TEXT PRIMARY KEY NOT NULL,
    config BLOB NOT NULL,
    manifest_digest TEXT,
    manifest BLOB,
    manifest_type TEXT,
    size INTEGER NOT NULL,
    created INTEGER NOT NULL,
    pulled INTEGER NOT NULL
);

CREATE TABLE image_layers (
    image_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    chain_id TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_chain ON image_layers (chain_id);

CREATE TABLE names (
    reference TEXT PRIMARY KEY NOT NULL,
    image_id TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX names_by_image ON names (image_id);

CREATE TABLE layers (
    chain_id TEXT PRIMARY KEY NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE volumes (
    name TEXT PRIMARY KEY NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE networks (
    name TEXT PRIMARY KEY NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
",
    r"
-- `ps` looks at what runs, however many containers there are.
CREATE INDEX containers_by_phase ON containers (phase);
",
    r"
-- Which repository holds which compressed form of a layer; the newest rowid is the latest sighting.
CREATE TABLE blob_sources (
    diff_id TEXT NOT NULL,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL,
    media_type TEXT NOT NULL,
    UNIQUE (diff_id, registry, repository, digest)
);

-- Indexes being made by `manifest create`, by full reference.
CREATE TABLE manifest_lists (
    name TEXT PRIMARY KEY NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
",
    r"
-- Signatures that were verified: the digest that was signed, and the digest of the public key.
CREATE TABLE verified_images (
    image_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    identity TEXT NOT NULL,
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (image_id, repository, identity, key)
) WITHOUT ROWID;
CREATE TRIGGER verified_images_go AFTER DELETE ON images
BEGIN DELETE FROM verified_images WHERE image_id = OLD.id; END;
",
];

/// The schema this build reads and writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;
