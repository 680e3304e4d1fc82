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
        if repair {
            crate::image::collect_garbage(roots, &self.db, false)?;
            self.sweep_containers()?;
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
            Damage::Image(id) => self.give_up(&id, &mut trouble)?,
            Damage::Layer(chain) => {
                let holders = self.holders(&chain)?;
                for view in &holders {
                    self.give_up(&view.image.id, &mut trouble)?;
                }
                let kept = self.holders(&chain)?;
                if kept.iter().any(|view| self.runs(&view.image.id).unwrap_or(true)) {
                    trouble.hint = Some("a running container uses it: stop the container and check again".to_owned());
                } else if !kept.is_empty() {
                    crate::image::check::forget_layer(roots, &self.db, &chain)?;
                    trouble.mended = Some("the layer was removed; the image cannot be used until it is pulled again".to_owned());
                    let name = kept.iter().flat_map(|view| &view.tags).next();
                    trouble.hint = Some(format!("rcon pull {}", name.map_or_else(|| "IMAGE".to_owned(), Reference::familiar)));
                }
            }
        }
        Ok(trouble)
    }

    /// Removes an image that no container needs.
    fn give_up(&self, id: &str, trouble: &mut Trouble) -> Result<()> {
        let view = self.image(id)?;
        let name = shown(&view);
        if self.delete_if_unused(&view)?.is_some() {
            trouble.mended = Some(format!("{name} was removed"));
            trouble.hint = Some(format!("rcon pull {name}"));
        } else {
            trouble.hint = Some(format!("containers use {name}: pull it again"));
        }
        Ok(())
    }

    fn runs(&self, image: &str) -> Result<bool> {
        let running = |view: &View| matches!(view.status, Status::Running | Status::Paused | Status::Restarting);
        Ok(self.list(true, &[])?.iter().any(|view| view.record.spec.image_id == image && running(view)))
    }
}

/// A name of the image, else its id.
fn shown(view: &ImageView) -> String {
    view.tags.first().or(view.digests.first()).map_or_else(|| view.image.id.clone(), Reference::familiar)
}
