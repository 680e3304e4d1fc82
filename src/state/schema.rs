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
    r"
-- Images that containers mount (`--mount type=image`).
CREATE TABLE container_images (
    container TEXT NOT NULL,
    image TEXT NOT NULL,
    PRIMARY KEY (container, image)
) WITHOUT ROWID;
CREATE INDEX container_images_by_image ON container_images (image);
",
    r"
CREATE TABLE pods (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    phase TEXT NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX pods_by_phase ON pods (phase);

CREATE TABLE pod_members (
    container TEXT PRIMARY KEY NOT NULL,
    pod TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX pod_members_by_pod ON pod_members (pod);
CREATE TRIGGER pod_members_go AFTER DELETE ON containers
BEGIN DELETE FROM pod_members WHERE container = OLD.id; END;
",
    r"
-- Named bytes for containers (`--secret`).
CREATE TABLE secrets (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL UNIQUE,
    document TEXT NOT NULL,
    data BLOB NOT NULL
);
",
    r"
-- Host ids lent to containers with a user namespace of their own.
CREATE TABLE id_ranges (
    owner TEXT PRIMARY KEY NOT NULL,
    first INTEGER NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
",
    r"
-- Layers whose files may not be on disk yet, with the boot of the kernel under which they were unpacked.
CREATE TABLE unsynced_layers (
    chain_id TEXT PRIMARY KEY NOT NULL,
    dir TEXT NOT NULL,
    boot TEXT NOT NULL
) WITHOUT ROWID;
CREATE TRIGGER unsynced_layers_go AFTER DELETE ON layers
BEGIN DELETE FROM unsynced_layers WHERE chain_id = OLD.chain_id; END;
",
    r"
-- Who is on which network, with which addresses (IPv6: 16 bytes, so that the order is the numbers'). Published ports of the owner
-- lead to the endpoint that is the target.
CREATE TABLE endpoints (
    network TEXT NOT NULL,
    owner TEXT NOT NULL,
    ipv4 INTEGER,
    ipv6 BLOB,
    target INTEGER NOT NULL,
    PRIMARY KEY (network, owner)
) WITHOUT ROWID;
CREATE UNIQUE INDEX endpoints_by_ipv4 ON endpoints (network, ipv4);
CREATE UNIQUE INDEX endpoints_by_ipv6 ON endpoints (network, ipv6);
CREATE INDEX endpoints_by_owner ON endpoints (owner);
INSERT INTO endpoints (network, owner, ipv4, target) SELECT network, owner, address, 1 FROM addresses;
UPDATE containers SET document=json_set(json_remove(document, '$.address'), '$.endpoints', json_array(json_object(
    'network', 'bridge', 'network_id', (SELECT json_extract(n.document, '$.id') FROM networks n WHERE n.name='bridge'), 'id', id,
    'interface', 'eth0', 'ipv4', json_extract(document, '$.address'), 'ipv6', NULL, 'gateway', json('true'), 'mac',
    json((SELECT json_array(2, 66, (a.address >> 24) & 255, (a.address >> 16) & 255, (a.address >> 8) & 255, a.address & 255) FROM addresses a WHERE a.owner=containers.id)))))
WHERE json_extract(document, '$.address') IS NOT NULL AND id IN (SELECT owner FROM addresses);
UPDATE pods SET document=json_set(json_remove(document, '$.address'), '$.endpoints', json_array(json_object(
    'network', 'bridge', 'network_id', (SELECT json_extract(n.document, '$.id') FROM networks n WHERE n.name='bridge'), 'id', id,
    'interface', 'eth0', 'ipv4', json_extract(document, '$.address'), 'ipv6', NULL, 'gateway', json('true'), 'mac',
    json((SELECT json_array(2, 66, (a.address >> 24) & 255, (a.address >> 16) & 255, (a.address >> 8) & 255, a.address & 255) FROM addresses a WHERE a.owner=pods.id)))))
WHERE json_extract(document, '$.address') IS NOT NULL AND id IN (SELECT owner FROM addresses);
DROP TABLE addresses;
",
    r"
-- What steps of builds resulted in.
CREATE TABLE build_cache (
    key TEXT PRIMARY KEY NOT NULL,
    chain_id TEXT,
    kind TEXT NOT NULL,
    description TEXT NOT NULL,
    created INTEGER NOT NULL,
    used INTEGER NOT NULL,
    uses INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX build_cache_by_layer ON build_cache (chain_id);
CREATE TRIGGER build_cache_goes AFTER DELETE ON layers
BEGIN DELETE FROM build_cache WHERE chain_id = OLD.chain_id; END;
",
    r"
-- Names that stand for images of several platforms, or for an image with what attests to it.
CREATE TABLE indexes (
    name TEXT PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX indexes_by_id ON indexes (id);
CREATE TABLE index_members (
    name TEXT NOT NULL,
    image_id TEXT NOT NULL,
    PRIMARY KEY (name, image_id)
) WITHOUT ROWID;
CREATE INDEX index_members_by_image ON index_members (image_id);
CREATE TRIGGER indexes_go AFTER DELETE ON names
BEGIN DELETE FROM indexes WHERE name = OLD.reference; END;
-- A name that is written anew means something else.
CREATE TRIGGER indexes_are_replaced AFTER INSERT ON names
BEGIN DELETE FROM indexes WHERE name = NEW.reference; END;
CREATE TRIGGER index_members_go AFTER DELETE ON indexes
BEGIN DELETE FROM index_members WHERE name = OLD.name; END;
",
    r"
-- What the directories and downloads of builds take, so that nobody has to walk them.
ALTER TABLE build_cache ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
",
    r"
-- The layer that a step starts from, so that what others start from is forgotten after them. NULL: none, or not noted.
ALTER TABLE build_cache ADD COLUMN below TEXT;
",
];

/// The schema this build reads and writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;
    use rusqlite::Connection;

    /// The endpoint of a started container or pod, from the address that it had before there were endpoints.
    #[test]
    fn addresses_become_endpoints() {
        let db = Connection::open_in_memory().unwrap();
        let before = MIGRATIONS.iter().position(|sql| sql.contains("CREATE TABLE endpoints")).unwrap();
        for sql in &MIGRATIONS[..before] {
            db.execute_batch(sql).unwrap();
        }
        let address = u32::from(std::net::Ipv4Addr::new(172, 18, 0, 9));
        db.execute_batch(&format!(
            r#"INSERT INTO networks VALUES ('bridge', '{{"name":"bridge","id":"n1"}}');
            INSERT INTO containers VALUES ('c1', 'web', '', 0, 'started', '{{"id":"c1","address":"172.18.0.9"}}');
            INSERT INTO containers VALUES ('c2', 'old', '', 0, 'exited', '{{"id":"c2","address":null}}');
            INSERT INTO addresses VALUES ('bridge', {address}, 'c1');"#
        ))
        .unwrap();
        db.execute_batch(MIGRATIONS[before]).unwrap();
        let document = |id: &str| -> serde_json::Value {
            let text: String = db.query_row("SELECT document FROM containers WHERE id=?1", [id], |row| row.get(0)).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let web = document("c1");
        let endpoint: crate::state::record::Endpoint = serde_json::from_value(web["endpoints"][0].clone()).unwrap();
        assert_eq!((endpoint.network_id.as_str(), endpoint.mac, endpoint.gateway), ("n1", [2, 0x42, 172, 18, 0, 9], true));
        assert_eq!(endpoint.ipv4.map(u32::from), Some(address));
        assert!(web.get("address").is_none());
        assert!(document("c2").get("endpoints").is_none());
        let row: (String, u32, i64) =
            db.query_row("SELECT owner, ipv4, target FROM endpoints", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        assert_eq!(row, ("c1".to_owned(), address, 1));
    }
}
