//! `system check`: the store verified, and mended where that loses nothing that a pull cannot bring back.

use super::*;
use crate::image::check::{Damage, Finding};

/// What was found, in words.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    pub images: usize,
    pub layers: usize,
    /// Layers (ids) that carry no record of their tar, so that only their presence was checked.
    pub unverified: Vec<String>,
    pub problems: Vec<Trouble>,
    /// Chains of other firewalls that drop what is forwarded and not accepted by a rule of theirs.
    pub blockers: Vec<String>,
}

/// One problem.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// `layer sha256:… of busybox:latest`.
    pub object: String,
    pub problem: String,
    /// What was done about it; None: it stands.
    pub mended: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
}

impl Engine {
    /// Verifies every image, layer and blob. `quick`: only that they are there. `repair`: leftovers and damaged blobs
    /// are removed; images with a damaged layer are removed if no container needs them, else the layer is forgotten,
    /// so that a pull brings it back. Nothing that a running container uses is touched.
    ///
    /// # Errors
    /// The database or a directory cannot be read, or a repair failed.
    pub fn check(&self, quick: bool, repair: bool) -> Result<Checked> {
        let roots = &self.privilege.roots;
        let report = crate::image::check::check(roots, &self.db, quick)?;
        let mut checked = Checked { images: report.images, layers: report.layers, unverified: report.unverified, ..Checked::default() };
        for finding in report.findings {
            checked.problems.push(if repair { self.repair(finding)? } else { self.describe(&finding)? });
        }
        self.check_records(&mut checked)?;
        self.check_networks(repair, &mut checked)?;
        self.check_cni(quick, repair, &mut checked)?;
        if repair {
            crate::image::collect_garbage(roots, &self.db, false)?;
            self.sweep_containers()?;
            self.sweep_pods()?;
        }
        Ok(checked)
    }

    /// The database itself, and what its records say there is.
    fn check_records(&self, checked: &mut Checked) -> Result<()> {
        let roots = &self.privilege.roots;
        let mut stands = |object: String, problem: String, hint: String| {
            checked.problems.push(Trouble { object, problem, mended: None, hint: Some(hint) });
        };
        for problem in self.db.faults()? {
            stands("database".to_owned(), problem, format!("keep a copy of {}, and pull and create anew what is lost", roots.database().display()));
        }
        for view in self.list(true, &[])? {
            let name = &view.record.name;
            if !roots.container(&view.record.id).is_dir() {
                stands(format!("container {name}"), "its directory is missing, and its files with it".to_owned(), format!("rcon rm -f {name}"));
            }
        }
        for view in self.list_pods(&[])? {
            let name = &view.pod.name;
            if view.pod.phase == crate::state::pod::PodPhase::Started && !roots.pod(&view.pod.id).join("hosts").exists() {
                stands(format!("pod {name}"), "its generated files in /etc are missing".to_owned(), format!("rcon pod restart {name}"));
            }
        }
        for volume in self.volumes(&[])? {
            let place = self.volume_mountpoint(&volume.name);
            if !place.is_dir() {
                let hint = format!("restore {} from a backup, or rcon volume rm {}", place.display(), volume.name);
                stands(format!("volume {}", volume.name), "its directory is missing, and its data with it".to_owned(), hint);
            }
        }
        Ok(())
    }

    /// Images that hold this layer.
    fn holders(&self, chain: &str) -> Result<Vec<ImageView>> {
        Ok(self.images(&[])?.into_iter().filter(|view| view.image.layers.iter().any(|layer| layer == chain)).collect())
    }

    fn describe(&self, finding: &Finding) -> Result<Trouble> {
        let object = match &finding.what {
            Damage::Layer(chain) | Damage::Blob { chain, .. } => {
                let holders = self.holders(chain)?;
                let names: Vec<String> = holders.iter().map(shown).collect();
                format!("layer {chain} of {}", if names.is_empty() { "no image".to_owned() } else { names.join(", ") })
            }
            Damage::Image(id) => format!("image {}", self.image(id).map_or_else(|_| id.clone(), |view| shown(&view))),
            Damage::Leftover => "store".to_owned(),
        };
        let hint = Some("mend it with --repair".to_owned());
        Ok(Trouble { object, problem: finding.problem.clone(), mended: None, hint })
    }

    fn repair(&self, finding: Finding) -> Result<Trouble> {
        let mut trouble = self.describe(&finding)?;
        trouble.hint = None;
        let roots = &self.privilege.roots;
        match finding.what {
            Damage::Leftover => {
                crate::image::collect_garbage(roots, &self.db, false)?;
                trouble.mended = Some("removed".to_owned());
            }
            Damage::Blob { digest, .. } => {
                crate::image::check::forget_blob(roots, &self.db, &digest)?;
                trouble.mended = Some("the blob was removed; the layer itself is used as before".to_owned());
            }
            Damage::Image(id) => match self.db.image(&id)? {
                None => trouble.mended = Some("the image was removed with a damaged layer".to_owned()),
                Some(_) => {
                    let view = self.image(&id)?;
                    let name = shown(&view);
                    if self.delete_if_unused(&view)?.is_some() {
                        trouble.mended = Some(format!("{name} was removed"));
                        trouble.hint = Some(way_back(&[&view]));
                    } else {
                        trouble.hint = Some(format!("containers use {name}: {}", way_back(&[&view])));
                    }
                }
            },
            Damage::Layer(chain) => self.repair_layer(&chain, &mut trouble)?,
        }
        Ok(trouble)
    }

    /// Removes every image with this layer that no container needs, and forgets the layer if nothing that runs has it.
    fn repair_layer(&self, chain: &str, trouble: &mut Trouble) -> Result<()> {
        let (mut removed, mut kept) = (Vec::new(), Vec::new());
        for view in self.holders(chain)? {
            let gone = self.delete_if_unused(&view)?.is_some();
            if gone { removed.push(view) } else { kept.push(view) }
        }
        let names = |views: &[ImageView]| views.iter().map(shown).collect::<Vec<_>>().join(", ");
        let mut done = Vec::new();
        if !removed.is_empty() {
            done.push(format!("{} {} removed", names(&removed), if removed.len() == 1 { "was" } else { "were" }));
        }
        if kept.iter().any(|view| self.runs(&view.image.id).unwrap_or(true)) {
            let back = if removed.is_empty() { String::new() } else { format!("{}; ", way_back(&removed.iter().collect::<Vec<_>>())) };
            let done = if done.is_empty() { String::new() } else { format!("{}; ", done.join("; ")) };
            trouble.hint = Some(format!("{done}{back}a running container uses {}: stop the container and check again", names(&kept)));
            return Ok(());
        }
        crate::image::check::forget_layer(&self.privilege.roots, &self.db, chain)?;
        match kept.len() {
            0 if removed.is_empty() => done.push("the layer was removed".to_owned()),
            0 => {}
            1 => done.push(format!("the layer was removed; {} cannot be used until it is pulled again", names(&kept))),
            _ => done.push(format!("the layer was removed; {} cannot be used until they are pulled again", names(&kept))),
        }
        trouble.mended = Some(done.join("; "));
        let all: Vec<&ImageView> = removed.iter().chain(&kept).collect();
        trouble.hint = (!all.is_empty()).then(|| way_back(&all));
        Ok(())
    }

    /// A start that failed because a layer of the image is lost says so, and what to do, rather than which mount failed.
    pub(super) fn blame_image(&self, image: &str, error: Error) -> Error {
        let lost = self.db.image(image).ok().flatten().and_then(|image| crate::image::check::lost_layer(&self.privilege.roots, &self.db, &image));
        lost.map_or(error, Error::Image)
    }

    fn runs(&self, image: &str) -> Result<bool> {
        let running = |view: &View| matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
        Ok(self.list(true, &[])?.iter().any(|view| view.record.spec.image_id == image && running(view)))
    }
}

/// How to get these images back: `rcon pull NAME` for each.
fn way_back(views: &[&ImageView]) -> String {
    let command = |view: &&ImageView| match view.tags.first().or(view.digests.first()) {
        Some(name) => format!("rcon pull {}", name.familiar()),
        None => format!("pull or load the image {} again", view.image.id),
    };
    views.iter().map(command).collect::<Vec<_>>().join("; ")
}

/// A name of the image, else its id.
fn shown(view: &ImageView) -> String {
    view.tags.first().or(view.digests.first()).map_or_else(|| view.image.id.clone(), Reference::familiar)
}
