//! `system df`: what takes the disk, counted in blocks, so that the sum is what `du` says.

use super::observe::tree_usage;
use super::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// An image and its share of the store.
#[derive(Debug, Clone)]
pub struct ImageUsage {
    pub view: ImageView,
    /// Bytes of layers that other images hold too.
    pub shared: u64,
    /// Bytes of layers (with their kept blobs) that are its alone.
    pub unique: u64,
}

/// A container and what it keeps on disk.
#[derive(Debug, Clone)]
pub struct ContainerUsage {
    pub view: View,
    /// Bytes of its own files: changes, logs, generated files.
    pub size: u64,
    /// Bytes of its logs among them.
    pub logs: u64,
    /// Volumes it mounts.
    pub volumes: usize,
}

#[derive(Debug, Clone)]
pub struct VolumeUsage {
    pub volume: record::Volume,
    pub size: u64,
    /// Containers that mount it.
    pub links: usize,
}

/// What the data root holds, in bytes on disk.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    pub images: Vec<ImageUsage>,
    pub containers: Vec<ContainerUsage>,
    pub volumes: Vec<VolumeUsage>,
    pub build_cache: Vec<CacheUsage>,
    /// Layers and blobs of all images, each once.
    pub layers: u64,
    /// Those of them that no image of a container needs.
    pub unused_layers: u64,
    /// Unfinished downloads and what killed commands left; `image prune` takes what cannot be resumed.
    pub leftovers: u64,
    /// Bytes of the event journal.
    pub events: u64,
}

/// One row of the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub count: usize,
    /// In use by a container (images, volumes) or running (containers).
    pub active: usize,
    pub size: u64,
    pub reclaimable: u64,
}

impl Usage {
    pub fn image_sum(&self) -> Sum {
        Sum {
            count: self.images.len(),
            active: self.images.iter().filter(|image| image.view.containers > 0).count(),
            size: self.layers + self.leftovers,
            reclaimable: self.unused_layers + self.leftovers,
        }
    }

    pub fn container_sum(&self) -> Sum {
        let running = |c: &&ContainerUsage| matches!(c.view.status, Status::Running | Status::Paused | Status::Restarting);
        Sum {
            count: self.containers.len(),
            active: self.containers.iter().filter(running).count(),
            size: self.containers.iter().map(|c| c.size).sum(),
            reclaimable: self.containers.iter().filter(|c| !running(c)).map(|c| c.size).sum(),
        }
    }

    /// What images share counts with them.
    pub fn build_cache_sum(&self) -> Sum {
        let own = |test: fn(&CacheUsage) -> bool| self.build_cache.iter().filter(|one| !one.shared && test(one)).map(|one| one.size).sum();
        Sum {
            count: self.build_cache.len(),
            active: self.build_cache.iter().filter(|one| one.in_use).count(),
            size: own(|_| true),
            reclaimable: own(|one| !one.in_use),
        }
    }

    pub fn volume_sum(&self) -> Sum {
        Sum {
            count: self.volumes.len(),
            active: self.volumes.iter().filter(|v| v.links > 0).count(),
            size: self.volumes.iter().map(|v| v.size).sum(),
            reclaimable: self.volumes.iter().filter(|v| v.links == 0).map(|v| v.size).sum(),
        }
    }
}

impl Engine {
    /// Measures everything below the data root but the database.
    ///
    /// # Errors
    /// The database cannot be read. A tree that cannot be measured counts nothing.
    pub fn disk_usage(&self) -> Result<Usage> {
        let mut usage = Usage { build_cache: self.build_cache()?, ..Usage::default() };
        self.measure_images(&mut usage)?;
        let roots = &self.privilege.roots;
        for view in self.list(true, &[])? {
            let dir = roots.container(&view.record.id);
            let volumes = view.record.spec.mounts.iter().filter(|m| matches!(m.kind, record::MountKind::Volume { .. })).count();
            usage.containers.push(ContainerUsage { size: tree(&dir), logs: logs(&dir), volumes, view });
        }
        usage.events = children(&roots.data.join("events")).map(|(_, path)| file(&path)).sum();
        for volume in self.volumes(&[])? {
            let links = self.db.volume_users(&volume.name)?.len();
            usage.volumes.push(VolumeUsage { size: tree(&roots.volumes().join(volume.name.as_str())), links, volume });
        }
        Ok(usage)
    }

    fn measure_images(&self, usage: &mut Usage) -> Result<()> {
        let roots = &self.privilege.roots;
        let views = self.every_image()?;
        let mut holders: HashMap<&String, (usize, bool)> = HashMap::new();
        for view in &views {
            for chain in view.image.layers.iter().collect::<HashSet<_>>() {
                let holder = holders.entry(chain).or_default();
                *holder = (holder.0 + 1, holder.1 || view.containers > 0);
            }
        }
        let mut sizes: BTreeMap<String, u64> = BTreeMap::new();
        let (mut known, mut blobs) = (HashSet::new(), HashSet::new());
        let cached: HashSet<&String> = usage.build_cache.iter().filter(|one| !one.shared).filter_map(|one| one.record.chain_id.as_ref()).collect();
        for row in self.db.all_layers()? {
            // It is the build cache's alone.
            if cached.contains(&row.chain_id) {
                known.insert(row.dir);
                continue;
            }
            let mut size = tree(&roots.layers().join(&row.dir));
            // One blob may be that of several layers: it counts with the first.
            if let Some(blob) = row.blob.as_deref().and_then(|blob| blob.split_once(':')).filter(|(_, hex)| blobs.insert((*hex).to_owned())) {
                size += file(&roots.data.join("blobs").join(blob.0).join(blob.1));
            }
            usage.layers += size;
            if holders.get(&row.chain_id).is_none_or(|(_, used)| !used) {
                usage.unused_layers += size;
            }
            known.insert(row.dir);
            sizes.insert(row.chain_id, size);
        }
        usage.leftovers = children(&roots.layers()).filter(|(name, _)| !known.contains(name)).map(|(_, path)| tree(&path)).sum::<u64>()
            + children(&roots.ingest()).map(|(_, path)| file(&path)).sum::<u64>()
            + ["sha256", "sha512"]
                .iter()
                .flat_map(|algorithm| children(&roots.data.join("blobs").join(algorithm)))
                .filter(|(name, _)| !blobs.contains(name))
                .map(|(_, path)| file(&path))
                .sum::<u64>();
        for view in &views {
            let (mut shared, mut unique) = (0, 0);
            for chain in view.image.layers.iter().collect::<HashSet<_>>() {
                let size = sizes.get(chain).copied().unwrap_or(0);
                if holders.get(chain).is_some_and(|(count, _)| *count > 1) { shared += size } else { unique += size }
            }
            usage.images.push(ImageUsage { view: view.clone(), shared, unique });
        }
        Ok(())
    }
}

fn tree(path: &Path) -> u64 {
    tree_usage(path).unwrap_or(0)
}

fn file(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    std::fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512)
}

fn children(path: &Path) -> impl Iterator<Item = (String, std::path::PathBuf)> + use<> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

/// Bytes of a container's log files, rotated ones too.
fn logs(dir: &Path) -> u64 {
    let local = children(&dir.join("local-logs")).map(|(_, path)| file(&path));
    children(dir).filter(|(name, _)| name.contains(".log")).map(|(_, path)| file(&path)).chain(local).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_of_a_container_needs_is_not_reclaimable() {
        let sum = Usage { layers: 100, unused_layers: 30, leftovers: 5, ..Usage::default() }.image_sum();
        assert_eq!(sum, Sum { count: 0, active: 0, size: 105, reclaimable: 35 });
    }
}
