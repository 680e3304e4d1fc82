//! What is not there, with a hint of what may have been meant.

use super::{Engine, Error};
use crate::base::nearest;
use crate::oci::Reference;
use crate::state::Named;

impl Engine {
    /// There is no `what` of this name. Costs a look at the names of others, which only a mistake pays for.
    pub(super) fn no_such(&self, what: &'static str, name: &str) -> Error {
        Error::NoSuch { what, name: name.to_owned(), hint: self.meant(what, name) }
    }

    fn meant(&self, what: &str, name: &str) -> Option<String> {
        let of = |kind: Named| self.db.names_of(kind).unwrap_or_default();
        let known = match what {
            "container" => {
                if of(Named::Pods).iter().any(|pod| pod == name) {
                    return Some(format!("{name} is a pod: its commands are those of `rcon pod`"));
                }
                if self.is_image(name) {
                    return Some(format!("{name} is an image: `rcon ps -a --filter ancestor={name}` lists its containers"));
                }
                of(Named::Containers)
            }
            "pod" => {
                let containers = of(Named::Containers);
                if containers.iter().any(|container| container == name) {
                    return Some(format!("{name} is a container: its commands are those of `rcon`"));
                }
                of(Named::Pods)
            }
            "volume" => of(Named::Volumes),
            "network" => of(Named::Networks).into_iter().chain(super::NETWORKS.iter().map(|name| (*name).to_owned())).collect(),
            "image" => self.familiar_names(),
            "object" => {
                let kinds = [Named::Containers, Named::Pods, Named::Volumes, Named::Networks];
                kinds.into_iter().flat_map(of).chain(self.familiar_names()).collect()
            }
            _ => return None,
        };
        let beginning = || {
            let mut begun = known.iter().filter(|known| name.chars().count() > 2 && known.starts_with(name));
            begun.next().filter(|_| begun.next().is_none()).map(String::as_str)
        };
        let near = nearest(name, known.iter().map(String::as_str)).or_else(beginning);
        near.map(|near| format!("did you mean \"{near}\"?"))
    }

    fn is_image(&self, name: &str) -> bool {
        let reference = name.parse::<Reference>().map(|reference| reference.to_string());
        reference.is_ok_and(|reference| self.db.image_named(&reference).is_ok_and(|found| found.is_some()))
    }

    /// The images' names as people type them, with and without their tags.
    fn familiar_names(&self) -> Vec<String> {
        let names = self.db.names().unwrap_or_default();
        let parsed = names.iter().filter_map(|(name, _)| name.parse::<Reference>().ok()).filter(|reference| reference.digest().is_none());
        parsed.flat_map(|reference| [reference.familiar_name(), reference.familiar()]).collect()
    }
}
